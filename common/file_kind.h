/* Opening files, and what kind of file something is: by its first bytes and never by its name. */
#ifndef FILE_KIND_H
#define FILE_KIND_H

#include "fail.h"

#include <stddef.h>
#include <stdint.h>

enum file_kind {
    FILE_ZIP,          /* torch.save since PyTorch 1.6, or any other zip */
    FILE_TORCH_LEGACY, /* torch.save before that: a run of pickles */
    FILE_PICKLE,       /* a pickle that torch.save has not made */
    FILE_SAFETENSORS
};

/* Opens a regular file for reading; -1 after filling err. The caller closes it. */
int open_file(const char *path, uint64_t *size, struct error *err);

/* Reads exactly length bytes at offset. path is for messages. */
bool read_exactly(int fd, void *bytes, size_t length, uint64_t offset, const char *path, struct error *err);

/* An error that says what the file is when it is none of the above. */
bool file_kind(int fd, uint64_t size, const char *path, enum file_kind *kind, struct error *err);

#endif
