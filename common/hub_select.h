/* Which files of a repository are wanted, and whether their names may be used as paths. */
#ifndef HUB_SELECT_H
#define HUB_SELECT_H

#include "hub_api.h"
#include "options.h"

struct hub_selection {
    struct option_list include, exclude; /* globs as in huggingface_hub: '*' also matches '/' */
    bool all;
};

/* Moves the wanted files to the front of listing->files (in the server's order) and sets *n to their number.
 * Without include and all that is what a conversion needs: configuration, tokenizer, and weights (safetensors
 * if there are any, else .bin). False when nothing is wanted, no weights are there, or a name is not safe. */
bool hub_select(struct hub_listing *listing, const struct hub_selection *selection, size_t *n,
                struct error *err);

/* Whether a file name from the server stays below the directory it is put into. */
bool hub_path_is_safe(const char *path);

#endif
