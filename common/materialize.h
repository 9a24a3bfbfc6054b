/* Turning tensors into bytes, row-major and little-endian: the only place that reads tensor data.
 *
 * A materializer keeps a few files open and belongs to one thread. Before it reads from a file, and again
 * when it closes it, it checks that the file is still the one its source was made of (device, inode, size,
 * mtime), so that changed bytes are an error and never pass for the tensor's. */
#ifndef MATERIALIZE_H
#define MATERIALIZE_H

#include "tensor.h"

enum { MATERIALIZE_BLOCK = 1 << 20 }; /* bytes handed on at once; a multiple of every element size */

struct materializer;

/* For one of `threads` that work at the same time, which share the process's file descriptors. */
struct materializer *materializer_new(unsigned threads);
/* False when a file that was read has changed meanwhile. Frees the materializer either way. */
bool materializer_finish(struct materializer *m, struct error *err);

/* Bytes begin … begin+length-1 of the tensor's row-major form, in order, in blocks of at most
 * MATERIALIZE_BLOCK. begin must be a multiple of the element size. consume gets each block and returns false,
 * with err filled, to stop. */
bool materialize(struct materializer *m, const struct tensor *tensor, uint64_t begin, uint64_t length,
                 bool (*consume)(void *context, const unsigned char *bytes, size_t n, struct error *err),
                 void *context, struct error *err);

/* The elements of two tensors of the same shape and dtype side by side, row-major, in blocks of n from
 * element `first` on. consume returns false when it needs no more. */
bool materialize_pair(struct materializer *m, const struct tensor *a, const struct tensor *b,
                      bool (*consume)(void *context, uint64_t first, const unsigned char *of_a,
                                      const unsigned char *of_b, size_t n),
                      void *context, struct error *err);

/* Whether two tensors of the same shape and dtype hold the same bytes. */
bool materialize_equal(struct materializer *m, const struct tensor *a, const struct tensor *b, bool *equal,
                       struct error *err);

/* SHA-256 of the tensor's bytes, as 64 hexadecimal digits and a NUL. */
bool materialize_sha256(struct materializer *m, const struct tensor *tensor, char digits[65],
                        struct error *err);

#endif
