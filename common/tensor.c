#include "tensor.h"

#include "memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct source *source_of_file(const char *path, struct error *err)
{
    struct stat st;
    char *absolute = realpath(path, NULL);
    if (!absolute || stat(absolute, &st) != 0) {
        fail_errno(err, "%s: cannot open", path);
        free(absolute);
        return NULL;
    }
    struct source *source = xcalloc(1, sizeof *source);
    source->references = 1;
    source->path = absolute;
    source->device = (uint64_t)st.st_dev;
    source->inode = (uint64_t)st.st_ino;
    source->size = (uint64_t)st.st_size;
    source->mtime = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    return source;
}

/* The memory of the last large source that was freed. The next one is often of the same size, and memory that
 * comes anew from the system costs about as much as copying into it. */
static struct {
    unsigned char *memory;
    uint64_t size;
} spare;
enum { LARGE = 16 << 20 };

static void drop_spare(void)
{
    free(spare.memory);
    spare.memory = NULL;
    spare.size = 0;
}

/* Takes the spare memory if it is not more than twice as large as needed. It is no longer kept when another
 * large block is needed, so that it never adds to what the largest tensor takes. */
static unsigned char *take_memory(uint64_t *size)
{
    unsigned char *memory = spare.memory;
    if (*size >= LARGE && *size <= spare.size && spare.size / 2 <= *size) {
        *size = spare.size;
        spare.memory = NULL;
        spare.size = 0;
        return memory;
    }
    if (*size >= LARGE)
        drop_spare();
    return *size < SIZE_MAX ? malloc((size_t)*size + 1) : NULL;
}

static void leave_memory(unsigned char *memory, uint64_t size)
{
    if (!memory || size < LARGE) {
        free(memory);
        return;
    }
    drop_spare();
    spare.memory = memory;
    spare.size = size;
}

struct source *source_in_memory(uint64_t size)
{
    uint64_t capacity = size;
    unsigned char *memory = take_memory(&capacity);
    if (!memory)
        return NULL;
    struct source *source = xcalloc(1, sizeof *source);
    source->references = 1;
    source->memory = memory;
    source->size = size;
    source->capacity = capacity;
    return source;
}

struct source *source_keep(struct source *source)
{
    source->references++;
    return source;
}

void source_free(struct source *source)
{
    if (!source || --source->references > 0)
        return;
    free(source->path);
    leave_memory(source->memory, source->capacity);
    free(source);
}

/* A node with room for its shape and strides behind it. */
static struct tensor *new_tensor(enum tensor_kind kind, enum dtype dtype, unsigned n_dims,
                                 const uint64_t *shape)
{
    struct tensor *tensor = xcalloc(1, sizeof *tensor + 2 * (size_t)n_dims * sizeof(uint64_t));
    tensor->references = 1;
    tensor->kind = kind;
    tensor->dtype = dtype;
    tensor->n_dims = n_dims;
    tensor->shape = (uint64_t *)(tensor + 1);
    tensor->strides = tensor->shape + n_dims;
    if (n_dims)
        memcpy(tensor->shape, shape, n_dims * sizeof *shape);
    return tensor;
}

struct tensor *tensor_keep(struct tensor *tensor)
{
    tensor->references++;
    return tensor;
}

void tensor_free(struct tensor *tensor)
{
    if (!tensor || --tensor->references > 0)
        return;
    for (size_t i = 0; i < tensor->n_parts; i++)
        tensor_free(tensor->parts[i]);
    free(tensor->parts);
    source_free(tensor->source);
    free(tensor);
}

/* Bytes of a shape, or false when they do not fit. A dimension of 0 makes 0, whatever the others are. */
static bool shape_bytes(enum dtype dtype, unsigned n_dims, const uint64_t *shape, uint64_t *bytes)
{
    *bytes = dtype_size(dtype);
    for (unsigned i = 0; i < n_dims; i++)
        if (shape[i] == 0) {
            *bytes = 0;
            return true;
        }
    for (unsigned i = 0; i < n_dims; i++)
        if (!mul_u64(*bytes, shape[i], bytes))
            return false;
    return *bytes <= INT64_MAX;
}

