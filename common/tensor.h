/* The tensor algebra: a tensor is an expression over file bytes.
 *
 * It is a view (source, byte offset, shape, strides), a concatenation along one dimension, or zeros, and
 * narrow, concatenate and permute make tensors of tensors without touching data. materialize.h turns one into
 * bytes. Results are kept in their simplest form: neighbouring views that continue each other become one, so
 * cutting a tensor into pieces and joining them again gives back the view it was.
 *
 * Ownership: tensors and sources are immutable and counted. A function that returns one returns a new
 * reference, to be released with tensor_free() or source_free(); a function that takes one does not consume
 * it. Shapes and lengths are in elements, offsets in bytes. Nothing here is safe for concurrent counting. */
#ifndef TENSOR_H
#define TENSOR_H

#include "dtype.h"
#include "fail.h"

#include <stddef.h>
#include <stdint.h>

enum { TENSOR_MAX_DIMS = 64 }; /* PyTorch's own limit (c10: kMaxDims of the dispatcher's bit sets) */

/* Where bytes are: a range-addressable file as it was when it was opened, or memory. */
struct source {
    unsigned references;
    char *path; /* absolute; NULL for memory */
    uint64_t device, inode, size;
    int64_t mtime;         /* nanoseconds */
    unsigned char *memory; /* owned */
    uint64_t capacity;     /* bytes of memory, at least size */
    uint64_t stream_id;    /* the stream writer's number for it, 0 = none yet */
};

/* The file's present state. path is made absolute (no symbolic links). */
struct source *source_of_file(const char *path, struct error *err);
/* Memory for size bytes, which the caller fills before anyone reads them; NULL when there is not so much. */
struct source *source_in_memory(uint64_t size);
struct source *source_keep(struct source *source);
void source_free(struct source *source);

enum tensor_kind { TENSOR_VIEW, TENSOR_CONCAT, TENSOR_ZEROS };

struct tensor {
    unsigned references;
    enum tensor_kind kind;
    enum dtype dtype;
    unsigned n_dims;
    uint64_t *shape;
    /* view */
    struct source *source;
    uint64_t offset;   /* bytes from the beginning of source to element [0, …, 0] */
    uint64_t *strides; /* elements */
    /* concatenation */
    unsigned dim;
    size_t n_parts;
    struct tensor **parts;
};

/* A view. strides NULL means contiguous, row-major. An error when the shape or the bytes it reaches do not
 * fit in 64 bits or in the source. */
struct tensor *tensor_view(struct source *source, uint64_t offset, enum dtype dtype, unsigned n_dims,
                           const uint64_t *shape, const uint64_t *strides, struct error *err);
struct tensor *tensor_zeros(enum dtype dtype, unsigned n_dims, const uint64_t *shape, struct error *err);
/* Elements start … start+length-1 of dimension dim; the caller sees to it that they exist. */
struct tensor *tensor_narrow(struct tensor *tensor, unsigned dim, uint64_t start, uint64_t length);
/* Parts that agree in dtype and in all dimensions but dim, at least one; otherwise an error. */
struct tensor *tensor_concat(unsigned dim, struct tensor *const *parts, size_t n_parts, struct error *err);
/* Dimension i of the result is dimension order[i] of the tensor. */
struct tensor *tensor_permute(struct tensor *tensor, const unsigned *order);
struct tensor *tensor_keep(struct tensor *tensor);
void tensor_free(struct tensor *tensor);

uint64_t tensor_elements(const struct tensor *tensor);
uint64_t tensor_bytes(const struct tensor *tensor);
/* Whether both are views of the very same bytes in the same order. False does not mean that the data differ.
 */
bool tensor_same_view(const struct tensor *a, const struct tensor *b);
/* Whether any of the tensor's bytes are in memory, so that it cannot travel by reference. */
bool tensor_in_memory(const struct tensor *tensor);
/* Where the tensor's bytes are when they are in memory, row-major and without gaps; otherwise NULL. */
const unsigned char *tensor_memory(const struct tensor *tensor);
/* "[32,64]", of numbers and of a tensor's shape */
void dims_text(unsigned n, const uint64_t *dims, char *text, size_t size);
void tensor_shape_text(const struct tensor *tensor, char *text, size_t size);

#endif
