#include "hub_select.h"

#include <fnmatch.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* The names that transformers' save_pretrained writes, in the repository's main directory. */
static const char *const companions[] = {
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "*.tiktoken",
    "chat_template.*",
    NULL,
};

/* Kinds of weights, the best first: the first kind that is there is taken. A repository may have the same
 * weights again under other names (consolidated.safetensors, model.fp16.safetensors, adapters); the second
 * and fourth kind are for those that have nothing else. */
static const char *const weights[][5] = {
    {"model.safetensors", "model-*.safetensors", "model.safetensors-*", "model.safetensors.index.json", NULL},
    {"*.safetensors", "*.safetensors.index.json", NULL},
    {"pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json", NULL},
    {"*.bin", "*.bin.index.json", NULL},
};

/* Files of the general kinds that are not weights of the model. */
static const char *const not_weights[] = {"training_args.bin", "optimizer*", "scheduler*", "adapter_*",
                                          "consolidated*",     "rng_state*", NULL};

static bool matches_any(const char *const *patterns, const char *name)
{
    for (; *patterns; patterns++)
        if (fnmatch(*patterns, name, 0) == 0)
            return true;
    return false;
}

/* As huggingface_hub's filter_repo_objects: a pattern that ends in '/' means all below it. */
static bool matches_list(const struct option_list *list, const char *path)
{
    for (unsigned i = 0; i < list->n; i++) {
        char *pattern = xasprintf("%s%s", list->items[i], has_suffix(list->items[i], "/") ? "*" : "");
        bool match = fnmatch(pattern, path, 0) == 0;
        free(pattern);
        if (match)
            return true;
    }
    return false;
}

static bool is_weight(unsigned kind, const char *path)
{
    bool general = kind % 2 == 1;
    return !strchr(path, '/') && matches_any(weights[kind], path) &&
           !(general && matches_any(not_weights, path));
}

/* The best kind of weights that is there, or the number of kinds. */
static unsigned find_weights(const struct hub_listing *listing)
{
    unsigned kinds = sizeof weights / sizeof *weights, kind;
    for (kind = 0; kind < kinds; kind++)
        for (size_t i = 0; i < listing->n; i++)
            if (is_weight(kind, listing->files[i].path) && !has_suffix(listing->files[i].path, ".json"))
                return kind;
    return kinds;
}

bool hub_path_is_safe(const char *path)
{
    if (!*path || strlen(path) >= PATH_MAX / 2)
        return false;
    for (const char *c = path; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127)
            return false;
    for (const char *part = path;; part++) {
        size_t n = strcspn(part, "/");
        if (n == 0 || n > NAME_MAX || (n == 1 && part[0] == '.') || (n == 2 && has_prefix(part, "..")))
            return false;
        part += n;
        if (!*part)
            return true;
    }
}

static bool is_wanted(const struct hub_selection *selection, unsigned kind, const char *path)
{
    if (matches_list(&selection->exclude, path))
        return false;
    if (selection->all)
        return true;
    if (selection->include.n > 0)
        return matches_list(&selection->include, path);
    return (!strchr(path, '/') && matches_any(companions, path)) || is_weight(kind, path);
}

bool hub_select(struct hub_listing *listing, const struct hub_selection *selection, size_t *n,
                struct error *err)
{
    unsigned kinds = sizeof weights / sizeof *weights, kind = find_weights(listing);
    bool by_need = !selection->all && selection->include.n == 0;
    *n = 0;
    if (by_need && kind == kinds)
        return fail(err,
                    "none of its %zu files is .safetensors or .bin weights in the main directory; "
                    "choose with --include or --all",
                    listing->n);
    for (size_t i = 0; i < listing->n; i++) {
        struct hub_file file = listing->files[i];
        if (!is_wanted(selection, kind, file.path))
            continue;
        if (!hub_path_is_safe(file.path))
            return fail(err, "the server lists a file named '%s', which is not safe as a path; refused",
                        file.path);
        listing->files[i] = listing->files[*n];
        listing->files[(*n)++] = file;
    }
    if (*n == 0)
        return fail(err, "none of its %zu files is left; see --include and --exclude", listing->n);
    return true;
}
