#include "torch_write.h"

#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Sizes and signatures of APPNOTE.TXT, the .ZIP File Format Specification. */
enum {
    LOCAL_HEADER = 30,
    CENTRAL_HEADER = 46,
    ZIP64_END = 56,
    ZIP64_LOCATOR = 20,
    END_RECORD = 22,
    ALIGNMENT = 64,
    EXTRA_ZIP64 = 0x0001,
    EXTRA_PADDING = 0x4246 /* "FB", PyTorch's padding field */
};

struct archive *archive_new(const char *path, const char *top)
{
    struct archive *archive = xcalloc(1, sizeof *archive);
    archive->path = xstrdup(path);
    archive->top = xstrdup(top);
    return archive;
}

/* What is not needed any more when the file is written: of an xser checkpoint there are tens of thousands. */
static void release_plan(struct archive *archive)
{
    for (size_t i = 0; i < archive->n; i++)
        free(archive->entries[i].name);
    free(archive->entries);
    archive->entries = NULL;
    archive->n = archive->capacity = 0;
    strbuf_free(&archive->tail);
}

void archive_free(struct archive *archive)
{
    if (!archive)
        return;
    release_plan(archive);
    free(archive->path);
    free(archive->top);
    free(archive);
}

static bool is_large(uint64_t value)
{
    return value >= UINT32_MAX;
}

static size_t full_name_length(const struct archive *archive, const struct archive_entry *entry)
{
    return strlen(archive->top) + 1 + strlen(entry->name);
}

static size_t local_zip64_size(const struct archive_entry *entry)
{
    return is_large(entry->size) ? 20 : 0;
}

/* Bytes of the padding field that puts the payload at a multiple of 64; at least the field's own header of 4.
 */
static size_t padding_size(const struct archive *archive, const struct archive_entry *entry)
{
    uint64_t without =
        entry->header_at + LOCAL_HEADER + full_name_length(archive, entry) + local_zip64_size(entry);
    size_t padding = (size_t)(-without % ALIGNMENT);
    return padding >= 4 || padding == 0 ? padding : padding + ALIGNMENT;
}

static size_t plan_entry(struct archive *archive, const char *name, uint64_t size)
{
    if (!archive->entries) { /* an xser tensor has one payload; GROW() would begin with more */
        archive->capacity = 1;
        archive->entries = xcalloc(1, sizeof *archive->entries);
    }
    GROW(archive->entries, archive->n, archive->capacity);
    struct archive_entry *entry = &archive->entries[archive->n];
    *entry = (struct archive_entry){.name = xstrdup(name), .header_at = archive->end, .size = size};
    entry->data_at = entry->header_at + LOCAL_HEADER + full_name_length(archive, entry) +
                     local_zip64_size(entry) + padding_size(archive, entry);
    archive->end = entry->data_at + size;
    return archive->n++;
}

size_t archive_add(struct archive *archive, const char *name, uint64_t size)
{
    size_t index = plan_entry(archive, name, size);
    archive->tail_from = archive->end;
    return index;
}

static void add_u16(struct strbuf *out, uint64_t value)
{
    unsigned char b[2];
    put_le16(b, (uint16_t)value);
    strbuf_add(out, b, sizeof b);
}

static void add_u32(struct strbuf *out, uint64_t value)
{
    unsigned char b[4];
    put_le32(b, (uint32_t)value);
    strbuf_add(out, b, sizeof b);
}

static void add_u64le(struct strbuf *out, uint64_t value)
{
    unsigned char b[8];
    put_le64(b, value);
    strbuf_add(out, b, sizeof b);
}

/* What local and central headers share: version needed … name length, extra length. The date is the one that
 * PyTorch writes: 1980-00-00. */
static void add_common(struct strbuf *out, const struct archive *archive, const struct archive_entry *entry,
                       bool zip64, size_t extra)
{
    uint64_t size = is_large(entry->size) ? UINT32_MAX : entry->size;
    add_u16(out, zip64 ? 45 : 20);
    add_u16(out, 0x0800); /* names are UTF-8 */
    add_u16(out, 0);      /* stored */
    add_u32(out, 0);
    add_u32(out, entry->crc);
    add_u32(out, size);
    add_u32(out, size);
    add_u16(out, full_name_length(archive, entry));
    add_u16(out, extra);
}

static void add_full_name(struct strbuf *out, const struct archive *archive,
                          const struct archive_entry *entry)
{
    strbuf_puts(out, archive->top);
    strbuf_puts(out, "/");
    strbuf_puts(out, entry->name);
}

