/* Where downloaded files are: in the Hub cache, or in a directory of plain files.
 *
 * The cache is that of huggingface_hub ("Understand caching" in its documentation):
 *     CACHE/models--ORG--NAME/refs/REVISION            the commit, 40 digits without a line end
 *     CACHE/models--ORG--NAME/blobs/ETAG               contents
 *     CACHE/models--ORG--NAME/snapshots/COMMIT/FILE -> ../../blobs/ETAG
 *     CACHE/.locks/models--ORG--NAME/ETAG.lock         flock()ed while the blob is being downloaded
 * A directory (--local-dir) has the files under their own names, and what is known about them where
 * huggingface_hub has it: DIR/.cache/huggingface/download/FILE.metadata with three lines, commit, ETag and
 * the time in seconds at which they were true. */
#ifndef HUB_STORE_H
#define HUB_STORE_H

#include "hub_api.h"

struct hub_store {
    bool local;
    bool look_only; /* hub_store_find() writes nothing */
    char *root;     /* CACHE/models--ORG--NAME, or DIR/.cache/huggingface */
    char *locks;    /* directory of the locks */
    char *partials; /* directory of contents: blobs, or those that are not complete */
    char *files;    /* directory of the files under their names: what hf-fetch prints */
    char commit[HUB_HEX_SIZE];
};

/* Names the directories; makes none of them. local_dir: NULL for the cache. The caller ends with
 * hub_store_close(). */
void hub_store_open(struct hub_store *store, const char *cache, const char *local_dir, const char *repo,
                    const char *commit);
bool hub_store_make_directories(const struct hub_store *store, struct error *err);
void hub_store_close(struct hub_store *store);

/* Whether the file is there: under its name, or (then its name is made) as a blob. */
bool hub_store_find(const struct hub_store *store, const struct hub_file *file, bool *found,
                    struct error *err);

/* Paths that belong to a file; the caller frees them. target: what a complete download is renamed to. */
char *hub_store_target(const struct hub_store *store, const struct hub_file *file);
char *hub_store_partial(const struct hub_store *store, const struct hub_file *file);
/* The incomplete file of huggingface_hub, or NULL where it has none that can be used. */
char *hub_store_foreign(const struct hub_store *store, const struct hub_file *file);
char *hub_store_lock(const struct hub_store *store, const struct hub_file *file);

/* Makes the directory that the target is in. */
bool hub_store_prepare(const struct hub_store *store, const struct hub_file *file, struct error *err);
/* Does what is left to do when the target is complete. */
bool hub_store_place(const struct hub_store *store, const struct hub_file *file, struct error *err);

/* Remembers what commit the revision is. */
bool hub_store_set_ref(const struct hub_store *store, const char *revision, struct error *err);

/* Whether a revision may be a path below refs/. */
bool hub_revision_is_valid(const char *revision);

/* Finds a model without the network. *directory is the caller's. False when it is not there, or weights that
 * its index names are missing, or there are none at all although need_weights is set. */
bool hub_store_find_offline(const char *cache, const char *local_dir, const char *repo, const char *revision,
                            bool need_weights, char **directory, struct error *err);

/* Locks a file for this process. *fd is -1 when another one has it; closing it unlocks. */
bool hub_lock(const char *path, int *fd, struct error *err);

/* Makes a directory and those above it. */
bool hub_make_directories(const char *path, struct error *err);

#endif
