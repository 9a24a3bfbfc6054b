#include "checkpoint.h"

#include "checkpoint_parts.h"
#include "file_kind.h"
#include "naming.h"
#include "safetensors.h"
#include "torch_read.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

uint32_t checkpoint_add_file(struct checkpoint *cp, char *path, struct rank rank)
{
    GROW(cp->files, cp->n_files, cp->files_capacity);
    cp->files[cp->n_files] = (struct checkpoint_file){path, rank};
    return (uint32_t)cp->n_files++;
}

static bool is_safetensors(const char *path, bool *yes, struct error *err)
{
    uint64_t size;
    enum file_kind kind = FILE_ZIP;
    int fd = open_file(path, &size, err);
    bool ok = fd >= 0 && file_kind(fd, size, path, &kind, err);
    if (fd >= 0)
        close(fd);
    *yes = kind == FILE_SAFETENSORS;
    return ok;
}

bool checkpoint_read_file(const char *path, const char *key, struct tensor_list *list, struct error *err)
{
    bool safetensors;
    *list = (struct tensor_list){0};
    if (!is_safetensors(path, &safetensors, err))
        return false;
    if (safetensors && key)
        return fail(err, "%s: has no key '%s': a safetensors file has no dictionaries inside", path, key);
    return safetensors ? safetensors_read(path, list, err) : torch_read(path, key, list, err);
}

void checkpoint_add_piece(struct checkpoint *cp, uint32_t file, struct named_tensor *item, uint32_t expected)
{
    size_t name = names_add(&cp->names, item->name, strlen(item->name));
    GROW(cp->pieces, cp->n_pieces, cp->pieces_capacity);
    cp->pieces[cp->n_pieces++] = (struct piece){(uint32_t)name, file, expected, item->tid, item->tensor};
    if (item->tensor)
        cp->info.bytes += tensor_bytes(item->tensor);
    else if (!expected)
        cp->unknown_bytes = true;
    item->tensor = NULL;
}

void checkpoint_add_left_out(struct checkpoint *cp, struct tensor_list *list)
{
    for (size_t i = 0; i < LEFT_OUT_NAMES && cp->n_left_out + i < LEFT_OUT_NAMES; i++) {
        cp->left_out[cp->n_left_out + i] = list->left_out[i];
        list->left_out[i] = NULL;
    }
    cp->n_left_out += list->n_left_out;
}

static bool file_open(struct checkpoint *cp, const char *path, const char *key, struct error *err)
{
    struct tensor_list list;
    bool ok = checkpoint_read_file(path, key, &list, err);
    if (ok) {
        uint32_t file = checkpoint_add_file(cp, xstrdup(path), (struct rank){0});
        ok = xser_add_pieces(cp, file, &list, err);
        checkpoint_add_left_out(cp, &list);
    }
    tensor_list_free(&list);
    return ok;
}

/* What stands in the directory itself goes before what stands in its model/. */
static bool directory_open(struct checkpoint *cp, const char *path, const char *key, struct error *err)
{
    struct stat st;
    char *inner = xasprintf("%s/model", path);
    bool found = false;
    bool ok = nxdt_directory_open(cp, path, key, &found, err);
    if (ok && !found)
        ok = hf_directory_open(cp, path, key, &found, err);
    if (ok && !found && stat(inner, &st) == 0 && S_ISDIR(st.st_mode))
        ok = nxdt_directory_open(cp, inner, key, &found, err);
    if (ok && !found)
        ok = fail(err,
                  "%s: there is no checkpoint in this directory: neither model.safetensors, "
                  "pytorch_model.bin or an "
                  "index.json of their parts, nor files like dp_rank_00_tp_rank_00_pp_rank_00.pt",
                  path);
    free(inner);
    return ok;
}

/* True when there is a file, which then decides: one that cannot be used must not send us on to another
 * model's. */
static bool read_config(const char *directory, struct model_config *config)
{
    struct error err;
    char *path = xasprintf("%s/config.json", directory);
    bool there = access(path, F_OK) == 0;
    if (there && !config_read_any_json(path, config, &err)) {
        warning("%s; it is not used", err.message);
        *config = (struct model_config){0};
    }
    free(path);
    return there;
}

