/* Writing safetensors files.
 *
 * The header comes first in the file, so its size must be known before the first payload is placed. When the
 * tensors travel by reference all of them are known first. When they come inline, room is reserved for the
 * header, and what it does not take is filled with spaces, which the format allows at its end. */
#ifndef SAFETENSORS_WRITE_H
#define SAFETENSORS_WRITE_H

#include "copy.h"
#include "stream.h"

enum {
    SAFETENSORS_RESERVE = 256 << 10
}; /* bytes kept for the header of a file that is filled as tensors come */

struct safetensors_member {
    char *name;
    struct tensor *tensor; /* its data until it is placed, then its dtype and shape only */
    uint64_t begin;        /* relative to the end of the header */
};

/* A file that is being written. */
struct safetensors_file {
    struct copy_file file;
    char *path;
    struct safetensors_member *members;
    size_t n, capacity;
    uint64_t bytes;       /* of data */
    size_t header_bytes;  /* of the members' part of the header, as written so far */
    struct strbuf header; /* once it is made */
    bool as_they_come;    /* payloads are placed when they are added */
};

/* path is copied. */
struct safetensors_file *safetensors_file_new(const char *path, bool as_they_come);
void safetensors_file_free(struct safetensors_file *file);
/* Whether the tensor can be added: its place is aligned and the header has room. Always true unless
 * as_they_come. */
bool safetensors_file_fits(const struct safetensors_file *file, const struct record *record);
/* Adds a tensor. An error for a dtype that safetensors does not have. */
bool safetensors_file_add(struct safetensors_file *file, struct copy_plan *plan, const struct record *record,
                          struct error *err);
/* No more tensors come: places what has not been placed, ordered by alignment and name, and plans its
 * copying. */
void safetensors_file_close(struct safetensors_file *file, struct copy_plan *plan);

#endif
