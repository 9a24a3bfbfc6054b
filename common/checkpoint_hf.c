/* Hugging Face directories: weights in one file, or in shards that an index names. */
#include "checkpoint_parts.h"
#include "json.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { INDEX_LIMIT = 64 * 1024 * 1024 };

/* In the order in which transformers looks for them (modeling_utils.py), and what ckpt-merge's packer leaves.
 */
static const char *const candidates[] = {"model.safetensors", "model.safetensors.index.json",
                                         "pytorch_model.bin", "pytorch_model.bin.index.json",
                                         "checkpoint.pt"};

struct index {
    struct names tensors; /* of the weight_map */
    struct names shards;
    uint32_t *shard;      /* by number of the tensor */
    bool *seen;           /* the same: whether it was there */
    uint64_t n_strangers; /* tensors in shards that the index does not name */
    char *stranger;       /* one of them */
};

static bool file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

static bool check_shard_name(const char *path, const char *tensor, const char *shard, struct error *err)
{
    if (!shard || !*shard)
        return fail(err, "%s: the file of tensor '%s' is not a name", path, tensor);
    if (strchr(shard, '/') || strchr(shard, '\\') || strstr(shard, ".."))
        return fail(err, "%s: the file of tensor '%s' is '%s', which is outside of its directory", path,
                    tensor, shard);
    return true;
}

static bool read_weight_map(const char *path, struct index *index, struct error *err)
{
    struct json_document doc;
    if (!json_parse_file(&doc, path, INDEX_LIMIT, err))
        return false;
    const struct json *map = json_get(doc.root, "weight_map");
    bool ok = (json_is(map, JSON_OBJECT) && map->n > 0) || fail(err, "%s: has no weight_map", path);
    if (ok) {
        index->shard = xcalloc(map->n, sizeof *index->shard);
        index->seen = xcalloc(map->n, sizeof *index->seen);
    }
    for (size_t i = 0; ok && i < map->n; i++) {
        const char *shard = json_string(map->item[i]);
        ok = check_shard_name(path, map->key[i], shard, err);
        if (!ok)
            break;
        size_t number = names_add(&index->tensors, map->key[i], strlen(map->key[i]));
        index->shard[number] = (uint32_t)names_add(&index->shards, shard, strlen(shard));
    }
    json_free(&doc);
    return ok;
}

/* All shards must be there before the first is read; one line names the first few that are not. */
static bool check_shards(const char *path, const char *directory, const struct index *index,
                         struct error *err)
{
    struct strbuf missing = {0};
    size_t n = 0;
    for (size_t i = 0; i < index->shards.n; i++) {
        char *shard = xasprintf("%s/%s", directory, index->shards.text[i]);
        if (!file_exists(shard) && n++ < 3)
            strbuf_printf(&missing, "%s%s", n > 1 ? ", " : "", index->shards.text[i]);
        free(shard);
    }
    bool ok = !n || fail(err, "%s: %zu of the %zu files that it names are missing: %s%s", path, n,
                         index->shards.n, missing.data, n > 3 ? ", …" : "");
    strbuf_free(&missing);
    return ok;
}

/* The index decides: a tensor that stands in two shards is taken from the one it names. A tensor that it does
 * not name at all (old models have such, as rotary_emb.inv_freq) is taken, with a warning: transformers loads
 * it too. */
static bool add_shard(struct checkpoint *cp, struct index *index, uint32_t shard, uint32_t file,
                      struct tensor_list *list, struct error *err)
{
    size_t number, ignored;
    for (size_t i = 0; i < list->n; i++) {
        struct named_tensor *item = &list->items[i];
        bool named = names_find(&index->tensors, item->name, strlen(item->name), &number);
        if (!item->tensor)
            return fail(err, "%s: tensor '%s' is not in it but in a file of an xser checkpoint",
                        cp->files[file].path, item->name);
        if (!named && names_find(&cp->names, item->name, strlen(item->name), &ignored))
            return fail(err, "%s: tensor '%s' is in another shard too, and the index does not name it",
                        cp->files[file].path, item->name);
        if (!named && !index->n_strangers++)
            index->stranger = xstrdup(item->name);
        if (named && index->shard[number] != shard)
            continue;
        if (named)
            index->seen[number] = true;
        checkpoint_add_piece(cp, file, item, 0);
    }
    return true;
}

static bool check_seen(const char *path, const struct index *index, struct error *err)
{
    size_t missing = 0, first = 0;
    for (size_t i = index->tensors.n; i-- > 0;)
        if (!index->seen[i]) {
            missing++;
            first = i;
        }
    if (!missing)
        return true;
    return fail(err, "%s: tensor '%s' is not in %s as the index says%s", path, index->tensors.text[first],
                index->shards.text[index->shard[first]], missing > 1 ? ", nor are others where it says" : "");
}

static int by_name(const void *a, const void *b)
{
    return strverscmp(*(const char *const *)a, *(const char *const *)b);
}

static bool read_shards(struct checkpoint *cp, const char *directory, const char *key, struct index *index,
                        struct error *err)
{
    size_t number = 0, n = index->shards.n;
    bool ok = true;
    const char **sorted = xcalloc(n, sizeof *sorted);
    memcpy(sorted, index->shards.text, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_name);
    for (size_t i = 0; i < n && ok; i++) {
        struct tensor_list list;
        uint32_t file = checkpoint_add_file(cp, xasprintf("%s/%s", directory, sorted[i]), (struct rank){0});
        names_find(&index->shards, sorted[i], strlen(sorted[i]), &number);
        ok = checkpoint_read_file(cp->files[file].path, key, &list, err) &&
             add_shard(cp, index, (uint32_t)number, file, &list, err);
        checkpoint_add_left_out(cp, &list);
        tensor_list_free(&list);
    }
    free(sorted);
    return ok;
}

bool hf_index_open(struct checkpoint *cp, const char *path, const char *key, struct error *err)
{
    struct index index = {0};
    const char *slash = strrchr(path, '/');
    char *directory = !slash ? xstrdup(".") : xstrndup(path, slash == path ? 1 : (size_t)(slash - path));
    bool ok = read_weight_map(path, &index, err) && check_shards(path, directory, &index, err) &&
              read_shards(cp, directory, key, &index, err) && check_seen(path, &index, err);
    if (ok && index.n_strangers)
        warning("%s: does not name %llu of the tensors in its files, which are taken all the same: '%s'%s",
                path, (unsigned long long)index.n_strangers, index.stranger,
                index.n_strangers > 1 ? ", …" : "");
    names_free(&index.tensors);
    names_free(&index.shards);
    free(index.shard);
    free(index.seen);
    free(index.stranger);
    free(directory);
    return ok;
}

static bool single_file_open(struct checkpoint *cp, const char *path, const char *key, struct error *err)
{
    struct tensor_list list;
    uint32_t file = checkpoint_add_file(cp, xstrdup(path), (struct rank){0});
    bool ok = checkpoint_read_file(path, key, &list, err) && xser_add_pieces(cp, file, &list, err);
    checkpoint_add_left_out(cp, &list);
    tensor_list_free(&list);
    return ok;
}

bool hf_directory_open(struct checkpoint *cp, const char *path, const char *key, bool *found,
                       struct error *err)
{
    bool ok = true;
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates && !*found; i++) {
        char *file = xasprintf("%s/%s", path, candidates[i]);
        *found = file_exists(file);
        if (*found)
            ok = has_suffix(file, ".index.json") ? hf_index_open(cp, file, key, err)
                                                 : single_file_open(cp, file, key, err);
        free(file);
    }
    return ok;
}
