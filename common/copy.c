#include "copy.h"

#include "output.h"
#include "progress.h"

#include <fcntl.h>
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
    struct copy_file *file;
    size_t index;
    uint64_t at;
    struct tensor *tensor;
    uint32_t *crcs;           /* of its pieces */
    _Atomic uint64_t pending; /* pieces that are not there yet */
};

struct copy_plan {
    unsigned jobs;
    struct copy_file **files;
    size_t n_files, files_capacity;
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

void copy_add_file(struct copy_plan *plan, struct copy_file *file)
{
    GROW(plan->files, plan->n_files, plan->files_capacity);
    plan->files[plan->n_files++] = file;
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

static void copy_piece(struct materializer *m, const char *path, uint64_t at, const struct tensor *tensor,
                       uint64_t piece, uint32_t *crc)
{
    struct error err;
    uint64_t begin = piece * PIECE, rest = tensor_bytes(tensor) - begin;
    struct sink sink = {.offset = at + begin, .path = path};
    sink.fd = open_to_write(path, &err);
    bool ok =
        sink.fd >= 0 && materialize(m, tensor, begin, rest < PIECE ? rest : PIECE, put_block, &sink, &err);
    if (ok) /* the disk begins now, not when everything is flushed at the end */
        sync_file_range(sink.fd, (off_t)(at + begin), (off_t)(sink.offset - at - begin),
                        SYNC_FILE_RANGE_WRITE);
    if (ok && close(sink.fd) != 0)
        ok = fail_errno(&err, "%s: cannot write", path);
    if (!ok)
        die_error(&err);
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

void copy_add(struct copy_plan *plan, struct copy_file *file, size_t index, uint64_t at,
              struct tensor *tensor)
{
    if (tensor_in_memory(tensor)) {
        uint64_t n = piece_count(tensor);
        uint32_t *crcs = xcalloc((size_t)n, sizeof *crcs);
        if (!plan->materializer)
            plan->materializer = materializer_new(plan->jobs + 1);
        for (uint64_t i = 0; i < n; i++)
            copy_piece(plan->materializer, file->path, at, tensor, i, &crcs[i]);
        if (file->payload_done)
            file->payload_done(file, index, combine(crcs, tensor));
        free(crcs);
        return;
    }
    GROW(plan->payloads, plan->n_payloads, plan->payloads_capacity);
    struct payload *payload = &plan->payloads[plan->n_payloads++];
    payload->file = file;
    payload->index = index;
    payload->at = at;
    payload->tensor = tensor_keep(tensor);
    payload->crcs = NULL;
    payload->pending = piece_count(tensor);
    file->pending++;
    plan->bytes += tensor_bytes(tensor);
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
 * brings a file's last payload finds everything: the counters order that. */
static void piece_done(struct payload *payload)
{
    struct copy_file *file = payload->file;
    if (atomic_fetch_sub(&payload->pending, 1) > 1)
        return;
    if (file->payload_done)
        file->payload_done(file, payload->index, combine(payload->crcs, payload->tensor));
    free(payload->crcs);
    if (atomic_fetch_sub(&file->pending, 1) == 1)
        file->finish(file);
}

static void *work(void *context)
{
    struct copy_plan *plan = context;
    struct materializer *m = materializer_new(plan->jobs + 1);
    struct payload *payload;
    uint64_t piece;
    struct error err;
    while (!output_is_stopping() && take_piece(plan, &payload, &piece)) {
        copy_piece(m, payload->file->path, payload->at, payload->tensor, piece, &payload->crcs[piece]);
        piece_done(payload);
    }
    if (!materializer_finish(m, &err))
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
    for (size_t i = 0; i < plan->n_files; i++)
        if (plan->files[i]->pending == 0)
            plan->files[i]->finish(plan->files[i]);
    run_threads(plan);
    if (plan->materializer && !materializer_finish(plan->materializer, &err))
        die_error(&err);
    for (size_t i = 0; i < plan->n_payloads; i++)
        tensor_free(plan->payloads[i].tensor);
    free(plan->payloads);
    free(plan->files);
    pthread_mutex_destroy(&plan->lock);
    free(plan);
}

/* ---- archives ---- */

static struct copy_archive *archive_of(struct copy_file *file)
{
    return file->context;
}

static void archive_payload_done(struct copy_file *file, size_t index, uint32_t crc)
{
    archive_of(file)->archive->entries[index].crc = crc;
}

static void archive_file_finish(struct copy_file *file)
{
    struct error err;
    struct copy_archive *archive = archive_of(file);
    archive->compose(archive);
    if (!archive_finish(archive->archive, &err))
        die_error(&err);
}

void copy_archive_init(struct copy_archive *file, struct archive *archive,
                       void (*compose)(struct copy_archive *), void *context)
{
    file->archive = archive;
    file->compose = compose;
    file->context = context;
    file->file.path = archive->path;
    file->file.payload_done = archive_payload_done;
    file->file.finish = archive_file_finish;
    file->file.context = file;
    file->file.pending = 0;
}

void copy_archive_free(struct copy_archive *file)
{
    archive_free(file->archive);
    file->archive = NULL;
}

void copy_archive_add(struct copy_plan *plan, struct copy_archive *file, const char *entry,
                      struct tensor *tensor)
{
    size_t index = archive_add(file->archive, entry, tensor_bytes(tensor));
    copy_add(plan, &file->file, index, file->archive->entries[index].data_at, tensor);
}