static bool check_shape(enum dtype dtype, unsigned n_dims, const uint64_t *shape, uint64_t *bytes,
                        struct error *err)
{
    if (n_dims > TENSOR_MAX_DIMS)
        return fail(err, "%u dimensions, but at most %d are possible", n_dims, TENSOR_MAX_DIMS);
    if (!shape_bytes(dtype, n_dims, shape, bytes))
        return fail(err, "its shape is too large for 63 bits of bytes");
    return true;
}

/* The offset just behind the last byte that a view reaches. */
static bool view_end(const struct tensor *view, uint64_t *end)
{
    uint64_t elements = 1, reach;
    for (unsigned i = 0; i < view->n_dims; i++)
        if (!mul_u64(view->shape[i] - 1, view->strides[i], &reach) || !add_u64(elements, reach, &elements))
            return false;
    return mul_u64(elements, dtype_size(view->dtype), end) && add_u64(*end, view->offset, end);
}

struct tensor *tensor_view(struct source *source, uint64_t offset, enum dtype dtype, unsigned n_dims,
                           const uint64_t *shape, const uint64_t *strides, struct error *err)
{
    uint64_t bytes = 0, end = 0;
    if (!check_shape(dtype, n_dims, shape, &bytes, err))
        return NULL;
    struct tensor *view = new_tensor(TENSOR_VIEW, dtype, n_dims, shape);
    view->source = source_keep(source);
    view->offset = offset;
    uint64_t step = 1;
    for (unsigned i = n_dims; i-- > 0;) {
        view->strides[i] = strides ? strides[i] : step;
        step *= bytes ? shape[i] : 1;
    }
    if (bytes > 0 && (!view_end(view, &end) || end > source->size)) {
        fail(err, "its bytes end at %llu, but the data ends at %llu",
             (unsigned long long)(view_end(view, &end) ? end : UINT64_MAX), (unsigned long long)source->size);
        tensor_free(view);
        return NULL;
    }
    return view;
}

struct tensor *tensor_zeros(enum dtype dtype, unsigned n_dims, const uint64_t *shape, struct error *err)
{
    uint64_t bytes;
    return check_shape(dtype, n_dims, shape, &bytes, err) ? new_tensor(TENSOR_ZEROS, dtype, n_dims, shape)
                                                          : NULL;
}

/* Whether b continues a along dim, so that both are one view (or one block of zeros). */
static bool continues(const struct tensor *a, const struct tensor *b, unsigned dim)
{
    if (a->kind != b->kind || a->kind == TENSOR_CONCAT)
        return false;
    if (a->kind == TENSOR_ZEROS)
        return true;
    if (a->source != b->source ||
        b->offset != a->offset + a->shape[dim] * a->strides[dim] * dtype_size(a->dtype))
        return false;
    for (unsigned i = 0; i < a->n_dims; i++)
        if (a->strides[i] != b->strides[i] && (i == dim || a->shape[i] > 1))
            return false;
    return true;
}

static struct tensor *widened(const struct tensor *a, unsigned dim, uint64_t more)
{
    struct tensor *wide = new_tensor(a->kind, a->dtype, a->n_dims, a->shape);
    wide->shape[dim] += more;
    wide->offset = a->offset;
    memcpy(wide->strides, a->strides, a->n_dims * sizeof *a->strides);
    wide->source = a->source ? source_keep(a->source) : NULL;
    return wide;
}

struct part_list {
    struct tensor **items;
    size_t n, capacity;
};

/* Adds a part in simplest form: without empty parts, with nested concatenations opened and neighbours joined.
 */
