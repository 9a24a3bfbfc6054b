/* ckpt-unpack: a checkpoint on disk, of any kind -> a stream. */
#include "checkpoint.h"
#include "memory.h"
#include "progress.h"

#include <stdlib.h>

static const char *key;
static bool model_only;

static const struct option_spec options[] = {
    {.name = "key",
     .letter = 'k',
     .kind = OPTION_STRING,
     .value = &key,
     .argument = "KEY",
     .help = "take only this part of a torch.save file: the key of a\ndictionary, or a dotted path "
             "(model.module)"},
    {.name = "model",
     .letter = 'm',
     .kind = OPTION_FLAG,
     .value = &model_only,
     .help = "take only the model of a training checkpoint: find its\nstate dict, and strip what trainers "
             "put before "
             "names\n(state_dict., module., …)"},
    {0},
};

static const struct program program = {
    .summary = "Turn a checkpoint on disk into a stream of its tensors",
    .synopsis = "[OPTION]... PATH >STREAM",
    .tables = (const struct option_spec *const[]){options, stream_options, progress_options, NULL},
    .examples = "  ckpt-unpack hf/ | ckpt-ls\n"
                "  ckpt-unpack --model --inline training.pt | ssh host 'ckpt-pack-safetensors hf/'\n",
};

static void warn_left_out(const struct checkpoint *checkpoint)
{
    const char *names[LEFT_OUT_NAMES];
    const char *of_what = model_only ? " of the model" : "";
    struct strbuf list = {0};
    uint64_t n = checkpoint_left_out(checkpoint, names);
    for (int i = 0; i < LEFT_OUT_NAMES && names[i]; i++)
        strbuf_printf(&list, "%s%.200s", i ? ", " : "", names[i]);
    if (n == 1)
        warning("1 value is not a tensor%s and is left out: %s", of_what, list.data);
    else if (n > 1)
        warning("%llu values are not tensors%s and are left out: %s%s", (unsigned long long)n, of_what,
                list.data, n > LEFT_OUT_NAMES ? ", …" : "");
    strbuf_free(&list);
}

int main(int argc, char **argv)
{
    struct error err;
    struct record record;
    int more;
    stream_writer_declare();
    setenv("TZ", "UTC0",
           0); /* libarchive asks for local time; without TZ that looks for files, for each of them */
    int first = options_parse(&program, argc, argv);
    if (argc - first != 1)
        usage_error("takes one operand, the PATH of a checkpoint, but got %d", argc - first);
    struct checkpoint *checkpoint = checkpoint_open(argv[first], key, &err);
    if (!checkpoint)
        die_error(&err);
    if (model_only && !checkpoint_pick_model(checkpoint, argv[first], &err))
        die_error(&err);
    warn_left_out(checkpoint);
    stream_writer_begin(checkpoint_info(checkpoint));
    while ((more = checkpoint_next(checkpoint, &record, &err)) > 0) {
        stream_write(&record);
        record_free(&record);
    }
    if (more < 0)
        die_error(&err);
    stream_writer_end();
    checkpoint_close(checkpoint);
    return 0;
}
