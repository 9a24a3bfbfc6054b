/* Copying tensors into files, with several threads.
 *
 * A plan is a list of payloads; copy_run() fills them in order, cut into pieces that threads take one by one,
 * and finishes each file as soon as its last payload is there. No file stays open between pieces. The
 * functions end the program on failure. */
#ifndef COPY_H
#define COPY_H

#include "materialize.h"
#include "torch_write.h"

/* A file that is being written. Whoever plans it embeds or owns it and sees to it that it lives until
 * copy_run() ends. */
struct copy_file {
    const char *path;
    /* Gets the CRC-32 of payload `index` when that is complete, from any thread; NULL when nobody needs it.
     */
    void (*payload_done)(struct copy_file *file, size_t index, uint32_t crc);
    /* Writes what stands around the payloads; called once, from any thread, when all of them are there. */
    void (*finish)(struct copy_file *file);
    void *context;
    _Atomic uint64_t pending; /* payloads that are not there yet */
};

struct copy_plan;

/* The copy_file of a torch archive: compose puts the entries behind the payloads. */
struct copy_archive {
    struct copy_file file;
    struct archive *archive;
    void (*compose)(struct copy_archive *archive);
    void *context;
};
/* Takes over the archive; copy_archive_free() releases it. */
void copy_archive_init(struct copy_archive *file, struct archive *archive,
                       void (*compose)(struct copy_archive *), void *context);
void copy_archive_free(struct copy_archive *file);
/* Plans the tensor as an entry of the archive, and its copying. */
void copy_archive_add(struct copy_plan *plan, struct copy_archive *file, const char *entry,
                      struct tensor *tensor);

struct copy_plan *copy_plan_new(unsigned jobs);
/* Adds a file to be finished by copy_run(). */
void copy_add_file(struct copy_plan *plan, struct copy_file *file);
/* Adds a payload: the tensor's bytes, from offset `at` on in the file. Keeps the tensor. A tensor in memory
 * is copied at once, so that it does not have to stay there. */
void copy_add(struct copy_plan *plan, struct copy_file *file, size_t index, uint64_t at,
              struct tensor *tensor);
/* Bytes of the payloads that are still to be copied. */
uint64_t copy_pending_bytes(const struct copy_plan *plan);
/* Copies, finishes all files, checks that no source has changed, frees the plan. */
void copy_run(struct copy_plan *plan);

#endif
