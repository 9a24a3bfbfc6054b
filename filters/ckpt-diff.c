/* ckpt-diff: what a stream and a checkpoint on disk differ in. */
#include "checkpoint_options.h"
#include "element.h"
#include "materialize.h"
#include "memory.h"
#include "progress.h"
#include "rank_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long ull;

static const struct program program = {
    .summary = "Compare a stream with a checkpoint on disk, tensor by tensor",
    .synopsis = "[OPTION]... PATH <STREAM",
    .tables = (const struct option_spec *const[]){checkpoint_options, progress_options, NULL},
    .examples = "  ckpt-unpack nxdt/ | ckpt-split-qkv -c hf/config.json | ckpt-merge | ckpt-diff hf/\n"
                "  ckpt-unpack step-100.pt | ckpt-diff step-200.pt\n",
};

/* The checkpoint's tensors, by name and rank. */
struct entry {
    struct record record;
    size_t place; /* in the checkpoint */
    bool seen;    /* in the stream */
};

struct table {
    struct entry *entries;
    size_t n, capacity;
};

static int compare_records(const struct record *a, const struct record *b)
{
    int names = strcmp(a->name, b->name);
    return names                      ? names
           : a->rank.pp != b->rank.pp ? (a->rank.pp < b->rank.pp ? -1 : 1)
           : a->rank.ep != b->rank.ep ? (a->rank.ep < b->rank.ep ? -1 : 1)
           : a->rank.tp != b->rank.tp ? (a->rank.tp < b->rank.tp ? -1 : 1)
                                      : 0;
}

static int by_name(const void *a, const void *b)
{
    return compare_records(&((const struct entry *)a)->record, &((const struct entry *)b)->record);
}

static int by_place(const void *a, const void *b)
{
    size_t x = ((const struct entry *)a)->place, y = ((const struct entry *)b)->place;
    return (x > y) - (x < y);
}

static void read_checkpoint(struct table *table, struct checkpoint *checkpoint)
{
    struct error err;
    struct record record;
    int more;
    while ((more = checkpoint_next(checkpoint, &record, &err)) > 0) {
        GROW(table->entries, table->n, table->capacity);
        table->entries[table->n] = (struct entry){.record = record, .place = table->n};
        table->n++;
    }
    if (more < 0)
        die_error(&err);
    if (table->n > 0)
        qsort(table->entries, table->n, sizeof *table->entries, by_name);
}

static struct entry *find(const struct table *table, const struct record *record)
{
    struct entry wanted = {.record = *record};
    return table->n ? bsearch(&wanted, table->entries, table->n, sizeof wanted, by_name) : NULL;
}

/* "NAME", with the rank file before it in a sharded checkpoint. The caller frees it. */
static char *title(const struct record *record, const struct stream_info *info)
{
    char file[128];
    if (info->sharded)
        rank_file_name(file, sizeof file, record->rank, info->ep_size);
    char *text = info->sharded ? xasprintf("%s.pt: %s", file, record->name) : xstrdup(record->name);
    make_printable(text);
    return text;
}

/* Every line goes out at once: what was found must stand before the error that may follow. */
static void end_line(void)
{
    putchar('\n');
    if (fflush(stdout) != 0)
        die(EXIT_DATA, "cannot write to standard output: %s", strerror(errno));
}

/* ---- elements ---- */

struct difference {
    const struct tensor *tensor;
    uint64_t count, first;
    struct number first_a, first_b, largest; /* NaN when one of two differing values is */
};

static void note_element(struct difference *d, uint64_t index, const unsigned char *a, const unsigned char *b)
{
    struct number x = element_number(d->tensor->dtype, a), y = element_number(d->tensor->dtype, b);
    struct number distance = number_distance(x, y);
    if (d->count++ == 0) {
        d->first = index;
        d->first_a = x;
        d->first_b = y;
        d->largest = distance;
    } else if (number_exceeds(distance, d->largest)) {
        d->largest = distance;
    }
}

static bool note_block(void *context, uint64_t first, const unsigned char *a, const unsigned char *b,
                       size_t n)
{
    struct difference *d = context;
    size_t size = dtype_size(d->tensor->dtype);
    if (memcmp(a, b, n * size) != 0)
        for (size_t i = 0; i < n; i++)
            if (memcmp(a + i * size, b + i * size, size) != 0)
                note_element(d, first + i, a + i * size, b + i * size);
    progress_add(n * size);
    return true;
}

static void index_text(const struct tensor *tensor, uint64_t element, char *text, size_t size)
{
    uint64_t at[TENSOR_MAX_DIMS];
    for (unsigned i = tensor->n_dims; i-- > 0;) {
        at[i] = element % tensor->shape[i];
        element /= tensor->shape[i];
    }
    dims_text(tensor->n_dims, at, text, size);
}

