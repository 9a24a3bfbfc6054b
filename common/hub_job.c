#include "hub_job.h"

#include "hub_signal.h"
#include "progress.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double lock_interval = 0.2, lock_notice = 3; /* seconds */

/* The progress line can only be told of more bytes; unsigned arithmetic makes taking back work as well. */
static void progress_take_back(uint64_t bytes)
{
    progress_add(0 - bytes);
}

void hub_job_init(struct hub_job *job, const struct hub_plan *plan, const struct hub_file *file)
{
    *job = (struct hub_job){.plan = plan, .file = file, .lock = -1, .partial = {.fd = -1}};
    job->url = hub_file_url(plan->http, plan->repo, plan->store->commit, file->path);
    char *path = hub_store_partial(plan->store, file);
    job->expected = file->size - hub_partial_peek(path, file->size);
    free(path);
}

static void start_digest(struct hub_job *job)
{
    job->digest = hub_digest_start(job->partial.fd, job->file->kind, job->file->size, true);
    hub_digest_available(job->digest, hub_partial_prefix(&job->partial));
    job->state = hub_partial_prefix(&job->partial) == job->file->size ? JOB_VERIFYING : JOB_RECEIVING;
}

static void unlock(struct hub_job *job)
{
    if (job->lock >= 0)
        close(job->lock);
    job->lock = -1;
}

static bool try_lock(struct hub_job *job, struct error *err)
{
    char *path = hub_store_lock(job->plan->store, job->file);
    bool ok = hub_lock(path, &job->lock, err);
    free(path);
    if (!ok || job->lock >= 0)
        return ok;
    double now = hub_now();
    if (job->waiting_since == 0)
        job->waiting_since = now;
    else if (job->waiting_since > 0 && now - job->waiting_since > lock_notice) {
        warning("%s: it is already being downloaded by another process; waiting for that", job->file->path);
        job->waiting_since = -1; /* said once */
    }
    job->not_before = now + lock_interval;
    return true;
}

bool hub_job_open(struct hub_job *job, struct error *err)
{
    const struct hub_store *store = job->plan->store;
    bool found;
    if (!try_lock(job, err))
        return false;
    if (job->lock < 0)
        return true;
    if (!hub_store_find(store, job->file, &found, err))
        return false;
    if (found) {
        progress_add(job->expected);
        job->state = JOB_DONE;
        unlock(job);
        return true;
    }
    char *path = hub_store_partial(store, job->file), *foreign = hub_store_foreign(store, job->file);
    bool ok = hub_store_prepare(store, job->file, err) &&
              hub_partial_open(&job->partial, path, foreign, job->file->size, err);
    free(path);
    free(foreign);
    if (!ok)
        return false;
    uint64_t left = job->file->size - hub_partial_done(&job->partial);
    progress_add(job->expected - left); /* another process may have gone on with it meanwhile */
    job->expected = left;
    job->busy = xcalloc(job->partial.n_parts + 1, sizeof *job->busy);
    start_digest(job);
    return true;
}

bool hub_job_receive(struct hub_job *job, uint64_t offset, const char *data, size_t length, struct error *err)
{
    uint64_t fresh;
    if (!hub_partial_write(&job->partial, offset, data, length, &fresh, err))
        return false;
    if (fresh > 0)
        job->failures = 0;
    job->expected -= fresh;
    progress_add(fresh);
    uint64_t prefix = hub_partial_prefix(&job->partial);
    hub_digest_available(job->digest, prefix);
    if (prefix == job->file->size)
        job->state = JOB_VERIFYING;
    return true;
}

bool hub_job_failed(struct hub_job *job, const struct hub_transfer *transfer, struct error *err)
{
    double now = hub_now();
    if (now < job->not_before)
        return true; /* several connections failed together: that counts once */
    if (job->failures == hub_http_settings(job->plan->http)->retries) {
        char *what = xasprintf("%s: given up after %u tries; what has arrived is kept", job->file->path,
                               job->failures + 1);
        hub_transfer_fail(transfer, what, err);
        free(what);
        return false;
    }
    job->not_before = now + hub_backoff(job->failures++, transfer->response.retry_after);
    return true;
}

bool hub_job_discard(struct hub_job *job, const char *why, struct error *err)
{
    progress_take_back(hub_partial_done(&job->partial));
    job->expected += hub_partial_done(&job->partial);
    hub_digest_stop(job->digest, NULL, NULL);
    job->digest = NULL;
    free(job->redirect);
    job->redirect = NULL;
    if (job->discarded++ > 0) {
        hub_partial_discard(&job->partial);
        return fail(err, "%s: %s, twice; thrown away. The file on the server may be damaged: try again later",
                    job->file->path, why);
    }
    warning("%s: %s; thrown away, fetching it once more", job->file->path, why);
    if (!hub_partial_reset(&job->partial, err))
        return false;
    start_digest(job);
    return true;
}

bool hub_job_verify(struct hub_job *job, struct error *err)
{
    char hex[HUB_HEX_SIZE];
    if (!hub_digest_is_done(job->digest))
        return true;
    bool ok = hub_digest_stop(job->digest, hex, err);
    job->digest = NULL;
    if (!ok)
        return false;
    if (strcmp(hex, job->file->digest) != 0) {
        char *why = xasprintf("its content has the %s %.12s... instead of %.12s...",
                              job->file->kind == HUB_SHA256 ? "SHA-256" : "git id", hex, job->file->digest);
        job->digest = hub_digest_start(job->partial.fd, job->file->kind, job->file->size, true);
        ok = hub_job_discard(job, why, err);
        free(why);
        return ok;
    }
    char *target = hub_store_target(job->plan->store, job->file);
    ok = hub_partial_finish(&job->partial, target, err) && hub_store_place(job->plan->store, job->file, err);
    free(target);
    if (ok)
        job->state = JOB_DONE;
    unlock(job);
    return ok;
}

void hub_job_close(struct hub_job *job)
{
    if (job->digest)
        hub_digest_stop(job->digest, NULL, NULL);
    job->digest = NULL;
    hub_partial_close(&job->partial);
    unlock(job);
    free(job->url);
    free(job->redirect);
    free(job->busy);
    job->url = job->redirect = NULL;
    job->busy = NULL;
}
