#include "hub_job.h"
#include "hub_signal.h"
#include "progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Why a connection stopped taking data. */
enum trouble { NO_TROUBLE, IGNORES_RANGE, WRONG_SIZE, CANNOT_WRITE };

/* One connection, and what it is receiving. */
struct connection {
    struct hub_transfer transfer;
    struct downloader *downloader;
    struct hub_job *job; /* NULL: free */
    uint64_t part;
    uint64_t offset, end; /* the next byte; the one after the last */
    bool checked;         /* the header lines were looked at */
    enum trouble trouble;
};

struct downloader {
    const struct hub_plan *plan;
    struct hub_job *jobs;
    size_t n;
    struct connection *connections;
    struct error *err;
};

/* What the header lines say must fit the request (RFC 9110, 14 and 15.3.7). */
static enum trouble check_header(const struct connection *c)
{
    const struct hub_response *r = &c->transfer.response;
    const struct hub_job *job = c->job;
    if (r->status == 206) {
        if (!r->has_range || r->range_first != (c->transfer.ranged ? c->offset : 0))
            return IGNORES_RANGE;
        return r->range_size == job->file->size ? NO_TROUBLE : WRONG_SIZE;
    }
    if (r->has_length && r->length != job->file->size)
        return WRONG_SIZE;
    return c->transfer.ranged ? IGNORES_RANGE : NO_TROUBLE;
}

static bool on_body(struct hub_transfer *transfer, const char *data, size_t length)
{
    struct connection *c = transfer->owner;
    if (!c->checked)
        c->trouble = check_header(c);
    c->checked = true;
    if (!c->trouble && length > c->end - c->offset)
        c->trouble = WRONG_SIZE;
    if (!c->trouble && !hub_job_receive(c->job, c->offset, data, length, c->downloader->err))
        c->trouble = CANNOT_WRITE;
    c->offset += length;
    return !c->trouble;
}

static void connect_part(struct connection *c, struct hub_job *job, uint64_t part)
{
    const struct hub_plan *plan = job->plan;
    struct hub_partial *partial = &job->partial;
    uint64_t done = hub_partial_part_done(partial, part);
    bool everything = job->whole || (partial->n_parts == 1 && done == 0);
    c->job = job;
    c->part = part;
    c->offset = job->whole ? 0 : part * partial->part_size + done;
    c->end =
        job->whole ? job->file->size : part * partial->part_size + hub_partial_part_length(partial, part);
    c->checked = false;
    c->trouble = NO_TROUBLE;
    c->transfer = (struct hub_transfer){.owner = c, .on_body = on_body, .ranged = !everything};
    c->transfer.first = c->offset;
    c->transfer.last = c->end - 1;
    job->busy[part] = true;
    job->connections++;
    hub_http_start(plan->http, &c->transfer, job->redirect ? job->redirect : job->url,
                   hub_http_settings(plan->http)->download_timeout);
}

static void release(struct connection *c)
{
    c->job->busy[c->part] = false;
    c->job->connections--;
    c->job = NULL;
    hub_transfer_clear(&c->transfer);
}

static void release_all(struct downloader *d, const struct hub_job *job)
{
    for (unsigned i = 0; i < d->plan->connections; i++)
        if (d->connections[i].job == job)
            release(&d->connections[i]);
}

/* A part that no connection is receiving, or the number of parts. */
static uint64_t free_part(const struct hub_job *job)
{
    const struct hub_partial *p = &job->partial;
    if (job->whole)
        return job->connections ? p->n_parts : 0;
    for (uint64_t i = p->frontier; i < p->n_parts; i++)
        if (!job->busy[i] && hub_partial_part_done(p, i) < hub_partial_part_length(p, i))
            return i;
    return p->n_parts;
}

/* Gives work to a connection: the first file that has any, so that few files are open at a time. *later is
 * when there may be more. */
static bool find_work(struct downloader *d, struct connection *c, double *later)
{
    double now = hub_now();
    unsigned open = 0;
    for (size_t i = 0; i < d->n && !c->job; i++) {
        struct hub_job *job = &d->jobs[i];
        bool waiting = job->state == JOB_WAITING, due = job->not_before <= now;
        if (job->state == JOB_DONE)
            continue;
        if (!due && job->not_before < *later)
            *later = job->not_before;
        if (waiting && (!due || open >= d->plan->connections))
            continue;
        if (waiting && !hub_job_open(job, d->err))
            return false;
        open += job->state == JOB_RECEIVING || job->state == JOB_VERIFYING;
        if (job->state == JOB_RECEIVING && due && free_part(job) < job->partial.n_parts)
            connect_part(c, job, free_part(job));
    }
    return true;
}

