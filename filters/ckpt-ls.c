/* ckpt-ls: what is in a stream, one line a tensor. */
#include "memory.h"
#include "progress.h"
#include "rank_file.h"
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool as_json, with_total;

static const struct option_spec options[] = {
    {.name = "json",
     .letter = 'J',
     .kind = OPTION_FLAG,
     .value = &as_json,
     .help = "print a JSON array, an object a line"},
    {.name = "total",
     .letter = 't',
     .kind = OPTION_FLAG,
     .value = &with_total,
     .help = "add a line that counts tensors and bytes"},
    {0},
};

static const struct program program = {
    .summary = "List the tensors of a stream",
    .synopsis = "[OPTION]... <STREAM",
    .tables = (const struct option_spec *const[]){options, NULL},
    .examples = "  ckpt-unpack model/ | ckpt-ls\n"
                "  ckpt-unpack model/ | ckpt-ls --json | jq -r '.[] | select(.bytes > 1e9) | .name'\n",
};

/* A table whose columns are as wide as their widest cell. */
enum { COLUMNS = 5 };
struct table {
    char *(*rows)[COLUMNS];
    size_t n, capacity;
    size_t width[COLUMNS];
};

static void add_row(struct table *table, char *name, char *dtype, char *shape, char *bytes, char *rank)
{
    char *cells[COLUMNS] = {name, dtype, shape, bytes, rank};
    GROW(table->rows, table->n, table->capacity);
    for (int i = 0; i < COLUMNS; i++) {
        size_t width = strlen(cells[i]);
        table->rows[table->n][i] = cells[i];
        if (width > table->width[i])
            table->width[i] = width;
    }
    table->n++;
}

static void print_table(struct table *table, int columns)
{
    for (size_t row = 0; row < table->n; row++) {
        for (int i = 0; i < columns; i++) {
            int width = i == columns - 1 && i != 3 ? 0 : (int)table->width[i];
            printf("%s%*s", i ? "  " : "", i == 3 ? width : -width, table->rows[row][i]);
        }
        putchar('\n');
        for (int i = 0; i < COLUMNS; i++)
            free(table->rows[row][i]);
    }
    free(table->rows);
}

static char *printable(const char *text)
{
    char *copy = xstrdup(text);
    make_printable(copy);
    return copy;
}

static void print_json(const struct record *record, const struct stream_info *info, uint64_t n)
{
    char shape[2048], file[128];
    struct strbuf name = {0};
    json_write_string(&name, record->name);
    tensor_shape_text(record->tensor, shape, sizeof shape);
    printf("%s{\"name\":%s,\"dtype\":\"%s\",\"shape\":%s,\"bytes\":%llu", n ? ",\n" : "[\n", name.data,
           dtype_name(record->tensor->dtype), shape, (unsigned long long)tensor_bytes(record->tensor));
    if (info->sharded) {
        rank_file_name(file, sizeof file, record->rank, info->ep_size);
        printf(",\"rank\":{\"tp\":%u,\"pp\":%u,\"ep\":%u},\"rank_file\":\"%s.pt\"", record->rank.tp,
               record->rank.pp, record->rank.ep, file);
    }
    printf("}");
    strbuf_free(&name);
}

static char *rank_text(const struct record *record, const struct stream_info *info)
{
    if (!info->sharded)
        return xstrdup("");
    return info->ep_size > 1 ? xasprintf("tp%u pp%u ep%u", record->rank.tp, record->rank.pp, record->rank.ep)
                             : xasprintf("tp%u pp%u", record->rank.tp, record->rank.pp);
}

int main(int argc, char **argv)
{
    struct stream_info info;
    struct record record;
    struct table table = {0};
    char shape[2048];
    uint64_t tensors = 0, bytes = 0;
    if (options_parse(&program, argc, argv) < argc)
        usage_error("takes no operand, but got '%s'; pipe: ckpt-unpack %s | ckpt-ls", argv[argc - 1],
                    argv[argc - 1]);
    struct stream_reader *in = stream_reader_open(STDIN_FILENO, &info);
    if (!as_json)
        add_row(&table, xstrdup("NAME"), xstrdup("DTYPE"), xstrdup("SHAPE"), xstrdup("BYTES"),
                xstrdup("RANK"));
    while (stream_read(in, &record)) {
        if (as_json) {
            print_json(&record, &info, tensors);
        } else {
            tensor_shape_text(record.tensor, shape, sizeof shape);
            add_row(&table, printable(record.name), xstrdup(dtype_name(record.tensor->dtype)), xstrdup(shape),
                    xasprintf("%llu", (unsigned long long)tensor_bytes(record.tensor)),
                    rank_text(&record, &info));
        }
        tensors++;
        bytes += tensor_bytes(record.tensor);
        record_free(&record);
    }
    if (as_json)
        printf("%s]\n", tensors ? "\n" : "[");
    print_table(&table, info.sharded ? COLUMNS : COLUMNS - 1);
    if (with_total && !as_json)
        printf("%llu tensors, %llu bytes\n", (unsigned long long)tensors, (unsigned long long)bytes);
    stream_reader_close(in);
    if (fclose(stdout) != 0)
        die(EXIT_DATA, "cannot write to standard output: %s", strerror(errno));
    return 0;
}
