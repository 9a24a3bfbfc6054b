/* Copying tensors into archives, with several threads.
 *
 * A plan is a list of payloads; copy_run() fills them in order, cut into pieces that threads take one by one,
 * and finishes each archive as soon as its last payload is there. No file stays open between pieces. The
 * functions end the program on failure. */
#ifndef COPY_H
#define COPY_H

#include "materialize.h"
#include "torch_write.h"

/* An archive with what it takes to finish it. */
struct copy_archive {
    struct archive *archive;
    /* Puts the entries behind the payloads; called once, from any thread, when all payloads are planned. */
    void (*compose)(struct copy_archive *archive);
    void *context;
    _Atomic uint64_t pending; /* pieces that are not there yet */
};

struct copy_plan;
struct copy_plan *copy_plan_new(unsigned jobs);
/* Adds an archive to be finished by copy_run(); it and its struct archive must live until then. */
void copy_add_archive(struct copy_plan *plan, struct copy_archive *archive);
/* Adds a payload: entry `index` of an archive. Keeps the tensor. A tensor in memory is copied at once, so
 * that it does not have to stay there. */
void copy_add(struct copy_plan *plan, struct copy_archive *archive, size_t index, struct tensor *tensor);
/* Bytes of the payloads that are still to be copied. */
uint64_t copy_pending_bytes(const struct copy_plan *plan);
/* Copies, finishes all archives, checks that no source has changed, frees the plan. */
void copy_run(struct copy_plan *plan);

#endif
