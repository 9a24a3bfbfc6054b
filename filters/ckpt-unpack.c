/* ckpt-unpack: a checkpoint on disk, of any kind -> a stream. */
#include "checkpoint_options.h"
#include "progress.h"

static const struct program program = {
    .summary = "Turn a checkpoint on disk into a stream of its tensors",
    .synopsis = "[OPTION]... PATH >STREAM",
    .tables = (const struct option_spec *const[]){checkpoint_options, stream_options, progress_options, NULL},
    .examples = "  ckpt-unpack hf/ | ckpt-ls\n"
                "  ckpt-unpack --model --inline training.pt | ssh host 'ckpt-pack-safetensors hf/'\n",
};

int main(int argc, char **argv)
{
    struct error err;
    struct record record;
    int more;
    stream_writer_declare();
    int first = options_parse(&program, argc, argv);
    if (argc - first != 1)
        usage_error("takes one operand, the PATH of a checkpoint, but got %d", argc - first);
    struct checkpoint *checkpoint = checkpoint_open_by_options(argv[first]);
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
