/* One file that is being downloaded: what hub_download.c (which connection does what) and hub_job.c (what
 * becomes of the file) share. */
#ifndef HUB_JOB_H
#define HUB_JOB_H

#include "hub_digest.h"
#include "hub_download.h"
#include "hub_partial.h"

enum job_state { JOB_WAITING, JOB_RECEIVING, JOB_VERIFYING, JOB_DONE };

struct hub_job {
    const struct hub_plan *plan;
    const struct hub_file *file;
    enum job_state state;
    double not_before; /* hub_now() time: when a connection or the lock may be tried again */
    double waiting_since;
    int lock;
    struct hub_partial partial;
    struct hub_digest *digest;
    char *url;      /* at the endpoint */
    char *redirect; /* where it led to, or NULL */
    bool *busy;     /* one a part: a connection is receiving it */
    unsigned connections;
    bool whole;         /* the server ignores Range: everything comes over one connection */
    unsigned failures;  /* in a row, without a byte between them */
    unsigned discarded; /* how often all of it was thrown away */
    uint64_t expected;  /* bytes that the progress line counts on from now */
};

void hub_job_init(struct hub_job *job, const struct hub_plan *plan, const struct hub_file *file);

/* Takes the lock and opens the partial file: JOB_WAITING becomes JOB_RECEIVING or JOB_VERIFYING; JOB_DONE if
 * somebody else has downloaded it; or stays, if somebody is just doing that. */
bool hub_job_open(struct hub_job *job, struct error *err);

/* Writes what has arrived. */
bool hub_job_receive(struct hub_job *job, uint64_t offset, const char *data, size_t length,
                     struct error *err);

/* Notes that a connection failed. False when that was once too often; why is for the message. */
bool hub_job_failed(struct hub_job *job, const struct hub_transfer *transfer, struct error *err);

/* Throws away what has arrived, because of why. False when that was done before. No connection may be busy
 * with the job. */
bool hub_job_discard(struct hub_job *job, const char *why, struct error *err);

/* Compares the digest when it is there: JOB_VERIFYING becomes JOB_DONE, or JOB_RECEIVING again. */
bool hub_job_verify(struct hub_job *job, struct error *err);

/* Closes everything. The partial file stays. */
void hub_job_close(struct hub_job *job);

#endif
