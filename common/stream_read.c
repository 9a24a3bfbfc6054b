#include "stream.h"

#include "memory.h"
#include "stream_format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

enum {
    MAX_JSON = 64 << 20,
    INPUT_BLOCK = 64 << 10,
    MAX_LAYERS = 1000000000 /* as many as name_layer() tells apart */
};

void record_free(struct record *record)
{
    free(record->name);
    tensor_free(record->tensor);
    *record = (struct record){0};
}

struct stream_reader {
    int fd;
    unsigned char block[INPUT_BLOCK];
    size_t at, filled;
    ZSTD_DStream *zstd;
    unsigned char *packed; /* compressed input, when zstd is set */
    ZSTD_inBuffer packed_in;
    bool zstd_pending; /* the compressed frame is not at its end */
    bool same_host, ended;
    char host[64];
    struct source **files; /* by the stream's numbers - 1 */
    size_t n_files, files_capacity;
    uint64_t tensors, bytes;
    bool sharded;
    bool wide; /* the pipe was made wide */
};

static const char damaged[] = "the stream on standard input is damaged";
static const char cut[] =
    "the stream on standard input ends early: the program before this one died, or a saved "
    "stream is cut";

static size_t read_fd(struct stream_reader *reader, void *to, size_t n)
{
    for (;;) {
        ssize_t got = read(reader->fd, to, n);
        if (got >= 0)
            return (size_t)got;
        if (errno != EINTR)
            die(EXIT_DATA, "cannot read standard input: %s", strerror(errno));
    }
}

static size_t read_packed(struct stream_reader *reader, void *to, size_t n)
{
    ZSTD_outBuffer out = {to, n, 0};
    while (out.pos == 0) {
        if (reader->packed_in.pos == reader->packed_in.size) {
            reader->packed_in =
                (ZSTD_inBuffer){reader->packed, read_fd(reader, reader->packed, INPUT_BLOCK), 0};
            if (reader->packed_in.size == 0 && reader->zstd_pending)
                die(EXIT_DATA, "%s", cut);
            if (reader->packed_in.size == 0)
                return 0;
        }
        size_t status = ZSTD_decompressStream(reader->zstd, &out, &reader->packed_in);
        if (ZSTD_isError(status))
            die(EXIT_DATA, "%s: zstd: %s", damaged, ZSTD_getErrorName(status));
        reader->zstd_pending = status > 0;
    }
    return out.pos;
}

static size_t read_some(struct stream_reader *reader, void *to, size_t n)
{
    return reader->zstd ? read_packed(reader, to, n) : read_fd(reader, to, n);
}

/* Reads exactly n bytes; false at the end of the input before the first of them. */
static bool read_input(struct stream_reader *reader, void *to, size_t n)
{
    unsigned char *at = to;
    size_t rest = n;
    while (rest > 0) {
        size_t got;
        if (reader->at < reader->filled) {
            got = reader->filled - reader->at < rest ? reader->filled - reader->at : rest;
            memcpy(at, reader->block + reader->at, got);
            reader->at += got;
        } else if (rest >= INPUT_BLOCK) {
            got = read_some(reader, at, rest);
        } else {
            reader->at = 0;
            reader->filled = read_some(reader, reader->block, INPUT_BLOCK);
            got = 0;
            if (reader->filled > 0)
                continue;
        }
        if (got == 0) {
            if (rest == n)
                return false;
            die(EXIT_DATA, "%s", cut);
        }
        at += got;
        rest -= got;
    }
    return true;
}

static void need_input(struct stream_reader *reader, void *to, size_t n)
{
    if (n > 0 && !read_input(reader, to, n))
        die(EXIT_DATA, "%s", cut);
}

/* When the input is compressed with zstd (RFC 8878: magic 0xFD2FB528), what has been read becomes the
 * decompressor's. */
static void detect_zstd(struct stream_reader *reader)
{
    static const unsigned char zstd_magic[4] = {0x28, 0xB5, 0x2F, 0xFD};
    while (reader->filled < sizeof zstd_magic) {
        size_t got = read_fd(reader, reader->block + reader->filled, INPUT_BLOCK - reader->filled);
        if (got == 0)
            return;
        reader->filled += got;
    }
    if (memcmp(reader->block, zstd_magic, sizeof zstd_magic) != 0)
        return;
    reader->zstd = ZSTD_createDStream();
    if (!reader->zstd)
        die(EXIT_DATA, "out of memory");
    reader->packed = xmalloc(INPUT_BLOCK);
    memcpy(reader->packed, reader->block, reader->filled);
    reader->packed_in = (ZSTD_inBuffer){reader->packed, reader->filled, 0};
    reader->at = reader->filled = 0;
}

