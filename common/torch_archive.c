#include "torch_archive.h"

#include "file_kind.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What data.pkl may take, stored or uncompressed. */
enum { PICKLE_LIMIT = 512 * 1024 * 1024, COMPRESSED_PICKLE_LIMIT = 64 * 1024 * 1024 };

/* What stands before "data.pkl" in the names of the entries; NULL when there is no such entry. */
static char *find_prefix(const struct zip *zip)
{
    const char *best = NULL;
    for (size_t i = 0; i < zip->names.n; i++) {
        const char *name = zip->names.text[i];
        bool is_pickle = strcmp(name, "data.pkl") == 0 || has_suffix(name, "/data.pkl");
        if (is_pickle && (!best || strlen(name) < strlen(best)))
            best = name;
    }
    return best ? xstrndup(best, strlen(best) - strlen("data.pkl")) : NULL;
}

/* TorchScript keeps its constants and its code beside data.pkl. */
static bool is_torchscript(const struct torch_archive *archive)
{
    bool found = false;
    char *constants = xasprintf("%sconstants.pkl", archive->prefix),
         *code = xasprintf("%scode/", archive->prefix);
    for (size_t i = 0; i < archive->zip.names.n && !found; i++)
        found = strcmp(archive->zip.names.text[i], constants) == 0 ||
                has_prefix(archive->zip.names.text[i], code);
    free(constants);
    free(code);
    return found;
}

static bool check_byteorder(const struct torch_archive *archive, struct error *err)
{
    char *name = xasprintf("%sbyteorder", archive->prefix);
    unsigned char *text = NULL;
    size_t length;
    bool ok = true;
    if (zip_find(&archive->zip, name)) { /* written since PyTorch 2.1 */
        text = zip_read(&archive->zip, name, 64, &length, err);
        ok = text != NULL;
    }
    if (text && !has_prefix((char *)text, "little"))
        ok = fail(err, "%s: written on a big-endian machine, which is not supported", archive->path);
    free(text);
    free(name);
    return ok;
}

static bool open_zip(struct torch_archive *archive, struct error *err)
{
    size_t length = 0;
    archive->is_zip = true;
    if (!zip_open(&archive->zip, archive->path, archive->fd, archive->size, err))
        return false;
    archive->prefix = find_prefix(&archive->zip);
    if (!archive->prefix)
        return fail(err, "%s: a zip archive without data.pkl, so torch.save has not made it", archive->path);
    if (is_torchscript(archive))
        return fail(err, "%s: a TorchScript archive; save the model's state_dict() with torch.save instead",
                    archive->path);
    char *name = xasprintf("%sdata.pkl", archive->prefix);
    size_t limit = zip_find(&archive->zip, name)->stored ? PICKLE_LIMIT : COMPRESSED_PICKLE_LIMIT;
    bool ok = check_byteorder(archive, err) &&
              (archive->text = zip_read(&archive->zip, name, limit, &length, err)) &&
              pickle_parse(&archive->pickle, archive->text, length, archive->path, err);
    free(name);
    return ok;
}

bool torch_archive_open(struct torch_archive *archive, const char *path, struct error *err)
{
    enum file_kind kind;
    *archive = (struct torch_archive){.path = path};
    archive->fd = open_file(path, &archive->size, err);
    if (archive->fd < 0 || !file_kind(archive->fd, archive->size, path, &kind, err))
        return false;
    switch (kind) {
    case FILE_ZIP:
        return open_zip(archive, err);
    case FILE_TORCH_LEGACY:
        return torch_legacy_open(archive, err);
    case FILE_PICKLE:
        return fail(err, "%s: a Python pickle, but torch.save has not made it", path);
    case FILE_SAFETENSORS:
        break;
    }
    return fail(err, "%s: a safetensors file, where one of torch.save should be", path);
}

static bool find_in_zip(const struct torch_archive *archive, struct slice key, struct storage_place *place,
                        struct error *err)
{
    char *name = xasprintf("%sdata/%.*s", archive->prefix, key.length < 200 ? (int)key.length : 200, key.at);
    const struct zip_entry *entry = key.length < 200 ? zip_find(&archive->zip, name) : NULL;
    bool ok = entry && entry->stored;
    if (!entry)
        fail(err, "its storage '%s' is not in the archive", name);
    else if (!entry->stored)
        fail(err,
             "its storage '%s' is compressed or encrypted; unzip the file and zip it again with 'zip -0 -r'",
             name);
    else
        *place = (struct storage_place){entry->offset, entry->size};
    free(name);
    return ok;
}

bool torch_archive_storage(const struct torch_archive *archive, struct slice key, struct storage_place *place,
                           struct error *err)
{
    size_t number;
    if (archive->is_zip)
        return find_in_zip(archive, key, place, err);
    if (memchr(key.at, 0, key.length) || !names_find(&archive->keys, key.at, key.length, &number))
        return fail(err, "its storage '%.*s' is not in the file", key.length < 200 ? (int)key.length : 200,
                    key.at);
    *place = archive->places[number];
    return true;
}

void torch_archive_close(struct torch_archive *archive)
{
    if (archive->fd >= 0)
        close(archive->fd);
    pickle_free(&archive->pickle);
    zip_close(&archive->zip);
    names_free(&archive->keys);
    free(archive->places);
    free(archive->prefix);
    free(archive->text);
}
