#include "hub_partial.h"

#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[16] = "hf-fetch ranges";

struct hub_journal {
    char magic[16];
    uint64_t size, part_size;
    uint64_t done[]; /* one a part */
};

enum { MIB = 1 << 20, PAGE = 64 * 1024 }; /* no system has larger pages */

/* Sixty-four parts a file: many enough for the digest to follow closely behind several connections, and large
 * enough that the request costs little. */
static void lay_out(struct hub_partial *p, uint64_t size)
{
    uint64_t part = (size / 64 + MIB - 1) / MIB * MIB;
    part = part < 8 * MIB ? 8 * MIB : part > 256 * MIB ? 256 * MIB : part;
    p->size = size;
    p->part_size = part;
    p->n_parts = (size + part - 1) / part;
    p->journal_offset = (size + PAGE - 1) / PAGE * PAGE;
    p->journal_length = sizeof(struct hub_journal) + p->n_parts * sizeof(uint64_t);
}

uint64_t hub_partial_part_length(const struct hub_partial *p, uint64_t part)
{
    uint64_t left = p->size - part * p->part_size;
    return left < p->part_size ? left : p->part_size;
}

uint64_t hub_partial_part_done(const struct hub_partial *p, uint64_t part)
{
    return p->journal->done[part];
}

uint64_t hub_partial_prefix(struct hub_partial *p)
{
    while (p->frontier < p->n_parts &&
           p->journal->done[p->frontier] == hub_partial_part_length(p, p->frontier))
        p->frontier++;
    return p->frontier == p->n_parts ? p->size : p->frontier * p->part_size + p->journal->done[p->frontier];
}

uint64_t hub_partial_done(const struct hub_partial *p)
{
    uint64_t total = 0;
    for (uint64_t i = 0; i < p->n_parts; i++)
        total += p->journal->done[i];
    return total;
}

/* Whether the journal was written for a file and parts of these sizes. */
static bool journal_is_sound(const struct hub_partial *p, const struct hub_journal *journal)
{
    if (memcmp(journal->magic, magic, sizeof magic) != 0 || journal->size != p->size ||
        journal->part_size != p->part_size)
        return false;
    for (uint64_t i = 0; i < p->n_parts; i++)
        if (journal->done[i] > hub_partial_part_length(p, i))
            return false;
    return true;
}

/* Writes a journal that says that the first `prefix` bytes are there. */
static bool write_journal(struct hub_partial *p, uint64_t prefix, struct error *err)
{
    struct hub_journal *journal = xcalloc(1, p->journal_length);
    memcpy(journal->magic, magic, sizeof magic);
    journal->size = p->size;
    journal->part_size = p->part_size;
    for (uint64_t i = 0; i < p->n_parts && prefix > 0; i++) {
        uint64_t length = hub_partial_part_length(p, i);
        journal->done[i] = prefix < length ? prefix : length;
        prefix -= journal->done[i];
    }
    ssize_t n = pwrite(p->fd, journal, p->journal_length, (off_t)p->journal_offset);
    free(journal);
    if (n == (ssize_t)p->journal_length)
        return true;
    if (n >= 0)
        errno = ENOSPC;
    return fail_errno(err, "%s: cannot write", p->path);
}

static bool map_journal(struct hub_partial *p, struct error *err)
{
    int rw = PROT_READ | PROT_WRITE;
    void *map = mmap(NULL, p->journal_length, rw, MAP_SHARED, p->fd, (off_t)p->journal_offset);
    if (map ==
        MAP_FAILED) { /* a file system that cannot: what arrives from now on is lost with the process */
        map = mmap(NULL, p->journal_length, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED ||
            pread(p->fd, map, p->journal_length, (off_t)p->journal_offset) != (ssize_t)p->journal_length)
            return fail_errno(err, "%s: cannot read the journal", p->path);
    }
    p->journal = map;
    return true;
}

/* Bytes at the beginning of the file without a hole. */
static uint64_t solid_prefix(int fd, uint64_t size)
{
    off_t hole = lseek(fd, 0, SEEK_HOLE);
    return hole < 0 ? 0 : (uint64_t)hole < size ? (uint64_t)hole : size;
}

