/* ckpt-pack-pt: a stream -> files as torch.save writes them: a whole model into one, a sharded one into a
 * file a rank. */
#include "copy.h"
#include "memory.h"
#include "output.h"
#include "progress.h"
#include "state_dict.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool sharded_only;

static const struct option_spec options[] = {
    {.name = "sharded", .kind = OPTION_FLAG, .value = &sharded_only, .help = "refuse a whole model"},
    {0},
};

static const struct program program = {
    .summary = "Write a stream as torch.save does: one file, or one a rank in DIR/model/",
    .synopsis = "[OPTION]... FILE|DIR <STREAM",
    .tables = (const struct option_spec *const[]){options, output_options, progress_options, NULL},
    .examples = "  ckpt-unpack model/ | ckpt-pack-pt pytorch_model.bin\n"
                "  ckpt-unpack hf/ | ckpt-shard --tp-size 8 | ckpt-fuse-qkv | ckpt-pack-pt out/\n",
};

struct packer {
    struct copy_plan *plan;
    struct rank_set ranks;   /* of a sharded stream */
    struct state_dict whole; /* of one that is not */
};

static void take(struct packer *p, const struct record *record, bool sharded)
{
    char key[32];
    struct state_dict *dict = sharded ? rank_set_find(&p->ranks, record) : &p->whole;
    size_t i = state_dict_add(dict, record);
    snprintf(key, sizeof key, "data/%zu", i);
    copy_archive_add(p->plan, &dict->archive, key, record->tensor);
}

/* The file for a whole model: the operand, or checkpoint.pt in it when it is a directory. */
static char *whole_target(const char *target)
{
    struct stat st;
    bool directory = has_suffix(target, "/") || (stat(target, &st) == 0 && S_ISDIR(st.st_mode));
    return directory ? xasprintf("%s/checkpoint.pt", target) : xstrdup(target);
}

/* The top folder of an archive is its file's name without the ending. */
static char *top_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *top = xstrdup(slash ? slash + 1 : path), *dot = strrchr(top, '.');
    if (dot && dot != top)
        *dot = '\0';
    return top;
}

static void begin_sharded(struct packer *p, const struct stream_info *info, const char *target)
{
    rank_set_begin(&p->ranks, info, target);
    for (size_t i = 0; i < p->ranks.n; i++)
        copy_add_file(p->plan, &p->ranks.dicts[i].archive.file);
}

static void begin_whole(struct packer *p, const char *target)
{
    char *file = whole_target(target);
    state_dict_init(&p->whole, (struct rank){0}, xstrdup(output_begin_file(file)), top_of(file));
    copy_add_file(p->plan, &p->whole.archive.file);
    free(file);
}

int main(int argc, char **argv)
{
    struct stream_info info;
    struct record record;
    struct packer p = {0};
    const char *target = output_target(argc, argv, options_parse(&program, argc, argv));
    struct stream_reader *in = stream_reader_open(STDIN_FILENO, &info);
    if (sharded_only && !info.sharded)
        die(EXIT_DATA,
            "the stream is a whole model and not sharded; put ckpt-shard before, or leave out --sharded");
    p.plan = copy_plan_new(output_jobs());
    if (info.sharded)
        begin_sharded(&p, &info, target);
    else
        begin_whole(&p, target);
    while (stream_read(in, &record)) {
        take(&p, &record, info.sharded);
        record_free(&record);
    }
    if (info.sharded)
        rank_set_check(&p.ranks);
    else
        state_dict_check(&p.whole);
    output_need_space(copy_pending_bytes(p.plan), info.sharded ? p.ranks.n : 1);
    progress_begin("copying", copy_pending_bytes(p.plan));
    copy_run(p.plan);
    output_publish();
    progress_end();

    if (info.sharded)
        rank_set_free(&p.ranks);
    else
        state_dict_free(&p.whole);
    stream_reader_close(in);
    return 0;
}
