/* Finding the model in a training checkpoint: below which keys its state dict is, and what trainers have put
 * before its names (module., _orig_mod., model. of Lightning). */
#include "checkpoint_parts.h"
#include "naming.h"

#include <stdlib.h>
#include <string.h>

/* Where layers stand in the two forms of names. */
static const char *const anchors[] = {"model.layers.", "language_model.encoder.layers."};

/* A norm that every layer of every family has, without which a name may be an optimizer's:
 * ….input_layernorm.weight.exp_avg */
static const char LANDMARK[] = "input_layernorm.weight";

/* The length of what stands before the model's own names; false when the name is not of a layer. */
static bool prefix_length(const char *name, size_t *length, bool *landmark)
{
    uint64_t layer;
    const char *rest;
    for (size_t i = 0; i < sizeof anchors / sizeof *anchors; i++) {
        const char *at = strstr(name, anchors[i]);
        if (!at || (at > name && at[-1] != '.') || !name_layer(at, &layer, &rest))
            continue;
        *length = (size_t)(at - name);
        *landmark = strcmp(rest, LANDMARK) == 0;
        return true;
    }
    return false;
}

/* All prefixes; only those of landmarks where there are any. */
static void find_prefixes(const struct names *names, struct names *prefixes)
{
    struct names weak = {0};
    size_t length;
    bool landmark;
    for (size_t i = 0; i < names->n; i++)
        if (prefix_length(names->text[i], &length, &landmark))
            names_add(landmark ? prefixes : &weak, names->text[i], length);
    for (size_t i = 0; i < weak.n && prefixes->n == 0; i++)
        names_add(prefixes, weak.text[i], strlen(weak.text[i]));
    names_free(&weak);
}

static bool refuse_ambiguous(const struct names *prefixes, const char *path, struct error *err)
{
    struct strbuf list = {0};
    for (size_t i = 0; i < prefixes->n && i < 5; i++)
        strbuf_printf(&list, "%s'%s'", i ? ", " : "", prefixes->text[i]);
    fail(err, "%s: there are %zu models in it, with names that begin %s%s; say which one with --key", path,
         prefixes->n, list.data, prefixes->n > 5 ? ", …" : "");
    strbuf_free(&list);
    return false;
}

/* What trainers keep beside a model that has its names without a prefix. */
static bool is_of_trainer(const char *name)
{
    static const char *const keys[] = {
        "optimizer",    "optimizers",    "optimizer_state", "optimizer_states", "optimizer_state_dict",
        "lr_scheduler", "lr_schedulers", "scheduler",       "schedulers",       "scaler",
        "grad_scaler",  "rng_state",     "rng_states",      "cuda_rng_state",   "callbacks",
        "loops"};
    size_t length = strcspn(name, ".");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strlen(keys[i]) == length && strncmp(keys[i], name, length) == 0)
            return true;
    return false;
}

/* Keeps the pieces whose names begin with the prefix, without it. */
static void strip(struct checkpoint *cp, const char *prefix)
{
    struct names stripped = {0};
    size_t length = strlen(prefix), kept = 0;
    for (size_t i = 0; i < cp->n_pieces; i++) {
        struct piece piece = cp->pieces[i];
        const char *name = cp->names.text[piece.name];
        if (length ? !has_prefix(name, prefix) : is_of_trainer(name)) {
            if (cp->n_left_out < LEFT_OUT_NAMES)
                cp->left_out[cp->n_left_out] = xstrdup(name);
            cp->n_left_out++;
            if (piece.tensor)
                cp->info.bytes -= tensor_bytes(piece.tensor);
            tensor_free(piece.tensor);
            continue;
        }
        piece.name = (uint32_t)names_add(&stripped, name + length, strlen(name + length));
        cp->pieces[kept++] = piece;
    }
    cp->n_pieces = kept;
    names_free(&cp->names);
    cp->names = stripped;
}

bool checkpoint_pick_model(struct checkpoint *cp, const char *path, struct error *err)
{
    struct names prefixes = {0};
    bool ok = true;
    find_prefixes(&cp->names, &prefixes);
    if (prefixes.n > 1) {
        ok = refuse_ambiguous(&prefixes, path, err);
    } else if (prefixes.n == 1) {
        strip(cp, prefixes.text[0]);
        checkpoint_count(cp);
    }
    names_free(&prefixes);
    return ok;
}
