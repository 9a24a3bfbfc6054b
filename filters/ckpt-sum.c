/* ckpt-sum: a checksum of every tensor of a stream. */
#include "materialize.h"
#include "progress.h"
#include "rank_file.h"
#include "stream.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static bool as_tsv;

static const struct option_spec options[] = {
    {.name = "tsv",
     .letter = 'T',
     .kind = OPTION_FLAG,
     .value = &as_tsv,
     .help = "print name, dtype, shape and checksum, between tabs; the\nrank file comes first"},
    {0},
};

static const struct program program = {
    .summary = "Print the SHA-256 of every tensor's bytes (row-major, little-endian)",
    .synopsis = "[OPTION]... <STREAM",
    .tables = (const struct option_spec *const[]){options, progress_options, NULL},
    .examples = "  ckpt-unpack model/ | ckpt-sum >before\n"
                "  ckpt-unpack nxdt/ | ckpt-split-qkv -c config.json | ckpt-merge --hw-backend trn1 | "
                "ckpt-sum | diff before -\n",
};

static void print_sum(const struct record *record, const struct stream_info *info, const char *digest)
{
    char file[128] = "", shape[2048];
    const char *gap = as_tsv ? "\t" : "  ";
    if (info->sharded) {
        rank_file_name(file, sizeof file, record->rank, info->ep_size);
        printf("%s.pt%s", file, gap);
    }
    tensor_shape_text(record->tensor, shape, sizeof shape);
    if (as_tsv)
        printf("%s\t%s\t%s\t%s\n", record->name, dtype_name(record->tensor->dtype), shape, digest);
    else
        printf("%s  %s\n", digest, record->name);
}

int main(int argc, char **argv)
{
    struct stream_info info;
    struct record record;
    struct error err;
    char digest[65];
    if (options_parse(&program, argc, argv) < argc)
        usage_error("takes no operand, but got '%s'; pipe: ckpt-unpack %s | ckpt-sum", argv[argc - 1],
                    argv[argc - 1]);
    struct stream_reader *in = stream_reader_open(STDIN_FILENO, &info);
    struct materializer *m = materializer_new(1);
    progress_begin("summing", info.bytes);
    while (stream_read(in, &record)) {
        if (!materialize_sha256(m, record.tensor, digest, &err))
            die_error(&err);
        print_sum(&record, &info, digest);
        progress_add(tensor_bytes(record.tensor));
        record_free(&record);
    }
    if (!materializer_finish(m, &err))
        die_error(&err);
    progress_end();
    stream_reader_close(in);
    if (fclose(stdout) != 0)
        die(EXIT_DATA, "cannot write to standard output: %s", strerror(errno));
    return 0;
}