static bool refused(struct downloader *d, struct connection *c)
{
    struct hub_job *job = c->job;
    const struct hub_transfer *t = &c->transfer;
    long status = t->response.status;
    if (status == 416) {
        release_all(d, job);
        return hub_job_discard(job, "the server has no such range (416)", d->err);
    }
    if (!t->redirected && !hub_is_transient(status))
        return hub_explain(d->plan->http, d->plan->repo, job->file->path, t, d->err);
    /* A signed address may have expired: the next try asks the endpoint for a new one. */
    free(job->redirect);
    job->redirect = NULL;
    return hub_job_failed(job, t, d->err);
}

static bool stopped(struct downloader *d, struct connection *c)
{
    struct hub_job *job = c->job;
    const struct hub_response *r = &c->transfer.response;
    char why[96];
    uint64_t size = r->status == 206 ? r->range_size : r->has_length ? r->length : c->offset;
    switch (c->trouble) {
    case IGNORES_RANGE:
        release_all(d, job);
        if (!job->whole) {
            job->whole = true;
            return true;
        }
        return fail(d->err, "%s: the server answers with another range than was asked for", job->file->path);
    case WRONG_SIZE:
        snprintf(why, sizeof why, "the server sends %llu bytes instead of %llu", (unsigned long long)size,
                 (unsigned long long)job->file->size);
        release_all(d, job);
        return hub_job_discard(job, why, d->err);
    default:
        return false; /* the error is there already */
    }
}

/* Decides what follows from the end of a transfer. */
static bool finish_transfer(struct downloader *d, struct connection *c)
{
    struct hub_job *job = c->job;
    struct hub_transfer *t = &c->transfer;
    bool ok = true;
    if (t->outcome == HUB_COMPLETE && t->redirected && !job->redirect)
        job->redirect = xstrdup(t->url);
    if (job->state != JOB_RECEIVING) { /* all bytes are there: the digest decides */
        release(c);
        return true;
    }
    switch (t->outcome) {
    case HUB_COMPLETE:
        if (!c->checked && (c->trouble = check_header(c)) != NO_TROUBLE) { /* a body of no bytes */
            ok = stopped(d, c);
        } else if (c->offset < c->end) {
            snprintf(t->problem, sizeof t->problem, "the answer ended early");
            t->outcome = HUB_DROPPED;
            ok = hub_job_failed(job, t, d->err);
        }
        break;
    case HUB_STATUS:
        ok = refused(d, c);
        break;
    case HUB_STOPPED:
        ok = stopped(d, c);
        break;
    case HUB_DROPPED:
        ok = hub_job_failed(job, t, d->err);
        break;
    case HUB_IMPOSSIBLE:
        ok = hub_transfer_fail(t, job->file->path, d->err);
        break;
    }
    if (c->job)
        release(c);
    return ok;
}

/* Gives work to idle connections and looks after digests. *left is how many files are not done. */
static bool arrange(struct downloader *d, double *later, size_t *left)
{
    for (size_t i = 0; i < d->n; i++) {
        struct hub_job *job = &d->jobs[i];
        if (job->state == JOB_VERIFYING && !job->connections && !hub_job_verify(job, d->err))
            return false;
    }
    for (unsigned i = 0; i < d->plan->connections; i++) {
        struct connection *c = &d->connections[i];
        if (!c->job && !find_work(d, c, later))
            return false;
        if (!c->job)
            break;
    }
    *left = 0;
    for (size_t i = 0; i < d->n; i++)
        *left += d->jobs[i].state != JOB_DONE;
    return true;
}

static bool run(struct downloader *d)
{
    for (;;) {
        size_t left;
        double later = hub_now() + 0.25; /* so often does the progress line change */
        if (!arrange(d, &later, &left))
            return false;
        if (left == 0)
            return true;
        double wait = later - hub_now();
        struct hub_transfer *ended = hub_http_wait(d->plan->http, wait > 0 ? (int)(wait * 1000) + 1 : 0);
        if (hub_interrupted())
            return fail(d->err, "interrupted; the same command goes on where it stopped");
        if (ended && !finish_transfer(d, ended->owner))
            return false;
        progress_add(0);
    }
}

bool hub_download(const struct hub_plan *plan, const struct hub_need *need, struct error *err)
{
    struct downloader d = {.plan = plan, .err = err};
    uint64_t total = 0;
    d.connections = xcalloc(plan->connections, sizeof *d.connections);
    d.jobs = xcalloc(need->missing, sizeof *d.jobs);
    for (unsigned i = 0; i < plan->connections; i++)
        d.connections[i].downloader = &d;
    for (size_t i = 0; i < plan->n; i++)
        if (need->is_missing[i])
            hub_job_init(&d.jobs[d.n++], plan, &plan->files[i]);
    for (size_t i = 0; i < d.n; i++)
        total += d.jobs[i].expected;
    if (plan->show_progress)
        progress_begin("downloading", total);
    bool ok = run(&d);
    if (ok)
        progress_end();
    for (unsigned i = 0; i < plan->connections; i++)
        if (d.connections[i].job)
            release(&d.connections[i]);
    for (size_t i = 0; i < d.n; i++)
        hub_job_close(&d.jobs[i]);
    free(d.jobs);
    free(d.connections);
    return ok;
}
