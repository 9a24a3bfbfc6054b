/* The format (huggingface/safetensors, README "Format"): a 64-bit little-endian length, a JSON header of that
 * length {name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {text: text}}, and the data,
 * where offsets count from the end of the header.
 *
 * The header is parsed as it is read, and anything that has no place in it ends the parse, so that a header
 * of 100 MB of something else takes no memory. */
#include "safetensors.h"

#include "file_kind.h"
#include "memory.h"
#include "names.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yajl/yajl_parse.h>

enum { MAX_HEADER = 100 * 1000 * 1000, MAX_NAME = 4096 };

enum place {         /* where in the header the parser is */
             BEFORE, /* the outermost brace has not come */
             NAMES,  /* in the outermost object */
             TENSOR, /* in the object of a tensor */
             SHAPE,
             OFFSETS,
             METADATA,
             AFTER
};

enum field { FIELD_DTYPE = 1, FIELD_SHAPE = 2, FIELD_OFFSETS = 4 };

struct entry {
    size_t name; /* number in names */
    enum dtype dtype;
    unsigned n_dims;
    uint64_t *shape; /* in the arena */
    uint64_t begin, end;
};

struct header {
    const char *path;
    enum place place;
    enum field field; /* whose value comes next in TENSOR */
    unsigned fields;  /* that the present tensor has had */
    unsigned n_numbers;
    uint64_t numbers[TENSOR_MAX_DIMS]; /* of SHAPE or OFFSETS */
    struct entry *entries;
    size_t n, capacity;
    bool has_metadata;
    struct names names;
    struct arena arena;
    struct error *err;
};

/* Callbacks of yajl return 0 to stop. */
static int stop(struct header *h, const char *problem)
{
    const char *name = h->n && h->place != NAMES ? h->names.text[h->entries[h->n - 1].name] : NULL;
    if (name)
        fail(h->err, "%s: tensor '%s': %s", h->path, name, problem);
    else
        fail(h->err, "%s: not a valid safetensors header: %s", h->path, problem);
    return 0;
}

static int on_open_object(void *context)
{
    struct header *h = context;
    if (h->place == BEFORE) {
        h->place = NAMES;
        return 1;
    }
    if (h->place != NAMES || h->field)
        return stop(h, "an object stands where none belongs");
    h->place = h->has_metadata ? METADATA : TENSOR;
    return 1;
}

static int on_name(struct header *h, const char *text, size_t length)
{
    if (length == strlen("__metadata__") && memcmp(text, "__metadata__", length) == 0) {
        h->has_metadata = true;
        return 1;
    }
    h->has_metadata = false;
    if (memchr(text, 0, length) || length > MAX_NAME || !length)
        return stop(h, "a tensor name is empty, longer than 4096 bytes, or has a NUL character inside");
    size_t former = h->names.n, number = names_add(&h->names, text, length);
    if (number != former) {
        fail(h->err, "%s: two tensors in it have the name '%s'", h->path, h->names.text[number]);
        return 0;
    }
    GROW(h->entries, h->n, h->capacity);
    h->entries[h->n++] = (struct entry){.name = number};
    h->fields = 0;
    return 1;
}

static int on_key(void *context, const unsigned char *key, size_t length)
{
    static const struct {
        const char *name;
        enum field field;
    } fields[] = {{"dtype", FIELD_DTYPE}, {"shape", FIELD_SHAPE}, {"data_offsets", FIELD_OFFSETS}};
    struct header *h = context;
    if (h->place == NAMES)
        return on_name(h, (const char *)key, length);
    if (h->place == METADATA)
        return 1;
    h->field = 0;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (length == strlen(fields[i].name) && memcmp(key, fields[i].name, length) == 0)
            h->field = fields[i].field;
    if (!h->field || h->fields & h->field)
        return stop(h, "its entry has a key that is unknown, or that stands there twice");
    h->fields |= h->field;
    return 1;
}

static int on_string(void *context, const unsigned char *text, size_t length)
{
    struct header *h = context;
    char name[32];
    if (h->place == METADATA)
        return 1;
    if (h->place != TENSOR || h->field != FIELD_DTYPE)
        return stop(h, "a text stands where none belongs");
    size_t n = length < sizeof name ? length : sizeof name - 1;
    memcpy(name, text, n);
    name[n] = '\0';
    h->field = 0;
    h->entries[h->n - 1].dtype = dtype_from_safetensors(name);
    if (h->entries[h->n - 1].dtype != DTYPE_NONE)
        return 1;
    fail(h->err, "%s: tensor '%s' has the unknown dtype '%s'", h->path, h->names.text[h->n - 1], name);
    return 0;
}

