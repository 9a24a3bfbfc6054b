#include "materialize.h"

#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_OPEN = 64, SCRATCH = 256 << 10 };

struct open_file {
    const struct source *source;
    int fd;
    uint64_t last_use;
};

struct materializer {
    struct open_file files[MAX_OPEN];
    unsigned n_files, max_files;
    uint64_t clock;
    unsigned char *block;   /* MATERIALIZE_BLOCK bytes that consumers see */
    unsigned char *other;   /* a second one, for comparing; allocated when needed */
    unsigned char *scratch; /* SCRATCH bytes read to pick elements from */
};

struct materializer *materializer_new(unsigned threads)
{
    struct rlimit limit;
    struct materializer *m = xcalloc(1, sizeof *m);
    uint64_t descriptors = getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 256;
    uint64_t share = (descriptors > 64 ? descriptors - 48 : 16) / (threads ? threads : 1);
    m->max_files = share < 2 ? 2 : share > MAX_OPEN ? MAX_OPEN : (unsigned)share;
    m->block = xmalloc(MATERIALIZE_BLOCK);
    m->scratch = xmalloc(SCRATCH);
    return m;
}

static bool still_the_same(const struct source *source, int fd, struct error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return fail_errno(err, "%s: cannot read its state", source->path);
    int64_t mtime = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    if (source->device != (uint64_t)st.st_dev || source->inode != (uint64_t)st.st_ino)
        return fail(err,
                    "%s: is not the file that the stream refers to (another one is in its place, or this is "
                    "another machine); run again, or use ckpt-unpack --inline",
                    source->path);
    if (source->size != (uint64_t)st.st_size)
        return fail(err,
                    "%s: changed while it was being converted (%llu bytes, was %llu); run again, or use "
                    "ckpt-unpack --inline",
                    source->path, (unsigned long long)st.st_size, (unsigned long long)source->size);
    if (source->mtime != mtime)
        return fail(err,
                    "%s: changed while it was being converted (it has another modification time); run again, "
                    "or use ckpt-unpack --inline",
                    source->path);
    return true;
}

static bool close_file(struct open_file *file, struct error *err)
{
    bool ok = still_the_same(file->source, file->fd, err);
    close(file->fd);
    return ok;
}

bool materializer_finish(struct materializer *m, struct error *err)
{
    bool ok = true;
    for (unsigned i = 0; i < m->n_files; i++) {
        struct error later;
        ok = close_file(&m->files[i], ok ? err : &later) && ok;
    }
    free(m->block);
    free(m->other);
    free(m->scratch);
    free(m);
    return ok;
}

/* An open descriptor of the source; the least recently used file makes room for it. */
static int open_source(struct materializer *m, const struct source *source, struct error *err)
{
    struct open_file *file = NULL;
    m->clock++;
    for (unsigned i = 0; i < m->n_files; i++)
        if (m->files[i].source == source) {
            m->files[i].last_use = m->clock;
            return m->files[i].fd;
        }
    if (m->n_files < m->max_files) {
        file = &m->files[m->n_files];
    } else {
        file = m->files;
        for (unsigned i = 1; i < m->n_files; i++)
            if (m->files[i].last_use < file->last_use)
                file = &m->files[i];
        if (!close_file(file, err)) {
            *file = m->files[--m->n_files];
            return -1;
        }
    }
    int fd = open(source->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || !still_the_same(source, fd, err)) {
        if (fd < 0)
            fail_errno(err, "%s: cannot open what the stream refers to", source->path);
        else
            close(fd);
        if (file != &m->files[m->n_files])
            *file = m->files[--m->n_files];
        return -1;
    }
    if (file == &m->files[m->n_files])
        m->n_files++;
    *file = (struct open_file){source, fd, m->clock};
    return fd;
}