static void add_part(struct part_list *list, unsigned dim, struct tensor *part)
{
    if (part->kind == TENSOR_CONCAT && part->dim == dim) {
        for (size_t i = 0; i < part->n_parts; i++)
            add_part(list, dim, part->parts[i]);
        return;
    }
    if (part->shape[dim] == 0)
        return;
    if (list->n > 0 && continues(list->items[list->n - 1], part, dim)) {
        struct tensor *last = list->items[list->n - 1];
        list->items[list->n - 1] = widened(last, dim, part->shape[dim]);
        tensor_free(last);
        return;
    }
    GROW(list->items, list->n, list->capacity);
    list->items[list->n++] = tensor_keep(part);
}

static bool check_parts(unsigned dim, struct tensor *const *parts, size_t n_parts, uint64_t *length,
                        struct error *err)
{
    char first[256], other[256];
    *length = 0;
    for (size_t i = 0; i < n_parts; i++) {
        const struct tensor *a = parts[0], *b = parts[i];
        bool same = a->dtype == b->dtype && a->n_dims == b->n_dims && dim < a->n_dims;
        for (unsigned d = 0; same && d < a->n_dims; d++)
            same = d == dim || a->shape[d] == b->shape[d];
        if (!same || !add_u64(*length, b->shape[dim], length)) {
            tensor_shape_text(a, first, sizeof first);
            tensor_shape_text(b, other, sizeof other);
            return fail(err, "pieces %s %s and %s %s cannot be joined along dimension %u",
                        dtype_name(a->dtype), first, dtype_name(b->dtype), other, dim);
        }
    }
    return true;
}

struct tensor *tensor_concat(unsigned dim, struct tensor *const *parts, size_t n_parts, struct error *err)
{
    uint64_t length, bytes, shape[TENSOR_MAX_DIMS];
    if (!check_parts(dim, parts, n_parts, &length, err))
        return NULL;
    memcpy(shape, parts[0]->shape, parts[0]->n_dims * sizeof *shape);
    shape[dim] = length;
    if (!check_shape(parts[0]->dtype, parts[0]->n_dims, shape, &bytes, err))
        return NULL;
    struct part_list list = {0};
    for (size_t i = 0; i < n_parts; i++)
        add_part(&list, dim, parts[i]);
    if (list.n <= 1) {
        struct tensor *only = list.n ? list.items[0] : tensor_keep(parts[0]);
        free(list.items);
        return only;
    }
    struct tensor *whole = new_tensor(TENSOR_CONCAT, parts[0]->dtype, parts[0]->n_dims, shape);
    whole->dim = dim;
    whole->parts = list.items;
    whole->n_parts = list.n;
    return whole;
}

/* tensor_concat() of parts that are known to fit; releases them. */
static struct tensor *join_parts(unsigned dim, struct tensor **parts, size_t n_parts)
{
    struct error err;
    struct tensor *whole = tensor_concat(dim, parts, n_parts, &err);
    if (!whole)
        die_error(&err);
    for (size_t i = 0; i < n_parts; i++)
        tensor_free(parts[i]);
    free(parts);
    return whole;
}

static struct tensor *narrow_concat(const struct tensor *tensor, unsigned dim, uint64_t start,
                                    uint64_t length)
{
    struct tensor **parts = xcalloc(tensor->n_parts, sizeof *parts);
    size_t n = 0;
    uint64_t at = 0, end = start + length;
    for (size_t i = 0; i < tensor->n_parts; i++) {
        struct tensor *part = tensor->parts[i];
        if (dim != tensor->dim) {
            parts[n++] = tensor_narrow(part, dim, start, length);
            continue;
        }
        uint64_t size = part->shape[dim], from = start > at ? start - at : 0,
                 to = end < at + size ? end - at : size;
        if (at < end && from < to)
            parts[n++] = tensor_narrow(part, dim, from, to - from);
        at += size;
    }
    if (n == 0)
        parts[n++] = tensor_narrow(tensor->parts[0], dim, 0, 0);
    return join_parts(tensor->dim, parts, n);
}