static int on_open_array(void *context)
{
    struct header *h = context;
    if (h->place != TENSOR || (h->field != FIELD_SHAPE && h->field != FIELD_OFFSETS))
        return stop(h, "a list stands where none belongs");
    h->place = h->field == FIELD_SHAPE ? SHAPE : OFFSETS;
    h->n_numbers = 0;
    return 1;
}

static int on_number(void *context, const char *text, size_t length)
{
    struct header *h = context;
    char digits[24];
    if (h->place != SHAPE && h->place != OFFSETS)
        return stop(h, "a number stands where none belongs");
    if (h->n_numbers == (h->place == SHAPE ? TENSOR_MAX_DIMS : 2))
        return stop(h, h->place == SHAPE ? "it has more than 64 dimensions"
                                         : "it has more than two data_offsets");
    size_t n = length < sizeof digits ? length : sizeof digits - 1;
    memcpy(digits, text, n);
    digits[n] = '\0';
    if (!parse_u64(digits, &h->numbers[h->n_numbers++]))
        return stop(h, "a size or offset is not a whole number from 0 to 2^64-1");
    return 1;
}

static int on_close_array(void *context)
{
    struct header *h = context;
    struct entry *entry = &h->entries[h->n - 1];
    if (h->place == OFFSETS && h->n_numbers != 2)
        return stop(h, "it has fewer than two data_offsets");
    if (h->place == OFFSETS) {
        entry->begin = h->numbers[0];
        entry->end = h->numbers[1];
    } else {
        entry->n_dims = h->n_numbers;
        entry->shape = arena_alloc(&h->arena, entry->n_dims * sizeof *entry->shape);
        memcpy(entry->shape, h->numbers, entry->n_dims * sizeof *entry->shape);
    }
    h->place = TENSOR;
    h->field = 0;
    return 1;
}

static int on_close_object(void *context)
{
    struct header *h = context;
    if (h->place == TENSOR && (h->fields != (FIELD_DTYPE | FIELD_SHAPE | FIELD_OFFSETS) || h->field))
        return stop(h, "its entry has no dtype, no shape or no data_offsets");
    h->place = h->place == NAMES ? AFTER : NAMES;
    return 1;
}

static int on_other(void *context)
{
    return stop(context, "null, true or false stands where none belongs");
}

static int on_boolean(void *context, int value)
{
    (void)value;
    return on_other(context);
}

static const yajl_callbacks callbacks = {
    .yajl_null = on_other,
    .yajl_boolean = on_boolean,
    .yajl_number = on_number,
    .yajl_string = on_string,
    .yajl_start_map = on_open_object,
    .yajl_map_key = on_key,
    .yajl_end_map = on_close_object,
    .yajl_start_array = on_open_array,
    .yajl_end_array = on_close_array,
};

/* Feeds the header to the parser block by block. */
static yajl_status parse_blocks(int fd, uint64_t length, yajl_handle parser, struct header *h)
{
    unsigned char block[16384];
    yajl_status status = yajl_status_ok;
    for (uint64_t done = 0; done < length && status == yajl_status_ok;) {
        size_t n = length - done < sizeof block ? (size_t)(length - done) : sizeof block;
        if (!read_exactly(fd, block, n, 8 + done, h->path, h->err))
            return yajl_status_client_canceled;
        status = yajl_parse(parser, block, n);
        done += n;
    }
    return status == yajl_status_ok ? yajl_complete_parse(parser) : status;
}

static bool parse_header(int fd, uint64_t length, struct header *h)
{
    yajl_handle parser = yajl_alloc(&callbacks, NULL, h);
    if (!parser)
        die(EXIT_DATA, "out of memory");
    yajl_status status = parse_blocks(fd, length, parser, h);
    if (status == yajl_status_error) {
        unsigned char *reason = yajl_get_error(parser, 0, NULL, 0);
        fail(h->err, "%s: the safetensors header is not valid JSON: %.*s", h->path,
             (int)strcspn((char *)reason, "\n"), reason);
        yajl_free_error(parser, reason);
    }
    yajl_free(parser);
    return status == yajl_status_ok;
}