/* Whether a directory is the model/ in which NxDT has the rank files, whatever it was called by. */
static bool is_named_model(const char *path)
{
    char *real = realpath(path, NULL);
    bool yes = real && has_suffix(real, "/model");
    free(real);
    return yes;
}

/* From the directory itself or the one that a file is in. A sharded checkpoint is OUT/model: its config may
 * stand there or in OUT, whichever was given. Above OUT there are other models. */
static void find_config(struct checkpoint *cp, const char *path, bool directory)
{
    const char *slash = strrchr(path, '/');
    char *base = directory       ? xstrdup(path)
                 : !slash        ? xstrdup(".")
                 : slash == path ? xstrdup("/")
                                 : xstrndup(path, (size_t)(slash - path));
    char *inner = xasprintf("%s/model", base), *outer = xasprintf("%s/..", base);
    if (!read_config(base, &cp->info.config) && cp->info.sharded) {
        if (has_prefix(cp->files[0].path, inner)) /* the rank files are there */
            read_config(inner, &cp->info.config);
        else if (is_named_model(base))
            read_config(outer, &cp->info.config);
    }
    free(outer);
    free(inner);
    free(base);
}

void checkpoint_count(struct checkpoint *cp)
{
    uint64_t layer;
    size_t number;
    const char *rest;
    cp->info.tensors = cp->n_pieces;
    cp->info.layers = 0;
    if (cp->unknown_bytes)
        cp->info.bytes = 0;
    for (size_t i = 0; i < cp->names.n; i++)
        if (name_layer(cp->names.text[i], &layer, &rest) && layer >= cp->info.layers)
            cp->info.layers = layer + 1;
    cp->info.lm_head = names_find(&cp->names, LM_HEAD_NAME, strlen(LM_HEAD_NAME), &number);
}

struct checkpoint *checkpoint_open(const char *path, const char *key, struct error *err)
{
    struct checkpoint *cp = xcalloc(1, sizeof *cp);
    struct stat st;
    bool directory = false, ok;
    if (stat(path, &st) != 0) {
        ok = fail_errno(err, "%s: cannot open", path);
    } else {
        directory = S_ISDIR(st.st_mode);
        ok = directory                         ? directory_open(cp, path, key, err)
             : has_suffix(path, ".index.json") ? hf_index_open(cp, path, key, err)
                                               : file_open(cp, path, key, err);
    }
    if (ok && !cp->n_pieces)
        ok = fail(err, "%s: there are no tensors in it", path);
    if (!ok) {
        checkpoint_close(cp);
        return NULL;
    }
    checkpoint_count(cp);
    find_config(cp, path, directory);
    return cp;
}

const struct stream_info *checkpoint_info(const struct checkpoint *cp)
{
    return &cp->info;
}

int checkpoint_next(struct checkpoint *cp, struct record *record, struct error *err)
{
    if (cp->next == cp->n_pieces)
        return 0;
    struct piece *piece = &cp->pieces[cp->next++];
    struct tensor *tensor = piece->tensor ? piece->tensor : xser_open_tensor(cp, piece, err);
    piece->tensor = NULL;
    if (!tensor)
        return -1;
    *record = (struct record){xstrdup(cp->names.text[piece->name]), cp->files[piece->file].rank, tensor};
    return 1;
}

uint64_t checkpoint_left_out(const struct checkpoint *cp, const char *names[LEFT_OUT_NAMES])
{
    for (size_t i = 0; i < LEFT_OUT_NAMES; i++)
        names[i] = cp->left_out[i];
    return cp->n_left_out;
}

void checkpoint_close(struct checkpoint *cp)
{
    for (size_t i = 0; i < cp->n_pieces; i++)
        tensor_free(cp->pieces[i].tensor);
    for (size_t i = 0; i < cp->n_files; i++)
        free(cp->files[i].path);
    for (size_t i = 0; i < LEFT_OUT_NAMES; i++)
        free(cp->left_out[i]);
    names_free(&cp->names);
    names_free(&cp->expectations);
    free(cp->pieces);
    free(cp->files);
    free(cp);
}