struct frame {
    char tag[5];
    uint64_t data_length;
    struct json_document json;
};

static void read_frame(struct stream_reader *reader, struct frame *frame)
{
    unsigned char header[STREAM_FRAME_HEADER];
    struct error err;
    need_input(reader, header, sizeof header);
    memcpy(frame->tag, header, 4);
    frame->tag[4] = '\0';
    uint32_t length = le32(header + 4);
    frame->data_length = le64(header + 8);
    if (length > MAX_JSON)
        die(EXIT_DATA, "%s: a frame header of %u bytes", damaged, length);
    char *text = xmalloc((size_t)length + 1);
    need_input(reader, text, length);
    if (!json_parse(&frame->json, text, length, damaged, &err))
        die_error(&err);
    free(text);
    if (frame->data_length > 0 && strcmp(frame->tag, "TENS") != 0)
        die(EXIT_DATA, "%s: a frame that is no tensor has data", damaged);
}

/* The program that wrote the stream failed. In a pipeline it has said why, and one line is enough. */
_Noreturn static void end_with_writer(const struct stream_reader *reader)
{
    struct stat st;
    if (fstat(reader->fd, &st) == 0 && S_ISREG(st.st_mode))
        die(EXIT_DATA,
            "the stream on standard input is not whole: the program that wrote it failed; make it again");
    die_silently(EXIT_DATA);
}

static uint64_t count_or(const struct json *object, const char *key, uint64_t otherwise)
{
    uint64_t value;
    const struct json *found = json_get(object, key);
    if (!found)
        return otherwise;
    if (!json_u64(found, &value))
        die(EXIT_DATA, "%s: '%s' is not a count", damaged, key);
    return value;
}

static bool flag_of(const struct json *object, const char *key)
{
    const struct json *found = json_get(object, key);
    return json_is(found, JSON_BOOL) && found->boolean;
}

static enum backend backend_of(const char *name)
{
    return !name                       ? BACKEND_UNKNOWN
           : strcmp(name, "trn1") == 0 ? BACKEND_TRN1
           : strcmp(name, "trn2") == 0 ? BACKEND_TRN2
                                       : BACKEND_UNKNOWN;
}

static void read_info(struct stream_reader *reader, const struct json *head, struct stream_info *info)
{
    char here[64];
    struct error err;
    const char *host = json_string(json_get(head, "boot"));
    const struct json *sharded = json_get(head, "sharded"), *config = json_get(head, "config");
    if (!json_is(head, JSON_OBJECT))
        die(EXIT_DATA, "%s: its header is not a JSON object", damaged);
    *info = (struct stream_info){.sharded = sharded != NULL};
    stream_boot_id(here);
    snprintf(reader->host, sizeof reader->host, "%s", host ? host : "unknown");
    reader->same_host = host && strcmp(host, here) == 0;
    reader->sharded = info->sharded;
    if (sharded) {
        info->tp_size = count_or(sharded, "tp", 1);
        info->pp_size = count_or(sharded, "pp", 1);
        info->ep_size = count_or(sharded, "ep", 1);
        if (info->tp_size == 0 || info->pp_size == 0 || info->ep_size == 0 || info->tp_size > UINT32_MAX ||
            info->pp_size > UINT32_MAX || info->ep_size > UINT32_MAX)
            die(EXIT_DATA, "%s: its parallel sizes are impossible", damaged);
        info->layout = (struct layout){.backend = backend_of(json_string(json_get(sharded, "backend"))),
                                       .kv_size_multiplier = count_or(sharded, "kv_size_multiplier", 0),
                                       .virtual_pp_size = count_or(sharded, "virtual_pp", 0),
                                       .qkv_linear = flag_of(sharded, "qkv_linear"),
                                       .pad_attn_heads = flag_of(sharded, "pad_attn_heads"),
                                       .compat_nxd = flag_of(sharded, "compat_nxd")};
    }
    info->tensors = count_or(head, "tensors", 0);
    info->bytes = count_or(head, "bytes", 0);
    info->layers = count_or(head, "layers", 0);
    if (info->layers > MAX_LAYERS)
        die(EXIT_DATA, "%s: its number of layers is impossible", damaged);
    const struct json *lm_head = json_get(head, "lm_head");
    info->lm_head = json_is(lm_head, JSON_BOOL) ? lm_head->boolean : -1;
    if (config && !config_from_json(config, damaged, &info->config, &err))
        die_error(&err);
}

