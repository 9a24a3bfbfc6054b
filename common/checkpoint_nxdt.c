/* Directories of rank files, as NeuronX Distributed Training writes them. Rank files have had three names:
 * tp_rank_TT_pp_rank_PP (xser; or a directory of that name with checkpoint.pt in it),
 * dp_rank_00_tp_rank_TT_pp_rank_PP.pt, and dp_rank_00_ep_rank_EE_tp_rank_TT_pp_rank_PP.pt. */
#include "checkpoint_parts.h"
#include "naming.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct rank_name {
    struct rank rank;
    uint32_t dp;
};

/* Skips prefix and a number of two digits or more at *text. */
static bool skip_number(const char **text, const char *prefix, uint32_t *number)
{
    if (!has_prefix(*text, prefix))
        return false;
    const char *digits = *text + strlen(prefix), *end = digits;
    uint64_t value = 0;
    for (; *end >= '0' && *end <= '9'; end++)
        value = value < UINT32_MAX ? value * 10 + (uint64_t)(*end - '0') : value;
    if (end - digits < 2 || value >= UINT32_MAX)
        return false;
    *number = (uint32_t)value;
    *text = end;
    return true;
}

static bool parse_rank_name(const char *name, struct rank_name *found)
{
    *found = (struct rank_name){0};
    if (skip_number(&name, "dp_rank_", &found->dp) && *name++ != '_')
        return false;
    if (skip_number(&name, "ep_rank_", &found->rank.ep) && *name++ != '_')
        return false;
    return skip_number(&name, "tp_rank_", &found->rank.tp) &&
           skip_number(&name, "_pp_rank_", &found->rank.pp) && (!*name || strcmp(name, ".pt") == 0);
}

/* In a directory of its own the rank's file is checkpoint.pt. Takes over path. */
static char *inner_file(char *path)
{
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        return path;
    char *inner = xasprintf("%s/checkpoint.pt", path);
    free(path);
    return inner;
}