struct tensor *tensor_narrow(struct tensor *tensor, unsigned dim, uint64_t start, uint64_t length)
{
    if (start == 0 && length == tensor->shape[dim])
        return tensor_keep(tensor);
    if (tensor->kind == TENSOR_CONCAT)
        return narrow_concat(tensor, dim, start, length);
    struct tensor *piece = new_tensor(tensor->kind, tensor->dtype, tensor->n_dims, tensor->shape);
    piece->shape[dim] = length;
    if (tensor->kind == TENSOR_VIEW) {
        memcpy(piece->strides, tensor->strides, tensor->n_dims * sizeof *tensor->strides);
        piece->offset =
            tensor->offset + (length ? start * tensor->strides[dim] * dtype_size(tensor->dtype) : 0);
        piece->source = source_keep(tensor->source);
    }
    return piece;
}

struct tensor *tensor_permute(struct tensor *tensor, const unsigned *order)
{
    if (tensor->kind == TENSOR_CONCAT) {
        struct tensor **parts = xcalloc(tensor->n_parts, sizeof *parts);
        unsigned dim = 0;
        for (size_t i = 0; i < tensor->n_parts; i++)
            parts[i] = tensor_permute(tensor->parts[i], order);
        while (order[dim] != tensor->dim)
            dim++;
        return join_parts(dim, parts, tensor->n_parts);
    }
    struct tensor *turned = new_tensor(tensor->kind, tensor->dtype, tensor->n_dims, tensor->shape);
    for (unsigned i = 0; i < tensor->n_dims; i++) {
        turned->shape[i] = tensor->shape[order[i]];
        turned->strides[i] = tensor->strides[order[i]];
    }
    turned->offset = tensor->offset;
    turned->source = tensor->source ? source_keep(tensor->source) : NULL;
    return turned;
}

uint64_t tensor_elements(const struct tensor *tensor)
{
    return tensor_bytes(tensor) / dtype_size(tensor->dtype);
}

uint64_t tensor_bytes(const struct tensor *tensor)
{
    uint64_t bytes;
    shape_bytes(tensor->dtype, tensor->n_dims, tensor->shape, &bytes); /* was checked when it was made */
    return bytes;
}

bool tensor_same_view(const struct tensor *a, const struct tensor *b)
{
    if (a == b)
        return true;
    if (a->kind != TENSOR_VIEW || b->kind != TENSOR_VIEW || a->source != b->source ||
        a->offset != b->offset || a->dtype != b->dtype || a->n_dims != b->n_dims)
        return false;
    for (unsigned i = 0; i < a->n_dims; i++)
        if (a->shape[i] != b->shape[i] || (a->strides[i] != b->strides[i] && a->shape[i] > 1))
            return false;
    return true;
}

bool tensor_in_memory(const struct tensor *tensor)
{
    for (size_t i = 0; i < tensor->n_parts; i++)
        if (tensor_in_memory(tensor->parts[i]))
            return true;
    return tensor->source && tensor->source->memory;
}

const unsigned char *tensor_memory(const struct tensor *tensor)
{
    uint64_t step = 1;
    if (tensor->kind != TENSOR_VIEW || !tensor->source->memory)
        return NULL;
    for (unsigned i = tensor->n_dims; i-- > 0;) {
        if (tensor->strides[i] != step && tensor->shape[i] > 1)
            return NULL;
        step *= tensor->shape[i];
    }
    return (const unsigned char *)tensor->source->memory + tensor->offset;
}

void dims_text(unsigned n, const uint64_t *dims, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "[");
    for (unsigned i = 0; i < n && used < size; i++)
        used +=
            (size_t)snprintf(text + used, size - used, "%s%llu", i ? "," : "", (unsigned long long)dims[i]);
    if (used < size)
        snprintf(text + used, size - used, "]");
}

void tensor_shape_text(const struct tensor *tensor, char *text, size_t size)
{
    dims_text(tensor->n_dims, tensor->shape, text, size);
}