struct stream_reader *stream_reader_open(int fd, struct stream_info *info)
{
    struct stream_reader *reader = xcalloc(1, sizeof *reader);
    unsigned char begin[12];
    struct frame frame;
    if (isatty(fd))
        usage_error("standard input is a terminal; pipe a tensor stream into it, as ckpt-unpack writes one");
    reader->fd = fd;
    detect_zstd(reader);
    if (!read_input(reader, begin, sizeof begin))
        die(EXIT_DATA, "nothing on standard input: expected a tensor stream, as ckpt-unpack writes it");
    if (memcmp(begin, STREAM_MAGIC, 8) != 0)
        die(EXIT_DATA,
            "standard input is not a tensor stream: it begins with other bytes; make one with ckpt-unpack");
    if (le32(begin + 8) != STREAM_VERSION)
        die(EXIT_DATA, "the stream on standard input has version %u, but this program knows version %d only",
            le32(begin + 8), STREAM_VERSION);
    read_frame(reader, &frame);
    if (strcmp(frame.tag, "FAIL") == 0)
        end_with_writer(reader);
    if (strcmp(frame.tag, "HEAD") != 0)
        die(EXIT_DATA, "%s: it does not begin with its header", damaged);
    read_info(reader, frame.json.root, info);
    json_free(&frame.json);
    return reader;
}

static void read_file_frame(struct stream_reader *reader, const struct json *json)
{
    const char *path = json_string(json_get(json, "path"));
    if (count_or(json, "file", 0) != reader->n_files + 1 || !path || path[0] != '/')
        die(EXIT_DATA, "%s: a file frame out of order", damaged);
    if (!reader->same_host)
        die(EXIT_DATA,
            "the stream refers to %s as it was on another machine or before a restart; make the stream with "
            "ckpt-unpack --inline",
            path);
    struct source *source = xcalloc(1, sizeof *source);
    source->references = 1;
    source->path = xstrdup(path);
    source->device = count_or(json, "device", 0);
    source->inode = count_or(json, "inode", 0);
    source->size = count_or(json, "size", 0);
    source->mtime = (int64_t)count_or(json, "mtime", 0);
    GROW(reader->files, reader->n_files, reader->files_capacity);
    reader->files[reader->n_files++] = source;
}

/* An array of counts, of at most TENSOR_MAX_DIMS. */
static unsigned read_dims(const struct json *array, const char *what, uint64_t *dims)
{
    if (!json_is(array, JSON_ARRAY) || array->n > TENSOR_MAX_DIMS)
        die(EXIT_DATA, "%s: %s is not a list of at most %d numbers", damaged, what, TENSOR_MAX_DIMS);
    for (size_t i = 0; i < array->n; i++)
        if (!json_u64(array->item[i], &dims[i]))
            die(EXIT_DATA, "%s: %s has something that is not a count", damaged, what);
    return (unsigned)array->n;
}

static struct tensor *read_expression(struct stream_reader *reader, const struct json *json, enum dtype dtype,
                                      struct error *err)
{
    uint64_t shape[TENSOR_MAX_DIMS], strides[TENSOR_MAX_DIMS];
    const struct json *parts = json_get(json, "parts"), *zeros = json_get(json, "zeros");
    if (zeros)
        return tensor_zeros(dtype, read_dims(zeros, "a shape", shape), shape, err);
    if (!parts) {
        uint64_t file = count_or(json, "file", 0);
        unsigned n = read_dims(json_get(json, "shape"), "a shape", shape);
        if (file == 0 || file > reader->n_files ||
            read_dims(json_get(json, "strides"), "strides", strides) != n) {
            fail(err, "it refers to file %llu of %zu, or its shape and strides differ in length",
                 (unsigned long long)file, reader->n_files);
            return NULL;
        }
        return tensor_view(reader->files[file - 1], count_or(json, "offset", 0), dtype, n, shape, strides,
                           err);
    }
    uint64_t dim = count_or(json, "concat", UINT64_MAX);
    if (!json_is(parts, JSON_ARRAY) || parts->n == 0 || dim >= TENSOR_MAX_DIMS) {
        fail(err, "a concatenation has no parts or no dimension");
        return NULL;
    }
    struct tensor **made = xcalloc(parts->n, sizeof *made), *whole = NULL;
    size_t n = 0;
    while (n < parts->n && (made[n] = read_expression(reader, parts->item[n], dtype, err)))
        n++;
    if (n == parts->n)
        whole = tensor_concat((unsigned)dim, made, n, err);
    for (size_t i = 0; i < n; i++)
        tensor_free(made[i]);
    free(made);
    return whole;
}

