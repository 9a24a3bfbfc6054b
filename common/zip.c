/* The archive is read with pread through libarchive's callbacks and not mapped: a file that another process
 * cuts short while we read is then a read error and not a SIGBUS, and no more than a few kilobytes of it are
 * touched. */
#include "zip.h"

#include "file_kind.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The directory is read in large blocks; after that libarchive seeks to one local header after the other, and
 * a small block holds one (30 bytes, a name, and up to 64 bytes of padding). */
enum { DIRECTORY_BLOCK = 32 * 1024, HEADER_BLOCK = 512 };

struct input {
    int fd;
    uint64_t size;
    uint64_t offset; /* of the next block */
    size_t block;    /* bytes to read at once */
    unsigned char *bytes;
    size_t length; /* bytes of the last block, which ends at offset */
};

static la_ssize_t on_read(struct archive *archive, void *context, const void **block)
{
    struct input *in = context;
    ssize_t n;
    do
        n = pread(in->fd, in->bytes, in->block, (off_t)in->offset);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        archive_set_error(archive, errno, "cannot read: %s", strerror(errno));
    in->length = n > 0 ? (size_t)n : 0;
    in->offset += in->length;
    *block = in->bytes;
    return n;
}

static la_int64_t on_seek(struct archive *archive, void *context, la_int64_t offset, int whence)
{
    struct input *in = context;
    int64_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? (int64_t)in->offset : (int64_t)in->size;
    int64_t target;
    if (__builtin_add_overflow(base, offset, &target) || target < 0 || (uint64_t)target > in->size) {
        archive_set_error(archive, EINVAL, "it points outside of the file");
        return ARCHIVE_FATAL;
    }
    in->offset = (uint64_t)target;
    return target;
}

static la_int64_t on_skip(struct archive *archive, void *context, la_int64_t request)
{
    struct input *in = context;
    (void)archive;
    uint64_t left = in->size > in->offset ? in->size - in->offset : 0;
    uint64_t skip = (uint64_t)request < left ? (uint64_t)request : left;
    in->offset += skip;
    return (la_int64_t)skip;
}

/* libarchive converts names into the characters of the locale; entries of other names than ASCII exist. */
static locale_t use_utf8(void)
{
    static locale_t utf8;
    if (!utf8)
        utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    return utf8 ? uselocale(utf8) : (locale_t)0;
}

static struct archive *open_archive(struct input *in, const char *path, struct error *err)
{
    struct archive *archive = archive_read_new();
    if (!archive)
        die(EXIT_DATA, "out of memory");
    archive_read_support_format_zip_seekable(archive);
    archive_read_set_format_option(archive, "zip", "ignorecrc32", "1");
    archive_read_set_read_callback(archive, on_read);
    archive_read_set_seek_callback(archive, on_seek);
    archive_read_set_skip_callback(archive, on_skip);
    archive_read_set_callback_data(archive, in);
    if (archive_read_open1(archive) == ARCHIVE_OK)
        return archive;
    fail(err, "%s: not a complete zip archive, perhaps cut short on its way here", path);
    archive_read_free(archive);
    return NULL;
}

static bool is_stored(struct archive *archive, struct archive_entry *entry)
{
    /* libarchive has no accessor for the method; it says "ZIP 2.0 (uncompressed)". */
    const char *format = archive_format_name(archive);
    return format && strstr(format, "(uncompressed)") && !archive_entry_is_encrypted(entry);
}

/* Whether what libarchive gave as an entry's first bytes are those at an offset of the file. A pointer into
 * our own block shows where it is from; bytes that libarchive has copied are compared. */
static bool is_from(const struct input *in, const unsigned char *block, size_t length, uint64_t offset)
{
    unsigned char direct[64];
    struct error ignored;
    uintptr_t at = (uintptr_t)block - (uintptr_t)in->bytes;
    if (at < in->length)
        return in->offset - in->length + at == offset;
    size_t n = length < sizeof direct ? length : sizeof direct;
    return read_exactly(in->fd, direct, n, offset, "", &ignored) && memcmp(direct, block, n) == 0;
}

/* After the header of a stored entry the input stands where its data begin. That is how libarchive's seeking
 * zip reader works rather than a promise it makes, so it is checked. */
static bool locate(struct archive *archive, const struct input *in, struct zip_entry *entry)
{
    const void *block;
    size_t length;
    la_int64_t position;
    la_int64_t offset = archive_filter_bytes(archive, -1);
    uint64_t end;
    if (offset < 0 || !add_u64((uint64_t)offset, entry->size, &end) || end > in->size)
        return false;
    entry->offset = (uint64_t)offset;
    if (!entry->size)
        return true;
    return archive_read_data_block(archive, &block, &length, &position) == ARCHIVE_OK && position == 0 &&
           length > 0 && length <= entry->size && is_from(in, block, length, entry->offset);
}

static const char *entry_name(struct archive_entry *entry)
{
    const char *name = archive_entry_pathname(entry);
    return name ? name : archive_entry_pathname_utf8(entry);
}

