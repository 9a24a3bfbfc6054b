#include "copy.h"

#include "output.h"
#include "progress.h"

#include <libdeflate.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

enum {
    PIECE = 64 << 20
}; /* bytes of a payload that a thread takes at once; a multiple of every element size */

struct payload {
    struct copy_archive *archive;
    size_t index;
    struct tensor *tensor;
    uint32_t *crcs;           /* of its pieces */
    _Atomic uint64_t pending; /* pieces that are not there yet */
};

struct copy_plan {
    unsigned jobs;
    struct copy_archive **archives;
    size_t n_archives, archives_capacity;
    struct payload *payloads;
    size_t n_payloads, payloads_capacity;
    uint64_t bytes;
    struct materializer *materializer; /* for what is copied at once */
    pthread_mutex_t lock;
    size_t next_payload; /* the next piece to take */
    uint64_t next_piece;
};

struct copy_plan *copy_plan_new(unsigned jobs)
{
    struct copy_plan *plan = xcalloc(1, sizeof *plan);
    plan->jobs = jobs;
    pthread_mutex_init(&plan->lock, NULL);
    return plan;
}

void copy_add_archive(struct copy_plan *plan, struct copy_archive *archive)
{
    GROW(plan->archives, plan->n_archives, plan->archives_capacity);
    plan->archives[plan->n_archives++] = archive;
}

uint64_t copy_pending_bytes(const struct copy_plan *plan)
{
    return plan->bytes;
}

static uint64_t piece_count(const struct tensor *tensor)
{
    uint64_t bytes = tensor_bytes(tensor);
    return bytes == 0 ? 1 : (bytes - 1) / PIECE + 1;
}

struct sink {
    int fd;
    uint64_t offset;
    uint32_t crc;
    const char *path;
};

static bool put_block(void *context, const unsigned char *bytes, size_t n, struct error *err)
{
    struct sink *sink = context;
    if (output_is_stopping())
        return fail(err, "stopped");
    sink->crc = libdeflate_crc32(sink->crc, bytes, n);
    if (!write_at(sink->fd, bytes, n, sink->offset, sink->path, err))
        return false;
    sink->offset += n;
    progress_add(n);
    return true;
}

static void copy_piece(struct materializer *m, const struct archive *archive, size_t index,
                       const struct tensor *tensor, uint64_t piece, uint32_t *crc)
{
    struct error err;
    uint64_t begin = piece * PIECE, rest = tensor_bytes(tensor) - begin;
    struct sink sink = {.offset = archive->entries[index].data_at + begin, .path = archive->path};
    sink.fd = archive_open(archive, &err);
    if (sink.fd < 0 || !materialize(m, tensor, begin, rest < PIECE ? rest : PIECE, put_block, &sink, &err)) {
        if (output_is_stopping()) /* another thread has said why */
            pthread_exit(NULL);
        die_error(&err);
    }
    if (close(sink.fd) != 0)
        die(EXIT_DATA, "%s: cannot write", archive->path);
    *crc = sink.crc;
}

/* CRC-32 of the pieces put together. */
static uint32_t combine(const uint32_t *crcs, const struct tensor *tensor)
{
    uint64_t n = piece_count(tensor), last = tensor_bytes(tensor) - (n - 1) * PIECE;
    uint32_t crc = crcs[0];
    for (uint64_t i = 1; i < n; i++)
        crc = (uint32_t)crc32_combine(crc, crcs[i], i + 1 < n ? (off_t)PIECE : (off_t)last);
    return crc;
}

void copy_add(struct copy_plan *plan, struct copy_archive *archive, size_t index, struct tensor *tensor)
{
    if (tensor_in_memory(tensor)) {
        uint64_t n = piece_count(tensor);
        uint32_t *crcs = xcalloc((size_t)n, sizeof *crcs);
        if (!plan->materializer)
            plan->materializer = materializer_new(plan->jobs + 1);
        for (uint64_t i = 0; i < n; i++)
            copy_piece(plan->materializer, archive->archive, index, tensor, i, &crcs[i]);
        archive->archive->entries[index].crc = combine(crcs, tensor);
        free(crcs);
        return;
    }
    GROW(plan->payloads, plan->n_payloads, plan->payloads_capacity);
    struct payload *payload = &plan->payloads[plan->n_payloads++];
    payload->archive = archive;
    payload->index = index;
    payload->tensor = tensor_keep(tensor);
    payload->crcs = NULL;
    payload->pending = piece_count(tensor);
    archive->pending++;
    plan->bytes += tensor_bytes(tensor);
}

static void finish_archive(struct copy_archive *archive)
{
    struct error err;
    archive->compose(archive);
    if (!archive_finish(archive->archive, &err))
        die_error(&err);
}

/* Takes the next piece; false when there is none. */
static bool take_piece(struct copy_plan *plan, struct payload **payload, uint64_t *piece)
{
    bool any;
    pthread_mutex_lock(&plan->lock);
    any = plan->next_payload < plan->n_payloads;
    if (any) {
        *payload = &plan->payloads[plan->next_payload];
        *piece = plan->next_piece++;
        if (*piece == 0)
            (*payload)->crcs = xcalloc((size_t)piece_count((*payload)->tensor), sizeof *(*payload)->crcs);
        if (plan->next_piece == piece_count((*payload)->tensor)) {
            plan->next_payload++;
            plan->next_piece = 0;
        }
    }
    pthread_mutex_unlock(&plan->lock);
    return any;
}

/* One piece is there. Whoever brings a payload's last piece finds all its checksums in place, and whoever
 * brings an archive's last payload finds everything: the counters order that. */
static void piece_done(struct payload *payload)
{
    if (atomic_fetch_sub(&payload->pending, 1) > 1)
        return;
    payload->archive->archive->entries[payload->index].crc = combine(payload->crcs, payload->tensor);
    free(payload->crcs);
    if (atomic_fetch_sub(&payload->archive->pending, 1) == 1)
        finish_archive(payload->archive);
}

static void *work(void *context)
{
    struct copy_plan *plan = context;
    struct materializer *m = materializer_new(plan->jobs + 1);
    struct payload *payload;
    uint64_t piece;
    struct error err;
    while (!output_is_stopping() && take_piece(plan, &payload, &piece)) {
        copy_piece(m, payload->archive->archive, payload->index, payload->tensor, piece,
                   &payload->crcs[piece]);
        piece_done(payload);
    }
    if (!materializer_finish(m, &err) && !output_is_stopping())
        die_error(&err);
    return NULL;
}

static void run_threads(struct copy_plan *plan)
{
    pthread_t *threads = xcalloc(plan->jobs, sizeof *threads);
    unsigned started = 0;
    while (started + 1 < plan->jobs && pthread_create(&threads[started], NULL, work, plan) == 0)
        started++;
    work(plan); /* this thread is one of them, and enough where no other can be had */
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    free(threads);
}

void copy_run(struct copy_plan *plan)
{
    struct error err;
    for (size_t i = 0; i < plan->n_archives; i++)
        if (plan->archives[i]->pending == 0)
            finish_archive(plan->archives[i]);
    run_threads(plan);
    if (plan->materializer && !materializer_finish(plan->materializer, &err))
        die_error(&err);
    for (size_t i = 0; i < plan->n_payloads; i++)
        tensor_free(plan->payloads[i].tensor);
    free(plan->payloads);
    free(plan->archives);
    pthread_mutex_destroy(&plan->lock);
    free(plan);
}