static bool read_range(struct materializer *m, const struct source *source, uint64_t offset,
                       unsigned char *to, size_t n, struct error *err)
{
    if (source->memory) {
        memcpy(to, source->memory + offset, n);
        return true;
    }
    int fd = open_source(m, source, err);
    if (fd < 0)
        return false;
    while (n > 0) {
        ssize_t got = pread(fd, to, n, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno(err, "%s: cannot read %zu bytes at %llu", source->path, n,
                              (unsigned long long)offset);
        if (got == 0)
            return fail(err, "%s: ends at %llu, inside a tensor", source->path, (unsigned long long)offset);
        to += got;
        offset += (uint64_t)got;
        n -= (size_t)got;
    }
    return true;
}

/* A dimension of a copy: how many elements, and how far apart they are (in bytes) in the source and in the
 * destination. */
struct step {
    uint64_t count, from, to;
};

/* Copies runs of `unit` bytes that lie `step.from` apart: reads as many at once as fit the scratch. */
static bool gather(struct materializer *m, const struct source *source, uint64_t offset, struct step step,
                   unsigned char *to, size_t unit, struct error *err)
{
    uint64_t at_once = step.from == 0 ? step.count : (SCRATCH - unit) / step.from + 1;
    for (uint64_t done = 0; done < step.count;) {
        uint64_t n = step.count - done < at_once ? step.count - done : at_once;
        if (!read_range(m, source, offset + done * step.from, m->scratch,
                        (size_t)((n - 1) * step.from) + unit, err))
            return false;
        for (uint64_t i = 0; i < n; i++)
            memcpy(to + (done + i) * step.to, m->scratch + i * step.from, unit);
        done += n;
    }
    return true;
}

/* A call of pread() costs about as much as copying GAP bytes: runs that are that close are read together. */
static bool worth_gathering(struct step step, size_t unit)
{
    enum { GAP = 2048 };
    return unit <= SCRATCH / 4 && step.from <= unit + GAP;
}

/* Copies runs of `unit` bytes, as many and as far apart as the steps say. */
static bool copy_steps(struct materializer *m, const struct source *source, uint64_t offset,
                       const struct step *steps, unsigned n, unsigned char *to, size_t unit,
                       struct error *err)
{
    if (n == 0)
        return read_range(m, source, offset, to, unit, err);
    if (n == 1 && worth_gathering(steps[0], unit))
        return gather(m, source, offset, steps[0], to, unit, err);
    for (uint64_t i = 0; i < steps->count; i++)
        if (!copy_steps(m, source, offset + i * steps->from, steps + 1, n - 1, to + i * steps->to, unit, err))
            return false;
    return true;
}

/* The steps of a box of a view, widest source stride first, with dimensions that continue each other as one.
 */
static unsigned make_steps(const struct tensor *view, const uint64_t *extent, const uint64_t *to_strides,
                           struct step *steps)
{
    unsigned n = 0;
    size_t size = dtype_size(view->dtype);
    for (unsigned i = 0; i < view->n_dims; i++) {
        struct step step = {extent[i], view->strides[i] * size, to_strides[i]};
        unsigned at = n;
        if (step.count == 1)
            continue;
        for (; at > 0 && steps[at - 1].from < step.from; at--)
            steps[at] = steps[at - 1];
        steps[at] = step;
        n++;
    }
    for (unsigned i = n; i-- > 1;) {
        struct step *outer = &steps[i - 1], *inner = &steps[i];
        if (outer->from != inner->count * inner->from || outer->to != inner->count * inner->to)
            continue;
        *outer = (struct step){outer->count * inner->count, inner->from, inner->to};
        memmove(inner, inner + 1, (n - i - 1) * sizeof *inner);
        n--;
    }
    return n;
}

static void zero_box(unsigned n_dims, const uint64_t *extent, const uint64_t *to_strides, unsigned char *to,
                     size_t size)
{
    if (n_dims == 0)
        memset(to, 0, size);
    else if (n_dims == 1 && to_strides[0] == size)
        memset(to, 0, (size_t)extent[0] * size);
    else
        for (uint64_t i = 0; i < extent[0]; i++)
            zero_box(n_dims - 1, extent + 1, to_strides + 1, to + i * to_strides[0], size);
}

/* Puts the box of elements start … start+extent-1 (in each dimension) where to is its first element's place.
 */
static bool fill_box(struct materializer *m, const struct tensor *tensor, const uint64_t *start,
                     const uint64_t *extent, const uint64_t *to_strides, unsigned char *to, struct error *err)
{
    size_t size = dtype_size(tensor->dtype);
    if (tensor->kind == TENSOR_ZEROS) {
        zero_box(tensor->n_dims, extent, to_strides, to, size);
        return true;
    }
    if (tensor->kind == TENSOR_VIEW) {
        struct step steps[TENSOR_MAX_DIMS];
        uint64_t offset = tensor->offset;
        for (unsigned i = 0; i < tensor->n_dims; i++)
            offset += start[i] * tensor->strides[i] * size;
        unsigned n = make_steps(tensor, extent, to_strides, steps);
        bool run = n > 0 && steps[n - 1].from == size && steps[n - 1].to == size;
        size_t unit = run ? (size_t)steps[n - 1].count * size : size;
        return copy_steps(m, tensor->source, offset, steps, run ? n - 1 : n, to, unit, err);
    }
    uint64_t part_start[TENSOR_MAX_DIMS], part_extent[TENSOR_MAX_DIMS], at = 0;
    unsigned dim = tensor->dim;
    memcpy(part_start, start, tensor->n_dims * sizeof *start);
    memcpy(part_extent, extent, tensor->n_dims * sizeof *extent);
    uint64_t begin = start[dim], end = begin + extent[dim];
    for (size_t i = 0; i < tensor->n_parts && at < end; i++) {
        const struct tensor *part = tensor->parts[i];
        uint64_t first = begin > at ? begin : at,
                 last = end < at + part->shape[dim] ? end : at + part->shape[dim];
        if (first < last) {
            part_start[dim] = first - at;
            part_extent[dim] = last - first;
            if (!fill_box(m, part, part_start, part_extent, to_strides,
                          to + (first - begin) * to_strides[dim], err))
                return false;
        }
        at += part->shape[dim];
    }
    return true;
}

/* The largest box that begins at element `index` of the row-major order and holds at most `limit` elements in
 * that order without a gap: whole rows, or a part of one. Returns its number of elements. */
static uint64_t next_box(const struct tensor *tensor, uint64_t index, uint64_t limit, uint64_t *start,
                         uint64_t *extent)
{
    uint64_t below = 1; /* elements of one step of dimension i */
    for (unsigned i = tensor->n_dims; i-- > 0;) {
        start[i] = index % tensor->shape[i];
        index /= tensor->shape[i];
        extent[i] = 1;
    }
    for (unsigned i = tensor->n_dims; i-- > 0;) {
        uint64_t fits = limit / below, rest = tensor->shape[i] - start[i];
        extent[i] = rest < fits ? rest : fits;
        if (start[i] > 0 || extent[i] < tensor->shape[i])
            return below * extent[i];
        below *= tensor->shape[i];
    }
    return below;
}

/* Fills `to` with n elements from `index` on, n of them at most and at least one box; returns how many, 0 on
 * failure. */
static uint64_t fill_some(struct materializer *m, const struct tensor *tensor, uint64_t index, uint64_t n,
                          unsigned char *to, struct error *err)
{
    uint64_t start[TENSOR_MAX_DIMS], extent[TENSOR_MAX_DIMS], to_strides[TENSOR_MAX_DIMS];
    size_t size = dtype_size(tensor->dtype);
    uint64_t count = next_box(tensor, index, n, start, extent), step = size;
    for (unsigned i = tensor->n_dims; i-- > 0;) {
        to_strides[i] = step;
        step *= extent[i];
    }
    return fill_box(m, tensor, start, extent, to_strides, to, err) ? count : 0;
}

static bool fill(struct materializer *m, const struct tensor *tensor, uint64_t index, uint64_t n,
                 unsigned char *to, struct error *err)
{
    while (n > 0) {
        uint64_t done = fill_some(m, tensor, index, n, to, err);
        if (done == 0)
            return false;
        index += done;
        n -= done;
        to += done * dtype_size(tensor->dtype);
    }
    return true;
}

bool materialize(struct materializer *m, const struct tensor *tensor, uint64_t begin, uint64_t length,
                 bool (*consume)(void *context, const unsigned char *bytes, size_t n, struct error *err),
                 void *context, struct error *err)
{
    const unsigned char *memory = tensor_memory(tensor);
    for (uint64_t done = 0; memory && done < length; done += MATERIALIZE_BLOCK) {
        uint64_t n = length - done < MATERIALIZE_BLOCK ? length - done : MATERIALIZE_BLOCK;
        if (!consume(context, memory + begin + done, (size_t)n, err))
            return false;
    }
    if (memory)
        return true;
    size_t size = dtype_size(tensor->dtype);
    uint64_t index = begin / size, rest = length / size;
    while (rest > 0) {
        uint64_t n = rest < MATERIALIZE_BLOCK / size ? rest : MATERIALIZE_BLOCK / size;
        n = fill_some(m, tensor, index, n, m->block, err);
        if (n == 0 || !consume(context, m->block, (size_t)n * size, err))
            return false;
        index += n;
        rest -= n;
    }
    return true;
}

bool materialize_pair(struct materializer *m, const struct tensor *a, const struct tensor *b,
                      bool (*consume)(void *context, uint64_t first, const unsigned char *of_a,
                                      const unsigned char *of_b, size_t n),
                      void *context, struct error *err)
{
    size_t size = dtype_size(a->dtype);
    uint64_t total = tensor_elements(a), at_once = MATERIALIZE_BLOCK / size;
    bool more = true;
    if (!m->other)
        m->other = xmalloc(MATERIALIZE_BLOCK);
    for (uint64_t done = 0; done < total && more; done += at_once) {
        uint64_t n = total - done < at_once ? total - done : at_once;
        if (!fill(m, a, done, n, m->block, err) || !fill(m, b, done, n, m->other, err))
            return false;
        more = consume(context, done, m->block, m->other, (size_t)n);
    }
    return true;
}

struct comparison {
    bool equal;
    size_t size; /* bytes an element */
};

static bool compare_block(void *context, uint64_t first, const unsigned char *of_a, const unsigned char *of_b,
                          size_t n)
{
    struct comparison *comparison = context;
    (void)first;
    comparison->equal = memcmp(of_a, of_b, n * comparison->size) == 0;
    return comparison->equal;
}

bool materialize_equal(struct materializer *m, const struct tensor *a, const struct tensor *b, bool *equal,
                       struct error *err)
{
    struct comparison comparison = {true, dtype_size(a->dtype)};
    bool ok = tensor_same_view(a, b) || materialize_pair(m, a, b, compare_block, &comparison, err);
    *equal = comparison.equal;
    return ok;
}

static bool hash_block(void *context, const unsigned char *bytes, size_t n, struct error *err)
{
    return EVP_DigestUpdate(context, bytes, n) == 1 || fail(err, "libcrypto cannot compute SHA-256");
}

bool materialize_sha256(struct materializer *m, const struct tensor *tensor, char digits[65],
                        struct error *err)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool ok = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;
    if (!ok)
        fail(err, "libcrypto cannot compute SHA-256");
    ok = ok && materialize(m, tensor, 0, tensor_bytes(tensor), hash_block, context, err);
    if (ok && (EVP_DigestFinal_ex(context, digest, &n) != 1 || n != 32))
        ok = fail(err, "libcrypto cannot compute SHA-256");
    for (unsigned i = 0; ok && i < n; i++)
        snprintf(digits + 2 * i, 3, "%02x", digest[i]);
    EVP_MD_CTX_free(context);
    return ok;
}
