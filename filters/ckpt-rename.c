/* ckpt-rename: Hugging Face names <-> Megatron names.
 *
 * The rule: names change by a table (megatron_names.c); tensors do not. Names that are in the wanted form
 * already stay. */
#include "megatron_names.h"
#include "memory.h"
#include "progress.h"
#include "stream.h"

#include <stdlib.h>
#include <unistd.h>

static int direction = -1;
static const char *const directions[] = {"megatron", "hf", NULL};

static const struct option_spec options[] = {
    {.name = "to",
     .letter = 't',
     .kind = OPTION_CHOICE,
     .value = &direction,
     .choices = directions,
     .argument = "megatron|hf",
     .help = "the names that are wanted (required)"},
    {0},
};

static const struct program program = {
    .summary = "Give the tensors of a stream Megatron's names, or Hugging Face's",
    .synopsis = "--to megatron|hf [OPTION]... <STREAM >STREAM",
    .tables = (const struct option_spec *const[]){options, stream_options, progress_options, NULL},
    .examples =
        "  ckpt-unpack hf/ | ckpt-shard --tp-size 8 --qkv-linear | ckpt-fuse-qkv --model-style megatron |\n"
        "    ckpt-rename --to megatron | ckpt-pack-xser out/\n",
};

int main(int argc, char **argv)
{
    struct stream_info info;
    struct record record;
    stream_writer_declare();
    if (options_parse(&program, argc, argv) < argc)
        usage_error("takes no operand, but got '%s'", argv[argc - 1]);
    if (direction < 0)
        usage_error("--to is missing");
    struct stream_reader *in = stream_reader_open(STDIN_FILENO, &info);
    info.lm_head = -1; /* that was said of the old names */
    stream_writer_begin(&info);
    while (stream_read(in, &record)) {
        char *name = direction == 0 ? name_to_megatron(record.name) : name_to_hf(record.name);
        free(record.name);
        record.name = name;
        stream_write(&record);
        record_free(&record);
    }
    stream_writer_end();
    stream_reader_close(in);
    return 0;
}
