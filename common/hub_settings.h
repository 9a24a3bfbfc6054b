/* What the environment says about the Hugging Face Hub.
 *
 * The variables and their defaults are those of the huggingface_hub Python library, documented on its page
 * "Environment variables": HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_HUB_DISABLE_PROGRESS_BARS,
 * HF_HUB_ETAG_TIMEOUT, HF_HUB_DOWNLOAD_TIMEOUT, HF_TOKEN, HF_TOKEN_PATH. The struct owns its strings. */
#ifndef HUB_SETTINGS_H
#define HUB_SETTINGS_H

#include "fail.h"

struct hub_settings {
    char *endpoint;                      /* scheme://host[:port][/path] without a slash at the end */
    char *cache;                         /* the directory that has models--ORG--NAME in it */
    char *token_path;                    /* the file that `hf auth login` writes */
    char *token;                         /* NULL: anonymous */
    char *ca_file;                       /* certificates to trust instead of the system's, or NULL */
    long etag_timeout, download_timeout; /* seconds without an answer */
    unsigned retries;                    /* how often a request is repeated before it counts as failed */
    bool offline, no_progress;
};

/* Reads the environment. endpoint and cache come from the command line and may be NULL. The token is not
 * looked for: see hub_token.h. */
bool hub_settings_read(struct hub_settings *settings, const char *endpoint, const char *cache,
                       struct error *err);
void hub_settings_free(struct hub_settings *settings);

#endif