/* Brings an opened file of unknown content into order: a sound journal, or a new one. */
static bool prepare(struct hub_partial *p, bool foreign, struct error *err)
{
    struct stat st;
    if (fstat(p->fd, &st) != 0)
        return fail_errno(err, "%s: cannot read its size", p->path);
    if (!foreign && (uint64_t)st.st_size == p->journal_offset + p->journal_length) {
        if (!map_journal(p, err))
            return false;
        if (journal_is_sound(p, p->journal))
            return true;
        munmap(p->journal, p->journal_length);
        p->journal = NULL;
    }
    uint64_t prefix =
        foreign && (uint64_t)st.st_size <= p->size ? solid_prefix(p->fd, (uint64_t)st.st_size) : 0;
    if (ftruncate(p->fd, (off_t)prefix) != 0)
        return fail_errno(err, "%s: cannot change its size", p->path);
    return write_journal(p, prefix, err) && map_journal(p, err);
}

bool hub_partial_open(struct hub_partial *p, const char *path, const char *foreign, uint64_t size,
                      struct error *err)
{
    *p = (struct hub_partial){.fd = -1};
    lay_out(p, size);
    bool taken = foreign && access(path, F_OK) != 0 && rename(foreign, path) == 0;
    p->path = xstrdup(path);
    p->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (p->fd < 0)
        fail_errno(err, "%s: cannot open", path);
    if (p->fd >= 0 && prepare(p, taken, err))
        return true;
    hub_partial_close(p);
    return false;
}

static bool write_fully(struct hub_partial *p, uint64_t offset, const char *data, uint64_t length,
                        struct error *err)
{
    while (length > 0) {
        ssize_t n = pwrite(p->fd, data, length, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(err, "%s: cannot write", p->path);
        data += n;
        offset += (uint64_t)n;
        length -= (uint64_t)n;
    }
    return true;
}

bool hub_partial_write(struct hub_partial *p, uint64_t offset, const void *data, uint64_t length,
                       uint64_t *fresh, struct error *err)
{
    const char *bytes = data;
    *fresh = 0;
    while (length > 0) {
        uint64_t part = offset / p->part_size, at = offset % p->part_size;
        uint64_t room = hub_partial_part_length(p, part) - at, n = length < room ? length : room;
        if (!write_fully(p, offset, bytes, n, err))
            return false;
        if (at + n > p->journal->done[part]) {
            *fresh += at + n - p->journal->done[part];
            /* The store must come after the bytes; a signal or kill stops this thread between the two. */
            __atomic_store_n(&p->journal->done[part], at + n, __ATOMIC_RELEASE);
        }
        offset += n;
        bytes += n;
        length -= n;
    }
    return true;
}

bool hub_partial_reset(struct hub_partial *p, struct error *err)
{
    if (p->journal)
        munmap(p->journal, p->journal_length);
    p->journal = NULL;
    p->frontier = 0;
    if (ftruncate(p->fd, 0) != 0)
        return fail_errno(err, "%s: cannot change its size", p->path);
    return write_journal(p, 0, err) && map_journal(p, err);
}

void hub_partial_close(struct hub_partial *p)
{
    if (p->journal)
        munmap(p->journal, p->journal_length);
    if (p->fd >= 0)
        close(p->fd);
    free(p->path);
    *p = (struct hub_partial){.fd = -1};
}

void hub_partial_discard(struct hub_partial *p)
{
    if (p->path)
        unlink(p->path);
    hub_partial_close(p);
}

bool hub_partial_finish(struct hub_partial *p, const char *name, struct error *err)
{
    bool ok = true;
    munmap(p->journal, p->journal_length);
    p->journal = NULL;
    if (ftruncate(p->fd, (off_t)p->size) != 0)
        ok = fail_errno(err, "%s: cannot change its size", p->path);
    int closed = close(p->fd);
    p->fd = -1;
    if (ok && closed != 0)
        ok = fail_errno(err, "%s: cannot write", p->path);
    if (ok && rename(p->path, name) != 0)
        ok = fail_errno(err, "%s: cannot rename %s to it", name, p->path);
    hub_partial_close(p);
    return ok;
}

uint64_t hub_partial_peek(const char *path, uint64_t size)
{
    struct hub_partial p = {.fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
    uint64_t done = 0;
    struct stat st;
    lay_out(&p, size);
    if (p.fd < 0)
        return 0;
    struct hub_journal *journal = xcalloc(1, p.journal_length);
    if (fstat(p.fd, &st) == 0 && (uint64_t)st.st_size == p.journal_offset + p.journal_length &&
        pread(p.fd, journal, p.journal_length, (off_t)p.journal_offset) == (ssize_t)p.journal_length &&
        journal_is_sound(&p, journal)) {
        p.journal = journal;
        done = hub_partial_done(&p);
    }
    free(journal);
    close(p.fd);
    return done;
}
