/* A file that is not yet complete: parts of it arrive in any order, and all of it survives kill -9.
 *
 * The bytes stand where they belong, and behind them, on the next page, a journal says how many bytes at the
 * beginning of each part are there. The journal is mapped into memory: the kernel keeps what was stored there
 * when the process dies, without a system call for every write. (A power failure may lose more; the digest of
 * the whole file shows that.) The journal is in the byte order of the machine.
 *
 * huggingface_hub resumes BLOB.incomplete at its size, so a file with holes must not have that name: Python
 * would take the holes for data, and it checks sizes only. Ours is BLOB.ranges.incomplete; what Python left
 * in BLOB.incomplete is taken over up to its first hole. */
#ifndef HUB_PARTIAL_H
#define HUB_PARTIAL_H

#include "fail.h"

#include <stdint.h>
#include <stdio.h>

struct hub_partial {
    char *path;
    int fd;
    uint64_t size;      /* of the complete file */
    uint64_t part_size; /* of every part but the last */
    uint64_t n_parts;
    uint64_t frontier;           /* parts before this one are complete */
    struct hub_journal *journal; /* mapped */
    uint64_t journal_offset, journal_length;
};

/* Opens or creates path for a file of size bytes. foreign: a file to take over when path does not exist, or
 * NULL. Nobody else may have it open: the caller holds the blob's lock. */
bool hub_partial_open(struct hub_partial *partial, const char *path, const char *foreign, uint64_t size,
                      struct error *err);

/* Writes bytes at offset, which must not be beyond what the part already has. *fresh is how many of them were
 * not there yet. */
bool hub_partial_write(struct hub_partial *partial, uint64_t offset, const void *data, uint64_t length,
                       uint64_t *fresh, struct error *err);

uint64_t hub_partial_part_length(const struct hub_partial *partial, uint64_t part);
/* Bytes that are there: at the beginning of a part, at the beginning of the file, altogether. */
uint64_t hub_partial_part_done(const struct hub_partial *partial, uint64_t part);
uint64_t hub_partial_prefix(struct hub_partial *partial);
uint64_t hub_partial_done(const struct hub_partial *partial);

/* Forgets all bytes. */
bool hub_partial_reset(struct hub_partial *partial, struct error *err);

/* Gives the complete file its name. Closes it, whether that succeeds or not. */
bool hub_partial_finish(struct hub_partial *partial, const char *name, struct error *err);

/* Closes the file and keeps it for the next run; or removes it. */
void hub_partial_close(struct hub_partial *partial);
void hub_partial_discard(struct hub_partial *partial);

/* How many bytes of a file of this size the partial file at path has; 0 if it cannot be used. */
uint64_t hub_partial_peek(const char *path, uint64_t size);

#endif
