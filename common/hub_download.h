/* Downloading the files of a model: several files, and several ranges of a large file, at once.
 *
 * Every file is received into a partial file that survives interruption (hub_partial.h), is verified while it
 * arrives (hub_digest.h), and only then gets its name (hub_store.h). Lost connections and busy servers are
 * tried again where they stopped; content that turns out wrong is thrown away and fetched once more. */
#ifndef HUB_DOWNLOAD_H
#define HUB_DOWNLOAD_H

#include "hub_http.h"
#include "hub_store.h"

struct hub_plan {
    struct hub_http *http;
    const struct hub_store *store;
    const char *repo;
    const struct hub_file *files; /* those that are wanted */
    size_t n;
    unsigned connections; /* at most HUB_MAX_CONNECTIONS */
    bool show_progress;
};

/* What hub_plan_measure() finds out. */
struct hub_need {
    size_t missing;   /* files */
    uint64_t bytes;   /* still to be received */
    bool *is_missing; /* one a file; the caller frees it */
};

/* Finds out which files are missing; those whose content is in the cache already get their names. */
bool hub_plan_measure(const struct hub_plan *plan, struct hub_need *need, struct error *err);

/* Checks that the file system has room for what is needed. */
bool hub_plan_check_space(const struct hub_plan *plan, const struct hub_need *need, struct error *err);

/* Downloads what is missing. After a failure, what has arrived is kept for the next run. */
bool hub_download(const struct hub_plan *plan, const struct hub_need *need, struct error *err);

#endif