static bool check_entry(const struct header *h, const struct entry *entry, uint64_t expected,
                        struct error *err)
{
    const char *name = h->names.text[entry->name];
    uint64_t bytes = dtype_size(entry->dtype);
    bool fits = true;
    for (unsigned i = 0; i < entry->n_dims; i++)
        fits = fits && mul_u64(bytes, entry->shape[i], &bytes);
    if (!fits)
        return fail(err, "%s: tensor '%s': its shape is too large for 64 bits of bytes", h->path, name);
    if (entry->end < entry->begin || entry->end - entry->begin != bytes)
        return fail(
            err,
            "%s: tensor '%s': data_offsets [%llu,%llu] do not hold the %llu bytes of its shape and dtype",
            h->path, name, (unsigned long long)entry->begin, (unsigned long long)entry->end,
            (unsigned long long)bytes);
    if (entry->begin != expected)
        return fail(err,
                    "%s: tensor '%s' begins at byte %llu of the data, but the one before it ends at %llu",
                    h->path, name, (unsigned long long)entry->begin, (unsigned long long)expected);
    return true;
}

static int by_offset(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) /* an empty tensor stands before the one that begins where it does */
        return x->end < y->end ? -1 : 1;
    return x->name < y->name ? -1 : x->name > y->name;
}

/* Makes tensors of the entries, whose data begins at data in a file of size bytes. */
static bool make_list(struct header *h, uint64_t data, uint64_t size, struct tensor_list *list,
                      struct error *err)
{
    struct error reason;
    uint64_t end = 0;
    struct source *source = source_of_file(h->path, err);
    bool ok = source != NULL;
    if (h->n)
        qsort(h->entries, h->n, sizeof *h->entries, by_offset);
    for (size_t i = 0; i < h->n && ok; i++) {
        const struct entry *entry = &h->entries[i];
        const char *name = h->names.text[entry->name];
        ok = check_entry(h, entry, end, err);
        end = entry->end;
        if (ok && end > size - data)
            ok = fail(err, "%s: cut short: tensor '%s' ends at byte %llu of the data, which has only %llu",
                      h->path, name, (unsigned long long)end, (unsigned long long)(size - data));
        if (!ok)
            break;
        struct tensor *tensor = tensor_view(source, data + entry->begin, entry->dtype, entry->n_dims,
                                            entry->shape, NULL, &reason);
        ok = tensor ? tensor_list_add(list, name, strlen(name), tensor, 0, h->path, err)
                    : fail(err, "%s: tensor '%s': %s", h->path, name, reason.message);
    }
    source_free(source);
    if (ok && end != size - data)
        ok = fail(err, "%s: the data has %llu bytes, but the tensors take only %llu", h->path,
                  (unsigned long long)(size - data), (unsigned long long)end);
    return ok;
}

static bool header_length(int fd, uint64_t size, const char *path, uint64_t *length, struct error *err)
{
    unsigned char bytes[8];
    if (size < sizeof bytes)
        return fail(err, "%s: too short for a safetensors file (%llu bytes)", path, (unsigned long long)size);
    if (!read_exactly(fd, bytes, sizeof bytes, 0, path, err))
        return false;
    *length = le64(bytes);
    if (*length > MAX_HEADER)
        return fail(err, "%s: not a safetensors file: a header of %llu bytes is more than the 100 MB allowed",
                    path, (unsigned long long)*length);
    if (*length > size - sizeof bytes)
        return fail(err, "%s: cut short: the header has %llu bytes, but only %llu are there", path,
                    (unsigned long long)*length, (unsigned long long)(size - sizeof bytes));
    return true;
}

bool safetensors_read(const char *path, struct tensor_list *list, struct error *err)
{
    uint64_t size = 0, length = 0;
    struct header header = {.path = path, .err = err};
    *list = (struct tensor_list){0};
    int fd = open_file(path, &size, err);
    bool ok = fd >= 0 && header_length(fd, size, path, &length, err) && parse_header(fd, length, &header) &&
              make_list(&header, 8 + length, size, list, err);
    if (fd >= 0)
        close(fd);
    names_free(&header.names);
    arena_free(&header.arena);
    free(header.entries);
    return ok;
}