static bool add_entry(struct zip *zip, struct archive *archive, struct archive_entry *entry,
                      const struct input *in, struct error *err)
{
    const char *name = entry_name(entry);
    if (!name)
        return fail(err, "%s: the name of a zip entry is not valid UTF-8", zip->path);
    if (has_suffix(name, "/"))
        return true;
    struct zip_entry found = {.stored = is_stored(archive, entry)};
    la_int64_t size = archive_entry_size(entry);
    if (size < 0)
        return fail(err, "%s: damaged zip archive: the size of '%s' is negative", zip->path, name);
    found.size = (uint64_t)size;
    if (found.stored && !locate(archive, in, &found))
        return fail(err, "%s: damaged zip archive: '%s' (%llu bytes) is not where the directory says",
                    zip->path, name, (unsigned long long)found.size);
    size_t former = zip->names.n, number = names_add(&zip->names, name, strlen(name));
    if (number != former)
        return fail(err, "%s: damaged zip archive: it has two entries '%s'", zip->path, name);
    GROW(zip->entries, number, zip->capacity);
    zip->entries[number] = found;
    return true;
}

static bool next_header(struct archive *archive, struct archive_entry **entry, const char *path, bool *more,
                        struct error *err)
{
    int status = archive_read_next_header(archive, entry);
    const char *reason = archive_error_string(archive);
    /* Of what it warns about only this matters: "Inconsistent uncompressed size", between header and
     * directory. */
    bool inconsistent = status == ARCHIVE_WARN && reason && has_prefix(reason, "Inconsistent");
    *more = (status == ARCHIVE_OK || status == ARCHIVE_WARN) && !inconsistent;
    if (*more || status == ARCHIVE_EOF)
        return true;
    return fail(err, "%s: damaged zip archive: %s", path, reason ? reason : "its structure is not readable");
}

bool zip_open(struct zip *zip, const char *path, int fd, uint64_t size, struct error *err)
{
    unsigned char bytes[DIRECTORY_BLOCK];
    struct input in = {.fd = fd, .size = size, .block = sizeof bytes, .bytes = bytes};
    struct archive_entry *entry;
    bool ok = true, more = true;
    *zip = (struct zip){.path = path, .fd = fd};
    struct archive *archive = open_archive(&in, path, err);
    if (!archive)
        return false;
    locale_t before = use_utf8();
    while (ok && more) {
        ok = next_header(archive, &entry, path, &more, err);
        in.block = HEADER_BLOCK;
        ok = ok && (!more || add_entry(zip, archive, entry, &in, err));
    }
    if (before)
        uselocale(before);
    archive_read_free(archive);
    return ok;
}

const struct zip_entry *zip_find(const struct zip *zip, const char *name)
{
    size_t number;
    return names_find(&zip->names, name, strlen(name), &number) ? &zip->entries[number] : NULL;
}

static unsigned char *inflate_entry(struct archive *archive, const char *path, const char *name, size_t size,
                                    struct error *err)
{
    unsigned char *bytes = xmalloc(size + 1);
    size_t done = 0;
    la_ssize_t n = 1;
    while (done < size && n > 0) {
        n = archive_read_data(archive, bytes + done, size - done);
        done += n > 0 ? (size_t)n : 0;
    }
    if (done == size)
        return bytes;
    const char *reason = archive_error_string(archive);
    fail(err, "%s: cannot uncompress '%s': %s", path, name, n < 0 && reason ? reason : "it is cut short");
    free(bytes);
    return NULL;
}

/* Compressed entries are few and small; the archive is read once more from its beginning for one. */
static unsigned char *read_compressed(const struct zip *zip, const char *name, size_t size, struct error *err)
{
    unsigned char block[DIRECTORY_BLOCK], *bytes = NULL;
    struct archive_entry *entry;
    off_t end = lseek(zip->fd, 0, SEEK_END);
    struct input in = {
        .fd = zip->fd, .size = end < 0 ? 0 : (uint64_t)end, .block = sizeof block, .bytes = block};
    struct archive *archive = open_archive(&in, zip->path, err);
    if (!archive)
        return NULL;
    locale_t before = use_utf8();
    bool more = true;
    fail(err, "%s: cannot find '%s' again", zip->path, name);
    while (!bytes && next_header(archive, &entry, zip->path, &more, err) && more) {
        const char *found = entry_name(entry);
        if (found && strcmp(found, name) == 0) {
            bytes = inflate_entry(archive, zip->path, name, size, err);
            break;
        }
    }
    if (before)
        uselocale(before);
    archive_read_free(archive);
    return bytes;
}

unsigned char *zip_read(const struct zip *zip, const char *name, size_t limit, size_t *length,
                        struct error *err)
{
    const struct zip_entry *entry = zip_find(zip, name);
    unsigned char *bytes;
    if (!entry) {
        fail(err, "%s: there is no '%s' in it", zip->path, name);
        return NULL;
    }
    if (entry->size > limit) {
        fail(err, "%s: '%s' has %llu bytes, more than the %zu that it may have", zip->path, name,
             (unsigned long long)entry->size, limit);
        return NULL;
    }
    *length = (size_t)entry->size;
    if (!entry->stored) {
        bytes = read_compressed(zip, name, *length, err);
    } else {
        bytes = xmalloc(*length + 1);
        if (!read_exactly(zip->fd, bytes, *length, entry->offset, zip->path, err)) {
            free(bytes);
            bytes = NULL;
        }
    }
    if (bytes)
        bytes[*length] = '\0';
    return bytes;
}

void zip_close(struct zip *zip)
{
    names_free(&zip->names);
    free(zip->entries);
    zip->entries = NULL;
}
