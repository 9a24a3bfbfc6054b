/* torch.save before PyTorch 1.6 (_legacy_save in torch/serialization.py): the pickles of a magic number, a
 * protocol version, facts about the system, the object, and the list of its storages' keys; then for each
 * key, in the order of that list, a little-endian 64-bit count of elements and the elements themselves. */
#include "file_kind.h"
#include "torch_archive.h"
#include "torch_objects.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_READ = 64 * 1024, PICKLE_LIMIT = 512 * 1024 * 1024 };

/* Reads the pickle at *offset and moves *offset behind it. How long it is shows only when it has been parsed,
 * so more and more of the file is tried; the tensors behind it stay unread. The caller frees text and the
 * pickle. */
static bool read_pickle(const struct torch_archive *archive, uint64_t *offset, struct pickle *pickle,
                        unsigned char **text, struct error *err)
{
    uint64_t left = archive->size - *offset, length = FIRST_READ;
    for (;;) {
        length = length < left ? length : left;
        *text = xmalloc((size_t)length + 1);
        if (!read_exactly(archive->fd, *text, (size_t)length, *offset, archive->path, err))
            return false;
        if (pickle_parse(pickle, *text, (size_t)length, archive->path, err)) {
            *offset += pickle->length;
            return true;
        }
        uint64_t wanted = pickle->wanted;
        if (!wanted || wanted > left)
            return false;
        if (wanted > PICKLE_LIMIT)
            return fail(err, "%s: its pickle has more than 512 MiB", archive->path);
        length = wanted > 2 * length ? wanted : 2 * length;
        pickle_free(pickle);
        free(*text);
        *text = NULL;
    }
}

static bool is_magic(const struct pickle_value *root)
{
    static const unsigned char magic[] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
    if (!pickle_is(root, PICKLE_BIG_INT))
        return false;
    struct slice text = root->as.text;
    return (text.length == sizeof magic && memcmp(text.at, magic, sizeof magic) == 0) ||
           slice_is(text, "119547037146038801333356");
}

/* The three pickles before the object. */
static bool check_preamble(const struct torch_archive *archive, uint64_t *offset, struct error *err)
{
    bool ok = true;
    for (int i = 0; i < 3 && ok; i++) {
        struct pickle pickle = {0};
        unsigned char *text = NULL;
        uint64_t version;
        ok = read_pickle(archive, offset, &pickle, &text, err);
        const struct pickle_value *little = ok && i == 2 ? pickle_get(pickle.root, "little_endian") : NULL;
        if (ok && i == 0 && !is_magic(pickle.root))
            ok = fail(err, "%s: a Python pickle, but torch.save has not made it", archive->path);
        else if (ok && i == 1 && (!pickle_u64(pickle.root, &version) || version != 1001))
            ok = fail(err, "%s: of another version of PyTorch's legacy format than 1001", archive->path);
        else if (little && !pickle_is_true(little))
            ok = fail(err, "%s: written on a big-endian machine, which is not supported", archive->path);
        pickle_free(&pickle);
        free(text);
    }
    return ok;
}

/* What the object's pickle says of each storage, by number of its key in archive->keys. */
static bool collect_storages(struct torch_archive *archive, struct torch_storage **storages,
                             struct error *err)
{
    const struct pickle_items *found = &archive->pickle.persistent;
    size_t capacity = 0;
    struct error reason;
    for (size_t i = 0; i < found->n; i++) {
        struct torch_storage storage;
        if (!pickle_is_text(pickle_item(found->at[i]->as.id, 0), "storage"))
            continue; /* the source code of a module */
        if (!torch_storage(found->at[i], &storage, &reason) || memchr(storage.key.at, 0, storage.key.length))
            return fail(err, "%s: a storage in it is not usable: %s", archive->path, reason.message);
        size_t number = names_add(&archive->keys, storage.key.at, storage.key.length);
        if (number == capacity)
            GROW(*storages, number, capacity);
        (*storages)[number] = storage;
    }
    return true;
}

/* Places one storage, which begins with its count at *offset. */
static bool place_storage(struct torch_archive *archive, const struct torch_storage *storage,
                          uint64_t *offset, struct storage_place *place, struct error *err)
{
    unsigned char count[8];
    uint64_t bytes, left;
    int length = storage->key.length < 200 ? (int)storage->key.length : 200;
    if (archive->size - *offset < sizeof count)
        return fail(err, "%s: cut short before storage '%.*s'", archive->path, length, storage->key.at);
    if (!read_exactly(archive->fd, count, sizeof count, *offset, archive->path, err))
        return false;
    *offset += sizeof count;
    left = archive->size - *offset;
    if (le64(count) != storage->elements)
        return fail(err, "%s: storage '%.*s' has %llu elements, but should have %llu", archive->path, length,
                    storage->key.at, (unsigned long long)le64(count), (unsigned long long)storage->elements);
    if (!mul_u64(storage->elements, dtype_size(storage->dtype), &bytes) || bytes > left)
        return fail(
            err,
            "%s: cut short: storage '%.*s' of %llu elements needs more than the %llu bytes that are left",
            archive->path, length, storage->key.at, (unsigned long long)storage->elements,
            (unsigned long long)left);
    *place = (struct storage_place){*offset, bytes};
    *offset += bytes;
    return true;
}

static bool place_storages(struct torch_archive *archive, const struct torch_storage *storages,
                           const struct pickle_value *keys, uint64_t offset, struct error *err)
{
    size_t n = pickle_is(keys, PICKLE_LIST) ? keys->as.items.n : SIZE_MAX, number;
    if (n != archive->keys.n)
        return fail(err, "%s: its list of storages does not go with its tensors", archive->path);
    bool *placed = xcalloc(n + 1, sizeof *placed), ok = true;
    archive->places = xcalloc(n + 1, sizeof *archive->places);
    for (size_t i = 0; i < n && ok; i++) {
        const struct pickle_value *key = keys->as.items.at[i];
        if (!pickle_is(key, PICKLE_STRING) || memchr(key->as.text.at, 0, key->as.text.length) ||
            !names_find(&archive->keys, key->as.text.at, key->as.text.length, &number) || placed[number])
            ok = fail(err, "%s: its list of storages does not go with its tensors", archive->path);
        else
            ok = place_storage(archive, &storages[number], &offset, &archive->places[number], err);
        placed[ok ? number : n] = true;
    }
    free(placed);
    return ok;
}

bool torch_legacy_open(struct torch_archive *archive, struct error *err)
{
    uint64_t offset = 0;
    struct pickle keys = {0};
    unsigned char *text = NULL;
    struct torch_storage *storages = NULL;
    bool ok = check_preamble(archive, &offset, err) &&
              read_pickle(archive, &offset, &archive->pickle, &archive->text, err) &&
              read_pickle(archive, &offset, &keys, &text, err) && collect_storages(archive, &storages, err) &&
              place_storages(archive, storages, keys.root, offset, err);
    pickle_free(&keys);
    free(text);
    free(storages);
    return ok;
}
