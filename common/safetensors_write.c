#include "safetensors_write.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a writer that speaks for torch puts there; Transformers refuses files without it. */
static const char HEADER_BEGIN[] = "{\"__metadata__\":{\"format\":\"pt\"}";

static void add_member(struct strbuf *json, const struct safetensors_member *member)
{
    const struct tensor *t = member->tensor;
    strbuf_puts(json, ",");
    json_write_string(json, member->name);
    strbuf_printf(json, ":{\"dtype\":\"%s\",\"shape\":[", dtype_safetensors(t->dtype));
    for (unsigned i = 0; i < t->n_dims; i++)
        strbuf_printf(json, "%s%llu", i ? "," : "", (unsigned long long)t->shape[i]);
    strbuf_printf(json, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)member->begin,
                  (unsigned long long)(member->begin + tensor_bytes(t)));
}

/* The header with its length in front. Data begins at a multiple of 8. */
static void make_header(const struct safetensors_file *file, struct strbuf *header)
{
    unsigned char length[8] = {0};
    strbuf_add(header, length, sizeof length);
    strbuf_puts(header, HEADER_BEGIN);
    for (size_t i = 0; i < file->n; i++)
        add_member(header, &file->members[i]);
    strbuf_puts(header, "}");
    size_t end = file->as_they_come ? SAFETENSORS_RESERVE : (header->length + 7) / 8 * 8;
    while (header->length < end)
        strbuf_add(header, " ", 1);
    put_le64(header->data, header->length - 8);
}

static void write_header(struct copy_file *copy)
{
    struct safetensors_file *file = copy->context;
    struct strbuf *header = &file->header;
    struct error err;
    if (!header->length)
        make_header(file, header);
    int fd = open_to_write(file->path, &err);
    bool ok = fd >= 0 && write_at(fd, header->data, header->length, 0, file->path, &err);
    if (ok && close(fd) != 0)
        ok = fail_errno(&err, "%s: cannot write", file->path);
    if (!ok)
        die_error(&err);
    strbuf_free(header);
}

struct safetensors_file *safetensors_file_new(const char *path, bool as_they_come)
{
    struct safetensors_file *file = xcalloc(1, sizeof *file);
    file->path = xstrdup(path);
    file->as_they_come = as_they_come;
    file->header_bytes = 8 + sizeof HEADER_BEGIN;
    file->file.path = file->path;
    file->file.finish = write_header;
    file->file.context = file;
    return file;
}

void safetensors_file_free(struct safetensors_file *file)
{
    for (size_t i = 0; i < file->n; i++) {
        free(file->members[i].name);
        tensor_free(file->members[i].tensor);
    }
    free(file->members);
    strbuf_free(&file->header);
    free(file->path);
    free(file);
}

/* An upper bound of what a member takes in the header: every character of its name may become six. */
static size_t header_need(const struct record *record)
{
    return 6 * strlen(record->name) + 21u * record->tensor->n_dims + 128;
}

bool safetensors_file_fits(const struct safetensors_file *file, const struct record *record)
{
    return !file->as_they_come || (file->bytes % dtype_size(record->tensor->dtype) == 0 &&
                                   file->header_bytes + header_need(record) < SAFETENSORS_RESERVE);
}

bool safetensors_file_add(struct safetensors_file *file, struct copy_plan *plan, const struct record *record,
                          struct error *err)
{
    struct tensor *t = record->tensor;
    if (!dtype_safetensors(t->dtype))
        return fail(err, "%s: safetensors has no %s; use ckpt-pack-pt", record->name, dtype_name(t->dtype));
    GROW(file->members, file->n, file->capacity);
    struct safetensors_member *member = &file->members[file->n];
    *member = (struct safetensors_member){.name = xstrdup(record->name), .begin = file->bytes};
    if (file->as_they_come) {
        copy_add(plan, &file->file, file->n, SAFETENSORS_RESERVE + file->bytes, t);
        member->tensor = tensor_zeros(t->dtype, t->n_dims, t->shape, err);
        if (!member->tensor)
            return false;
    } else {
        member->tensor = tensor_keep(t);
    }
    file->header_bytes += header_need(record);
    file->bytes += tensor_bytes(t);
    file->n++;
    return true;
}

static int by_alignment_and_name(const void *a, const void *b)
{
    const struct safetensors_member *x = a, *y = b;
    size_t m = dtype_size(x->tensor->dtype), n = dtype_size(y->tensor->dtype);
    return m != n ? (m < n) - (m > n) : strcmp(x->name, y->name);
}

void safetensors_file_close(struct safetensors_file *file, struct copy_plan *plan)
{
    uint64_t at = 0;
    if (file->as_they_come)
        return;
    qsort(file->members, file->n, sizeof *file->members, by_alignment_and_name);
    for (size_t i = 0; i < file->n; i++) {
        file->members[i].begin = at;
        at += tensor_bytes(file->members[i].tensor);
    }
    make_header(file, &file->header);
    for (size_t i = 0; i < file->n; i++)
        copy_add(plan, &file->file, i, file->header.length + file->members[i].begin, file->members[i].tensor);
}
