/* Questions to the Hub's API about a model repository.
 *
 * Endpoints and fields are those of the Hub API Endpoints page of the Hub documentation and of
 * huggingface_hub's HfApi.model_info and HfApi.list_repo_tree. */
#ifndef HUB_API_H
#define HUB_API_H

#include "hub_http.h"

enum hub_digest_kind {
    HUB_SHA256,  /* of the content: files in large file storage */
    HUB_GIT_SHA1 /* git's blob id, sha1 of "blob SIZE\0" and the content: all other files */
};

enum { HUB_HEX_SIZE = 65 }; /* bytes of a digest in hexadecimal, with its NUL */

struct hub_file {
    char *path; /* as the server says it: see hub_path_is_safe() */
    uint64_t size;
    enum hub_digest_kind kind;
    char digest[HUB_HEX_SIZE]; /* also the file's ETag, and the name of its blob in the cache */
};

struct hub_listing {
    struct hub_file *files;
    size_t n, capacity;
};

/* Finds the commit (40 hexadecimal digits) that a branch, tag or commit means now. */
bool hub_find_commit(struct hub_http *http, const char *repo, const char *revision, char commit[HUB_HEX_SIZE],
                     struct error *err);

/* Lists all files of a commit. The caller ends with hub_listing_free(), also after a failure. */
bool hub_list_files(struct hub_http *http, const char *repo, const char *commit, struct hub_listing *listing,
                    struct error *err);
void hub_listing_free(struct hub_listing *listing);

/* The address of a file's content, which the caller frees. */
char *hub_file_url(const struct hub_http *http, const char *repo, const char *commit, const char *path);

/* Fills *err with what a refusal (401, 403, 404) of the endpoint means and what to do. Always false. */
bool hub_explain(const struct hub_http *http, const char *repo, const char *what,
                 const struct hub_transfer *transfer, struct error *err);

/* Whether text is the name of a model, ORG/NAME or NAME, by huggingface_hub's validate_repo_id. */
bool hub_repo_is_valid(const char *text);

/* Whether text is 40 hexadecimal digits. */
bool hub_is_commit(const char *text);

#endif