static void add_local_header(struct strbuf *out, const struct archive *archive,
                             const struct archive_entry *entry)
{
    size_t padding = padding_size(archive, entry), zip64 = local_zip64_size(entry);
    add_u32(out, 0x04034b50);
    add_common(out, archive, entry, zip64 > 0, zip64 + padding);
    add_full_name(out, archive, entry);
    if (zip64) {
        add_u16(out, EXTRA_ZIP64);
        add_u16(out, 16);
        add_u64le(out, entry->size);
        add_u64le(out, entry->size);
    }
    if (padding) {
        add_u16(out, EXTRA_PADDING);
        add_u16(out, padding - 4);
        for (size_t i = 4; i < padding; i++)
            strbuf_add(out, "Z", 1);
    }
}

void archive_put(struct archive *archive, const char *name, const void *bytes, size_t n)
{
    struct archive_entry *entry = &archive->entries[0];
    size_t index = plan_entry(archive, name, n);
    entry = &archive->entries[index];
    entry->crc = libdeflate_crc32(0, bytes, n);
    add_local_header(&archive->tail, archive, entry);
    strbuf_add(&archive->tail, bytes, n);
}

static void add_central_header(struct strbuf *out, const struct archive *archive,
                               const struct archive_entry *entry)
{
    bool large_size = is_large(entry->size), large_offset = is_large(entry->header_at);
    size_t fields = (large_size ? 16u : 0u) + (large_offset ? 8u : 0u);
    add_u32(out, 0x02014b50);
    add_u16(out, 45);
    add_common(out, archive, entry, fields > 0, fields ? fields + 4 : 0);
    add_u16(out, 0); /* comment */
    add_u16(out, 0); /* disk */
    add_u16(out, 0); /* internal attributes */
    add_u32(out, 0); /* external attributes */
    add_u32(out, large_offset ? UINT32_MAX : entry->header_at);
    add_full_name(out, archive, entry);
    if (fields) {
        add_u16(out, EXTRA_ZIP64);
        add_u16(out, fields);
        if (large_size) {
            add_u64le(out, entry->size);
            add_u64le(out, entry->size);
        }
        if (large_offset)
            add_u64le(out, entry->header_at);
    }
}

static void add_directory(struct strbuf *out, const struct archive *archive)
{
    uint64_t begin = archive->end, n = archive->n;
    size_t before = out->length;
    for (size_t i = 0; i < archive->n; i++)
        add_central_header(out, archive, &archive->entries[i]);
    uint64_t size = out->length - before;
    if (n >= UINT16_MAX || is_large(begin) || is_large(size)) {
        uint64_t zip64_end = begin + size;
        add_u32(out, 0x06064b50);
        add_u64le(out, ZIP64_END - 12);
        add_u16(out, 45);
        add_u16(out, 45);
        add_u32(out, 0);
        add_u32(out, 0);
        add_u64le(out, n);
        add_u64le(out, n);
        add_u64le(out, size);
        add_u64le(out, begin);
        add_u32(out, 0x07064b50);
        add_u32(out, 0);
        add_u64le(out, zip64_end);
        add_u32(out, 1);
    }
    add_u32(out, 0x06054b50);
    add_u32(out, 0);
    add_u16(out, n >= UINT16_MAX ? UINT16_MAX : n);
    add_u16(out, n >= UINT16_MAX ? UINT16_MAX : n);
    add_u32(out, is_large(size) ? UINT32_MAX : size);
    add_u32(out, is_large(begin) ? UINT32_MAX : begin);
    add_u16(out, 0);
}

int open_to_write(const char *path, struct error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        fail_errno(err, "%s: cannot write", path);
    return fd;
}

bool write_at(int fd, const void *bytes, size_t n, uint64_t offset, const char *path, struct error *err)
{
    const char *from = bytes;
    while (n > 0) {
        ssize_t put = pwrite(fd, from, n, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return fail_errno(err, "%s: cannot write", path);
        from += put;
        offset += (uint64_t)put;
        n -= (size_t)put;
    }
    return true;
}

bool archive_finish(struct archive *archive, struct error *err)
{
    int fd = open_to_write(archive->path, err);
    bool ok = fd >= 0;
    struct strbuf header = {0};
    for (size_t i = 0; ok && i < archive->n && archive->entries[i].header_at < archive->tail_from; i++) {
        strbuf_reset(&header);
        add_local_header(&header, archive, &archive->entries[i]);
        ok = write_at(fd, header.data, header.length, archive->entries[i].header_at, archive->path, err);
    }
    add_directory(&archive->tail, archive);
    ok = ok && write_at(fd, archive->tail.data, archive->tail.length, archive->tail_from, archive->path, err);
    if (fd >= 0 && close(fd) != 0 && ok)
        ok = fail_errno(err, "%s: cannot write", archive->path);
    strbuf_free(&header);
    release_plan(archive);
    return ok;
}

void archive_put_pickle(struct archive *archive, const struct strbuf *pickle)
{
    archive_put(archive, "data.pkl", pickle->data, pickle->length);
    archive_put(archive, "byteorder", "little", 6);
    archive_put(archive, "version", "3\n", 2);
}
