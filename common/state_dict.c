#include "state_dict.h"

#include "output.h"
#include "rank_file.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_RANKS = 1 << 20 };

void state_dict_init(struct state_dict *dict, struct rank rank, char *path, char *top)
{
    *dict = (struct state_dict){.rank = rank, .path = path, .top = top};
    copy_archive_init(&dict->archive, archive_new(path, top), state_dict_compose, dict);
}

void state_dict_free(struct state_dict *dict)
{
    for (size_t i = 0; i < dict->n; i++) {
        free(dict->members[i].name);
        tensor_free(dict->members[i].tensor);
    }
    free(dict->members);
    copy_archive_free(&dict->archive);
    free(dict->path);
    free(dict->top);
}

size_t state_dict_add(struct state_dict *dict, const struct record *record)
{
    struct error err;
    const struct tensor *t = record->tensor;
    GROW(dict->members, dict->n, dict->capacity);
    struct state_dict_member *member = &dict->members[dict->n];
    member->name = xstrdup(record->name);
    member->tensor = tensor_zeros(t->dtype, t->n_dims, t->shape, &err);
    if (!member->tensor)
        die_error(&err);
    return dict->n++;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void state_dict_check(const struct state_dict *dict)
{
    char **names = xcalloc(dict->n + 1, sizeof *names);
    for (size_t i = 0; i < dict->n; i++)
        names[i] = dict->members[i].name;
    qsort(names, dict->n, sizeof *names, compare_names);
    for (size_t i = 1; i < dict->n; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            die(EXIT_DATA, "%s: is in the stream twice for %s; a state dict has a name once", names[i],
                dict->top);
    free(names);
}

/* A pickled dictionary with an item for every member. */
static void compose(struct copy_archive *archive,
                    void (*add)(struct strbuf *p, const struct state_dict_member *member, size_t index))
{
    const struct state_dict *dict = archive->context;
    struct strbuf p = {0};
    pickle_begin(&p);
    pickle_dict(&p);
    for (size_t i = 0; i < dict->n; i++)
        add(&p, &dict->members[i], i);
    pickle_dict_end(&p);
    pickle_end(&p);
    archive_put_pickle(archive->archive, &p);
    strbuf_free(&p);
}

static void add_tensor(struct strbuf *p, const struct state_dict_member *member, size_t index)
{
    char key[24];
    snprintf(key, sizeof key, "%zu", index);
    pickle_string(p, member->name);
    pickle_tensor(p, member->tensor, key);
}

static void add_reference(struct strbuf *p, const struct state_dict_member *member, size_t index)
{
    pickle_string(p, member->name);
    pickle_tensor_reference(p, index);
}

static void add_info(struct strbuf *p, const struct state_dict_member *member, size_t index)
{
    pickle_number(p, index);
    pickle_dict(p);
    pickle_string(p, "dtype");
    pickle_dtype(p, member->tensor->dtype);
    pickle_string(p, "shape");
    pickle_size(p, member->tensor);
    pickle_string(p, "expert_model_parallel");
    pickle_bool(p, false);
    pickle_dict_end(p);
}

void state_dict_compose(struct copy_archive *archive)
{
    compose(archive, add_tensor);
}

void state_dict_compose_references(struct copy_archive *archive)
{
    compose(archive, add_reference);
}

void state_dict_compose_info(struct copy_archive *archive)
{
    compose(archive, add_info);
}

static void make_dicts(struct rank_set *set, const struct stream_info *info, const char *directory)
{
    uint64_t n;
    if (!mul_u64(info->tp_size, info->pp_size, &n) || !mul_u64(n, info->ep_size, &n) || n > MAX_RANKS)
        die(EXIT_DATA, "the stream has more ranks than the %d that are possible", MAX_RANKS);
    *set = (struct rank_set){.info = *info, .n = (size_t)n, .dicts = xcalloc((size_t)n, sizeof *set->dicts)};
    for (uint64_t i = 0; i < n; i++) {
        char name[128];
        struct rank rank = {.tp = (uint32_t)(i % info->tp_size),
                            .pp = (uint32_t)(i / info->tp_size % info->pp_size),
                            .ep = (uint32_t)(i / info->tp_size / info->pp_size)};
        rank_file_name(name, sizeof name, rank, info->ep_size);
        state_dict_init(&set->dicts[i], rank, xasprintf("%s/%s.pt", directory, name), xstrdup(name));
    }
}

void rank_set_begin(struct rank_set *set, const struct stream_info *info, const char *target)
{
    static const char *const entries[] = {"checkpoint", "model", "done", NULL};
    const char *staging = output_begin_directory(target, entries);
    for (int i = 0; entries[i]; i++) {
        char *path = xasprintf("%s/%s", staging, entries[i]);
        if (strcmp(entries[i], "model") == 0) {
            output_directory(path);
            make_dicts(set, info, path);
        } else {
            output_small_file(path, "1");
        }
        free(path);
    }
}

void rank_set_free(struct rank_set *set)
{
    for (size_t i = 0; i < set->n; i++)
        state_dict_free(&set->dicts[i]);
    free(set->dicts);
}

struct state_dict *rank_set_find(struct rank_set *set, const struct record *record)
{
    struct rank rank = record->rank;
    if (rank.tp >= set->info.tp_size || rank.pp >= set->info.pp_size || rank.ep >= set->info.ep_size)
        die(EXIT_DATA, "%s: is on tensor rank %u, pipeline rank %u, which the stream does not have",
            record->name, rank.tp, rank.pp);
    return &set->dicts[(rank.ep * set->info.pp_size + rank.pp) * set->info.tp_size + rank.tp];
}

void rank_set_check(const struct rank_set *set)
{
    for (size_t i = 0; i < set->n; i++) {
        if (set->dicts[i].n == 0)
            die(EXIT_DATA, "%s: the stream has no tensor for this rank", set->dicts[i].top);
        state_dict_check(&set->dicts[i]);
    }
}
