/* ckpt-pack-xser: a sharded stream -> NxDT's xser checkpoint, in which every tensor of a rank is a file.
 *
 * DIR/model/R.pt names the tensors of rank R, R.pt.tensors/tensor_N.pt holds the N-th one, R.pt.info.pt their
 * dtypes and shapes. */
#include "copy.h"
#include "memory.h"
#include "output.h"
#include "progress.h"
#include "state_dict.h"

#include <stdlib.h>
#include <unistd.h>

static const struct program program = {
    .summary = "Write a sharded stream as an NxDT checkpoint with torch_xla serialization (xser)",
    .synopsis = "[OPTION]... DIR <STREAM",
    .tables = (const struct option_spec *const[]){output_options, progress_options, NULL},
    .examples =
        "  ckpt-unpack hf/ | ckpt-shard --tp-size 8 --pp-size 4 --qkv-linear | ckpt-fuse-qkv --fuse-qkv |\n"
        "    ckpt-pack-xser out/\n",
};

/* One tensor file. The list keeps them where they are: threads hold pointers to them. */
struct tensor_file {
    struct tensor_file *next;
    struct copy_archive archive;
    struct tensor *tensor; /* for dtype and shape only: belongs to the rank's state dict */
};

struct packer {
    struct copy_plan *plan;
    struct rank_set ranks;
    struct copy_archive *infos;
    struct tensor_file *files;
    uint64_t n_files;
};

static void compose_tensor(struct copy_archive *archive)
{
    const struct tensor_file *file = archive->context;
    struct strbuf p = {0};
    pickle_begin(&p);
    pickle_tensor(&p, file->tensor, "0");
    pickle_end(&p);
    archive_put_pickle(archive->archive, &p);
    strbuf_free(&p);
}

static void take(struct packer *p, const struct record *record)
{
    struct state_dict *dict = rank_set_find(&p->ranks, record);
    size_t tid = state_dict_add(dict, record);
    char *path = xasprintf("%s.tensors/tensor_%zu.pt", dict->path, tid), *top = xasprintf("tensor_%zu", tid);
    struct tensor_file *file = xcalloc(1, sizeof *file);
    *file = (struct tensor_file){.next = p->files, .tensor = dict->members[tid].tensor};
    copy_archive_init(&file->archive, archive_new(path, top), compose_tensor, file);
    p->files = file;
    p->n_files++;
    copy_add_file(p->plan, &file->archive.file);
    copy_archive_add(p->plan, &file->archive, "data/0", record->tensor);
    free(path);
    free(top);
}

/* R.pt and R.pt.info.pt, and the directory of the tensors. */
static void begin_rank(struct packer *p, size_t i)
{
    struct state_dict *dict = &p->ranks.dicts[i];
    struct copy_archive *info = &p->infos[i];
    char *tensors = xasprintf("%s.tensors", dict->path), *path = xasprintf("%s.info.pt", dict->path),
         *top = xasprintf("%s.pt.info", dict->top);
    output_directory(tensors);
    copy_archive_init(info, archive_new(path, top), state_dict_compose_info, dict);
    dict->archive.compose = state_dict_compose_references;
    copy_add_file(p->plan, &info->file);
    copy_add_file(p->plan, &dict->archive.file);
    free(tensors);
    free(path);
    free(top);
}

static void begin(struct packer *p, const struct stream_info *info, const char *target)
{
    rank_set_begin(&p->ranks, info, target);
    p->infos = xcalloc(p->ranks.n, sizeof *p->infos);
    for (size_t i = 0; i < p->ranks.n; i++)
        begin_rank(p, i);
}

static void packer_free(struct packer *p)
{
    for (size_t i = 0; i < p->ranks.n; i++)
        copy_archive_free(&p->infos[i]);
    free(p->infos);
    while (p->files) {
        struct tensor_file *next = p->files->next;
        copy_archive_free(&p->files->archive);
        free(p->files);
        p->files = next;
    }
    rank_set_free(&p->ranks);
}

int main(int argc, char **argv)
{
    struct stream_info info;
    struct record record;
    struct packer p = {0};
    const char *target = output_target(argc, argv, options_parse(&program, argc, argv));
    struct stream_reader *in = stream_reader_open(STDIN_FILENO, &info);
    if (!info.sharded)
        die(EXIT_DATA, "the stream is not sharded, and xser is a format of ranks; put ckpt-shard before "
                       "(--tp-size 1 will do)");
    p.plan = copy_plan_new(output_jobs());
    begin(&p, &info, target);
    while (stream_read(in, &record)) {
        take(&p, &record);
        record_free(&record);
    }
    rank_set_check(&p.ranks);
    output_need_space(copy_pending_bytes(p.plan), p.n_files + 2 * p.ranks.n);
    progress_begin("copying", copy_pending_bytes(p.plan));
    copy_run(p.plan);
    output_publish();
    progress_end();
    packer_free(&p);
    stream_reader_close(in);
    return 0;
}