static struct tensor *read_inline(struct stream_reader *reader, enum dtype dtype, unsigned n_dims,
                                  const uint64_t *shape, uint64_t length, struct error *err)
{
    struct tensor *expected = tensor_zeros(dtype, n_dims, shape, err);
    if (!expected)
        return NULL;
    uint64_t bytes = tensor_bytes(expected);
    tensor_free(expected);
    if (bytes != length) {
        fail(err, "%llu bytes follow, but its shape takes %llu", (unsigned long long)length,
             (unsigned long long)bytes);
        return NULL;
    }
    struct source *source = source_in_memory(length);
    if (!source) {
        fail(err, "its %llu bytes came inline and do not fit into memory; make the stream by reference",
             (unsigned long long)length);
        return NULL;
    }
    if (!reader->wide) /* whoever writes it may be another program, such as zstd */
        stream_widen_pipe(reader->fd);
    reader->wide = true;
    need_input(reader, source->memory, (size_t)length);
    struct tensor *tensor = tensor_view(source, 0, dtype, n_dims, shape, NULL, err);
    source_free(source);
    return tensor;
}

static void read_tensor_frame(struct stream_reader *reader, const struct frame *frame, struct record *record)
{
    uint64_t shape[TENSOR_MAX_DIMS];
    struct error err;
    const struct json *json = frame->json.root, *rank = json_get(json, "rank"),
                      *data = json_get(json, "data");
    const char *name = json_string(json_get(json, "name")), *type = json_string(json_get(json, "dtype"));
    enum dtype dtype = type ? dtype_from_name(type) : DTYPE_NONE;
    if (!name || !*name || dtype == DTYPE_NONE || (rank != NULL) != reader->sharded)
        die(EXIT_DATA, "%s: a tensor frame without name, known dtype or rank", damaged);
    unsigned n = read_dims(json_get(json, "shape"), "a shape", shape);
    uint64_t ranks[3] = {count_or(rank, "tp", 0), count_or(rank, "pp", 0), count_or(rank, "ep", 0)};
    if (ranks[0] > UINT32_MAX || ranks[1] > UINT32_MAX || ranks[2] > UINT32_MAX)
        die(EXIT_DATA, "%s: %s is on an impossible rank", damaged, name);
    *record = (struct record){.name = xstrdup(name),
                              .rank = {(uint32_t)ranks[0], (uint32_t)ranks[1], (uint32_t)ranks[2]}};
    record->tensor = data ? read_expression(reader, data, dtype, &err)
                          : read_inline(reader, dtype, n, shape, frame->data_length, &err);
    if (record->tensor) {
        bool same = record->tensor->n_dims == n && (!data || frame->data_length == 0);
        for (unsigned i = 0; same && i < n; i++)
            same = record->tensor->shape[i] == shape[i];
        if (!same) {
            fail(&err, "its data does not have its shape");
            tensor_free(record->tensor);
            record->tensor = NULL;
        }
    }
    if (!record->tensor)
        die(EXIT_DATA, "%s: %s: %s", damaged, name, err.message);
    reader->tensors++;
    reader->bytes += tensor_bytes(record->tensor);
}

static void read_end(struct stream_reader *reader, const struct json *json)
{
    char beyond;
    if (count_or(json, "tensors", UINT64_MAX) != reader->tensors ||
        count_or(json, "bytes", UINT64_MAX) != reader->bytes)
        die(EXIT_DATA, "%s: its end counts %llu tensors of %llu bytes, but %llu of %llu came", damaged,
            (unsigned long long)count_or(json, "tensors", 0), (unsigned long long)count_or(json, "bytes", 0),
            (unsigned long long)reader->tensors, (unsigned long long)reader->bytes);
    if (read_input(reader, &beyond, 1))
        die(EXIT_DATA, "%s: there is more behind its end", damaged);
    reader->ended = true;
}

bool stream_read(struct stream_reader *reader, struct record *record)
{
    while (!reader->ended) {
        struct frame frame;
        read_frame(reader, &frame);
        if (strcmp(frame.tag, "TENS") == 0) {
            read_tensor_frame(reader, &frame, record);
            json_free(&frame.json);
            return true;
        }
        if (strcmp(frame.tag, "FILE") == 0)
            read_file_frame(reader, frame.json.root);
        else if (strcmp(frame.tag, "END ") == 0)
            read_end(reader, frame.json.root);
        else if (strcmp(frame.tag, "FAIL") == 0)
            end_with_writer(reader);
        else
            die(EXIT_DATA, "%s: a frame of unknown kind", damaged);
        json_free(&frame.json);
    }
    return false;
}

void stream_reader_close(struct stream_reader *reader)
{
    for (size_t i = 0; i < reader->n_files; i++)
        source_free(reader->files[i]);
    free(reader->files);
    ZSTD_freeDStream(reader->zstd);
    free(reader->packed);
    free(reader);
}
