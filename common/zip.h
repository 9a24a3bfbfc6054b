/* Where the entries of a zip archive are in its file.
 *
 * libarchive reads the structure of the archive, and gives the data of no tensor: what is wanted here are
 * offsets. Zip64, data descriptors (the central directory is what counts) and any number of entries are its
 * matter. */
#ifndef ZIP_H
#define ZIP_H

#include "fail.h"
#include "names.h"

#include <stdint.h>

struct zip_entry {
    bool stored;     /* neither compressed nor encrypted */
    uint64_t offset; /* of a stored entry: bytes from the beginning of the file to its data */
    uint64_t size;   /* bytes, uncompressed */
};

struct zip {
    const char *path; /* the caller's */
    int fd;           /* the caller's */
    struct names names;
    struct zip_entry *entries; /* by number of the name */
    size_t capacity;
};

/* Reads the structure of the archive on fd, whose size is given. Every stored entry lies inside the file.
 * path and fd must outlive the zip, which the caller ends with zip_close(), also after a failure. */
bool zip_open(struct zip *zip, const char *path, int fd, uint64_t size, struct error *err);
/* NULL when there is no such entry. */
const struct zip_entry *zip_find(const struct zip *zip, const char *name);
/* An entry's bytes, stored or compressed, followed by a NUL; the caller frees them. An error when there are
 * more than limit. */
unsigned char *zip_read(const struct zip *zip, const char *name, size_t limit, size_t *length,
                        struct error *err);
void zip_close(struct zip *zip);

#endif