static void print_difference(const char *name, const struct difference *d)
{
    char first[2048], a[32], b[32], largest[32];
    index_text(d->tensor, d->first, first, sizeof first);
    printf("%s: %llu of %llu elements differ, first %s", name, (ull)d->count, (ull)tensor_elements(d->tensor),
           first);
    if (d->first_a.kind != NUMBER_UNKNOWN) {
        number_text(d->first_a, a, sizeof a);
        number_text(d->first_b, b, sizeof b);
        number_text(d->largest, largest, sizeof largest);
        printf(": %s and %s; largest difference %s", a, b, largest);
    }
    end_line();
}

/* ---- tensors ---- */

static bool same_form(const struct tensor *a, const struct tensor *b)
{
    return a->dtype == b->dtype && a->n_dims == b->n_dims &&
           (a->n_dims == 0 || memcmp(a->shape, b->shape, a->n_dims * sizeof *a->shape) == 0);
}

static void print_forms(const char *name, const struct tensor *a, const struct tensor *b)
{
    char shape_a[2048], shape_b[2048];
    tensor_shape_text(a, shape_a, sizeof shape_a);
    tensor_shape_text(b, shape_b, sizeof shape_b);
    printf("%s: %s %s and %s %s", name, dtype_name(a->dtype), shape_a, dtype_name(b->dtype), shape_b);
    end_line();
}

static bool compare(struct materializer *m, const struct record *ours, const struct record *theirs,
                    const struct stream_info *info)
{
    struct error err;
    struct difference d = {.tensor = ours->tensor};
    const struct tensor *a = ours->tensor, *b = theirs->tensor;
    bool form = same_form(a, b);
    if (form && tensor_same_view(a, b))
        progress_add(tensor_bytes(a));
    else if (form && !materialize_pair(m, a, b, note_block, &d, &err))
        die_error(&err);
    if (form && d.count == 0)
        return true;
    char *name = title(ours, info);
    if (form)
        print_difference(name, &d);
    else
        print_forms(name, a, b);
    free(name);
    return false;
}

static void print_lonely(const char *where, const struct record *record, const struct stream_info *info)
{
    char *name = title(record, info);
    printf("only in %s: %s", where, name);
    end_line();
    free(name);
}

static bool compare_stream(struct stream_reader *in, struct table *table, const struct stream_info *info)
{
    struct record record;
    struct error err;
    bool same = true;
    struct materializer *m = materializer_new(1);
    while (stream_read(in, &record)) {
        struct entry *entry = find(table, &record);
        if (!entry) {
            print_lonely("the stream", &record, info);
            same = false;
        } else if (entry->seen) {
            die(EXIT_DATA, "%s: is there twice in the stream on standard input", record.name);
        } else {
            entry->seen = true;
            same = compare(m, &record, &entry->record, info) && same;
        }
        record_free(&record);
    }
    if (!materializer_finish(m, &err))
        die_error(&err);
    return same;
}

int main(int argc, char **argv)
{
    struct stream_info info;
    struct table table = {0};
    int first = options_parse(&program, argc, argv);
    if (argc - first != 1)
        usage_error("takes one operand, the PATH of a checkpoint, but got %d", argc - first);
    const char *path = argv[first];
    struct stream_reader *in = stream_reader_open(STDIN_FILENO, &info);
    struct checkpoint *checkpoint = checkpoint_open_by_options(path);
    if (info.sharded != checkpoint_info(checkpoint)->sharded)
        die(EXIT_DATA, "%s: is %s, but the stream is %s; put ckpt-%s into the pipeline", path,
            info.sharded ? "a whole model" : "sharded", info.sharded ? "sharded" : "a whole model",
            info.sharded ? "merge" : "shard");
    read_checkpoint(&table, checkpoint);
    progress_begin("comparing", info.bytes);
    bool same = compare_stream(in, &table, &info);
    progress_end();
    if (table.n > 0)
        qsort(table.entries, table.n, sizeof *table.entries, by_place);
    for (size_t i = 0; i < table.n; i++) {
        if (!table.entries[i].seen)
            print_lonely(path, &table.entries[i].record, &info);
        same = same && table.entries[i].seen;
        record_free(&table.entries[i].record);
    }
    free(table.entries);
    checkpoint_close(checkpoint);
    stream_reader_close(in);
    if (fclose(stdout) != 0)
        die(EXIT_DATA, "cannot write to standard output: %s", strerror(errno));
    return same ? 0 : 1;
}
