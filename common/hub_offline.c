#include "hub_select.h"
#include "hub_store.h"

#include "json.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_INDEX = 256 << 20 };

/* The commit that the cache knows for a revision; false when it knows none. */
static bool read_ref(const char *cache, const char *repo, const char *revision, char commit[HUB_HEX_SIZE])
{
    struct hub_store store;
    char text[64] = "";
    if (hub_is_commit(revision)) {
        strcpy(commit, revision);
        return true;
    }
    hub_store_open(&store, cache, NULL, repo, "");
    char *path = xasprintf("%s/refs/%s", store.root, revision);
    FILE *file = fopen(path, "re");
    bool ok = file && fscanf(file, "%63s", text) == 1 && hub_is_commit(text);
    if (ok)
        strcpy(commit, text);
    if (file)
        fclose(file);
    free(path);
    hub_store_close(&store);
    return ok;
}

/* Checks that all files that an index (transformers' {"weight_map":{tensor:file}}) names are there. */
static bool check_index(const char *directory, const char *name, struct error *err)
{
    struct json_document doc;
    char *path = xasprintf("%s/%s", directory, name);
    bool ok = json_parse_file(&doc, path, MAX_INDEX, err);
    if (ok) {
        const struct json *map = json_get(doc.root, "weight_map");
        for (size_t i = 0; ok && json_is(map, JSON_OBJECT) && i < map->n; i++) {
            const char *file = json_string(map->item[i]);
            char *shard = file && hub_path_is_safe(file) ? xasprintf("%s/%s", directory, file) : NULL;
            if (!shard || access(shard, R_OK) != 0)
                ok = fail(err, "%s: %s is not there, and HF_HUB_OFFLINE forbids to fetch it", directory,
                          file ? file : "a file of the index");
            free(shard);
        }
        json_free(&doc);
    }
    free(path);
    return ok;
}

/* Checks the directory as far as it can be without the server's list: each index is satisfied. */
static bool check_directory(const char *directory, bool need_weights, struct error *err)
{
    DIR *dir = opendir(directory);
    size_t files = 0, weights = 0;
    bool ok = true;
    if (!dir)
        return fail(err, "%s is not there, and HF_HUB_OFFLINE forbids to fetch it", directory);
    for (struct dirent *entry; ok && (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        files++;
        weights += has_suffix(entry->d_name, ".safetensors") || has_suffix(entry->d_name, ".bin");
        char *path = xasprintf("%s/%s", directory, entry->d_name);
        if (access(path, F_OK) != 0)
            ok = fail(err, "%s: its content is not there, and HF_HUB_OFFLINE forbids to fetch it", path);
        free(path);
        if (ok && has_suffix(entry->d_name, ".index.json"))
            ok = check_index(directory, entry->d_name, err);
    }
    closedir(dir);
    if (ok && files > 0 && weights == 0 && need_weights)
        return fail(err, "%s has no weights, and HF_HUB_OFFLINE forbids to fetch them", directory);
    if (ok && files == 0)
        return fail(err, "%s is empty, and HF_HUB_OFFLINE forbids to fetch files", directory);
    return ok;
}

bool hub_store_find_offline(const char *cache, const char *local_dir, const char *repo, const char *revision,
                            bool need_weights, char **directory, struct error *err)
{
    char commit[HUB_HEX_SIZE];
    struct hub_store store;
    if (!local_dir && !read_ref(cache, repo, revision, commit))
        return fail(err, "revision %s is not in the cache %s, and HF_HUB_OFFLINE forbids to ask the Hub",
                    revision, cache);
    hub_store_open(&store, cache, local_dir, repo, local_dir ? "" : commit);
    bool ok = check_directory(store.files, need_weights, err);
    *directory = ok ? xstrdup(store.files) : NULL;
    hub_store_close(&store);
    return ok;
}