static int compare_u32(uint32_t a, uint32_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_ranks(struct rank a, struct rank b)
{
    int order = compare_u32(a.pp, b.pp);
    order = order ? order : compare_u32(a.ep, b.ep);
    return order ? order : compare_u32(a.tp, b.tp);
}

static int by_rank(const void *a, const void *b)
{
    return compare_ranks(((const struct checkpoint_file *)a)->rank,
                         ((const struct checkpoint_file *)b)->rank);
}

/* Adds the rank files of a directory to cp->files; there may be none. All data-parallel ranks hold the same,
 * so the first one's files will do. */
static bool list_rank_files(struct checkpoint *cp, const char *path, bool *other_dp, struct error *err)
{
    struct dirent *entry;
    struct rank_name found;
    DIR *directory = opendir(path);
    if (!directory)
        return fail_errno(err, "%s: cannot open", path);
    while ((entry = readdir(directory)) != NULL) {
        if (!parse_rank_name(entry->d_name, &found))
            continue;
        if (found.dp == 0)
            checkpoint_add_file(cp, inner_file(xasprintf("%s/%s", path, entry->d_name)), found.rank);
        else
            *other_dp = true;
    }
    closedir(directory);
    if (cp->n_files)
        qsort(cp->files, cp->n_files, sizeof *cp->files, by_rank);
    return true;
}

/* The files, in order of rank, must be the whole grid from rank 0 to the highest of each kind. */
static bool check_grid(struct checkpoint *cp, const char *path, struct error *err)
{
    struct stream_info *info = &cp->info;
    struct strbuf missing = {0};
    struct rank want = {0};
    uint64_t whole;
    size_t named = 0;
    info->tp_size = info->pp_size = info->ep_size = 1;
    for (size_t i = 0; i < cp->n_files; i++) {
        const struct rank r = cp->files[i].rank;
        info->tp_size = r.tp >= info->tp_size ? r.tp + 1ULL : info->tp_size;
        info->pp_size = r.pp >= info->pp_size ? r.pp + 1ULL : info->pp_size;
        info->ep_size = r.ep >= info->ep_size ? r.ep + 1ULL : info->ep_size;
        if (i && compare_ranks(cp->files[i - 1].rank, r) == 0)
            return fail(err, "%s: two files are of the same rank: %s and %s", path, cp->files[i - 1].path,
                        cp->files[i].path);
    }
    if (!mul_u64(info->tp_size, info->pp_size, &whole) || !mul_u64(whole, info->ep_size, &whole))
        whole = UINT64_MAX;
    if (whole == cp->n_files)
        return true;
    /* At most as many steps as there are files, and three more. */
    for (size_t i = 0; named < 3 && want.pp < info->pp_size;) {
        if (i < cp->n_files && compare_ranks(cp->files[i].rank, want) == 0) {
            i++;
        } else {
            strbuf_printf(&missing, "%stp %u pp %u", named++ ? ", " : "", want.tp, want.pp);
            if (info->ep_size > 1)
                strbuf_printf(&missing, " ep %u", want.ep);
        }
        if (++want.tp == info->tp_size) {
            want.tp = 0;
            if (++want.ep == info->ep_size) {
                want.ep = 0;
                want.pp++;
            }
        }
    }
    fail(err, "%s: the files of %llu ranks are missing: %s%s", path,
         (unsigned long long)(whole - cp->n_files), missing.data, whole - cp->n_files > named ? ", …" : "");
    strbuf_free(&missing);
    return false;
}

/* Where a tensor stands among the others, by its name. */
struct position {
    uint32_t group; /* before the layers, in them, all others */
    uint32_t name;
    uint64_t layer;
};

static int by_position(const void *a, const void *b)
{
    const struct position *x = a, *y = b;
    if (x->group != y->group)
        return compare_u32(x->group, y->group);
    if (x->layer != y->layer)
        return x->layer < y->layer ? -1 : 1;
    return compare_u32(x->name, y->name);
}

struct ordered_piece {
    uint32_t position;
    struct piece piece;
};

static int by_order(const void *a, const void *b)
{
    const struct ordered_piece *x = a, *y = b;
    int order = compare_u32(x->position, y->position);
    return order ? order : compare_u32(x->piece.file, y->piece.file);
}

/* Names are numbered in the order in which the rank files have them, and files are numbered by rank. */
static void sort_pieces(struct checkpoint *cp)
{
    size_t n = cp->names.n;
    const char *rest;
    bool layers_begun = false;
    struct position *positions = xcalloc(n + 1, sizeof *positions);
    for (size_t i = 0; i < n; i++) {
        positions[i].name = (uint32_t)i;
        if (name_layer(cp->names.text[i], &positions[i].layer, &rest)) {
            positions[i].group = 1;
            layers_begun = true;
        } else {
            positions[i].group = layers_begun ? 2 : 0;
        }
    }
    qsort(positions, n, sizeof *positions, by_position);
    uint32_t *position_of = xcalloc(n + 1, sizeof *position_of);
    for (size_t i = 0; i < n; i++)
        position_of[positions[i].name] = (uint32_t)i;
    struct ordered_piece *ordered = xcalloc(cp->n_pieces + 1, sizeof *ordered);
    for (size_t i = 0; i < cp->n_pieces; i++)
        ordered[i] = (struct ordered_piece){position_of[cp->pieces[i].name], cp->pieces[i]};
    qsort(ordered, cp->n_pieces, sizeof *ordered, by_order);
    for (size_t i = 0; i < cp->n_pieces; i++)
        cp->pieces[i] = ordered[i].piece;
    free(ordered);
    free(position_of);
    free(positions);
}

static bool read_rank_file(struct checkpoint *cp, uint32_t file, const char *key, struct error *err)
{
    struct tensor_list list;
    bool ok =
        checkpoint_read_file(cp->files[file].path, key, &list, err) && xser_add_pieces(cp, file, &list, err);
    if (file == 0) /* the other ranks leave out the same */
        checkpoint_add_left_out(cp, &list);
    tensor_list_free(&list);
    return ok;
}

bool nxdt_directory_open(struct checkpoint *cp, const char *path, const char *key, bool *found,
                         struct error *err)
{
    bool other_dp = false;
    if (!list_rank_files(cp, path, &other_dp, err))
        return false;
    if (!cp->n_files && other_dp)
        return fail(err, "%s: the files of data-parallel rank 0 (dp_rank_00_…) are missing", path);
    if (!cp->n_files)
        return true;
    *found = true;
    cp->info.sharded = true;
    if (!check_grid(cp, path, err))
        return false;
    for (uint32_t file = 0; file < cp->n_files; file++)
        if (!read_rank_file(cp, file, key, err))
            return false;
    sort_pieces(cp);
    return true;
}
