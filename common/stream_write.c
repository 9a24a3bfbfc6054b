#include "stream.h"

#include "materialize.h"
#include "memory.h"
#include "progress.h"
#include "stream_format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool force_inline, force_reference;

const struct option_spec stream_options[] = {
    {.kind = OPTION_HEADING, .help = "Stream and messages"},
    {.name = "inline",
     .kind = OPTION_FLAG,
     .value = &force_inline,
     .help = "write the tensors' bytes into the stream (default when\nstandard output is not a pipe)"},
    {.name = "by-reference",
     .kind = OPTION_FLAG,
     .value = &force_reference,
     .help = "write which bytes of which file make a tensor (default\nwhen standard output is a pipe)"},
    {0},
};

void stream_boot_id(char id[64])
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (!file || !fgets(id, 64, file))
        strcpy(id, "unknown");
    id[strcspn(id, "\n")] = '\0';
    if (file)
        fclose(file);
}

void stream_widen_pipe(int fd)
{
    enum { WIDE = 1 << 20 };
    if (fcntl(fd, F_GETPIPE_SZ) < WIDE)
        fcntl(fd, F_SETPIPE_SZ, WIDE);
}

static struct {
    bool declared, begun, inline_mode;
    uint64_t data_left; /* bytes of a tensor's data that are still to come */
    struct strbuf json;
    uint64_t tensors, bytes;
    struct materializer *materializer;
    struct source **sources; /* kept, so that their numbers stay theirs */
    size_t n_sources, sources_capacity;
    bool sharded;
} out;

static bool write_all(const void *bytes, size_t n)
{
    return fwrite(bytes, 1, n, stdout) == n;
}

static void must_write(const void *bytes, size_t n)
{
    if (!write_all(bytes, n))
        die(EXIT_DATA, "cannot write to standard output: %s", strerror(errno));
}

static bool write_frame(const char *tag, const char *json, size_t length, uint64_t data_length)
{
    unsigned char header[STREAM_FRAME_HEADER];
    memcpy(header, tag, 4);
    put_le32(header + 4, (uint32_t)length);
    put_le64(header + 8, data_length);
    return write_all(header, sizeof header) && write_all(json, length);
}

static bool write_begin(void)
{
    unsigned char version[4];
    put_le32(version, STREAM_VERSION);
    return write_all(STREAM_MAGIC, 8) && write_all(version, sizeof version);
}

/* Fills up the tensor whose data could not all be had; no reader uses it, for the frame behind it says so. */
static bool write_filling(void)
{
    static const unsigned char zeros[64 << 10];
    struct stat st;
    if (out.data_left > 0 && !(fstat(STDOUT_FILENO, &st) == 0 && S_ISFIFO(st.st_mode)))
        return false; /* a saved stream is cut, and that is as clear */
    while (out.data_left > 0) {
        size_t n = out.data_left < sizeof zeros ? (size_t)out.data_left : sizeof zeros;
        if (!write_all(zeros, n))
            return false;
        out.data_left -= n;
    }
    return true;
}

/* Tells the next program that this one has failed and said why. */
static void write_failure(void)
{
    if (!out.declared || isatty(STDOUT_FILENO))
        return;
    if ((out.begun || write_begin()) && write_filling() && write_frame("FAIL", "{}", 2, 0))
        fflush(stdout);
    out.declared = false;
}

void stream_writer_declare(void)
{
    fail_cleanup(write_failure);
    out.declared = true;
}

static void settle_mode(void)
{
    struct stat st;
    if (isatty(STDOUT_FILENO))
        usage_error("standard output is a terminal, and a tensor stream is not for reading; pipe it into "
                    "ckpt-ls or redirect it");
    if (force_inline && force_reference)
        usage_error("--inline and --by-reference exclude each other");
    out.inline_mode =
        force_inline || (!force_reference && !(fstat(STDOUT_FILENO, &st) == 0 && S_ISFIFO(st.st_mode)));
}

static void add_count(struct strbuf *json, const char *key, uint64_t value)
{
    if (value)
        strbuf_printf(json, ",\"%s\":%llu", key, (unsigned long long)value);
}

static void add_flag(struct strbuf *json, const char *key, bool value)
{
    if (value)
        strbuf_printf(json, ",\"%s\":true", key);
}

static void add_config(struct strbuf *json, const struct model_config *config)
{
    strbuf_printf(json, ",\"config\":{\"num_attention_heads\":%llu",
                  (unsigned long long)config->attention_heads);
    add_count(json, "num_key_value_heads", config->kv_heads);
    add_count(json, "head_dim", config->head_dim);
    add_count(json, "hidden_size", config->hidden_size);
    add_count(json, "num_hidden_layers", config->layers);
    add_flag(json, "tie_word_embeddings", config->tie_word_embeddings);
    strbuf_puts(json, "}");
}

void stream_writer_begin(const struct stream_info *info)
{
    static const char *const backends[] = {NULL, "trn1", "trn2"};
    char boot[64];
    settle_mode();
    stream_boot_id(boot);
    strbuf_printf(&out.json, "{\"boot\":\"%s\"", boot);
    if (info->sharded) {
        strbuf_printf(&out.json, ",\"sharded\":{\"tp\":%llu,\"pp\":%llu", (unsigned long long)info->tp_size,
                      (unsigned long long)info->pp_size);
        if (info->ep_size > 1)
            add_count(&out.json, "ep", info->ep_size);
        add_count(&out.json, "virtual_pp", info->layout.virtual_pp_size);
        add_count(&out.json, "kv_size_multiplier", info->layout.kv_size_multiplier);
        if (info->layout.backend)
            strbuf_printf(&out.json, ",\"backend\":\"%s\"", backends[info->layout.backend]);
        add_flag(&out.json, "qkv_linear", info->layout.qkv_linear);
        add_flag(&out.json, "pad_attn_heads", info->layout.pad_attn_heads);
        add_flag(&out.json, "compat_nxd", info->layout.compat_nxd);
        strbuf_puts(&out.json, "}");
    }
    add_count(&out.json, "tensors", info->tensors);
    add_count(&out.json, "bytes", info->bytes);
    add_count(&out.json, "layers", info->layers);
    if (info->lm_head >= 0)
        strbuf_printf(&out.json, ",\"lm_head\":%s", info->lm_head ? "true" : "false");
    if (config_is_known(&info->config))
        add_config(&out.json, &info->config);
    strbuf_puts(&out.json, "}");
    out.sharded = info->sharded;
    out.begun = true;
    if (!write_begin() || !write_frame("HEAD", out.json.data, out.json.length, 0))
        die(EXIT_DATA, "cannot write to standard output: %s", strerror(errno));
    if (out.inline_mode)
        progress_begin("streaming", info->bytes);
}

static void write_file_frame(const struct source *source)
{
    struct strbuf json = {0};
    strbuf_printf(&json, "{\"file\":%llu,\"path\":", (unsigned long long)source->stream_id);
    json_write_string(&json, source->path);
    strbuf_printf(&json, ",\"device\":%llu,\"inode\":%llu,\"size\":%llu,\"mtime\":%llu}",
                  (unsigned long long)source->device, (unsigned long long)source->inode,
                  (unsigned long long)source->size, (unsigned long long)source->mtime);
    if (!write_frame("FILE", json.data, json.length, 0))
        die(EXIT_DATA, "cannot write to standard output: %s", strerror(errno));
    strbuf_free(&json);
}

/* Keeps every file that the tensor uses (the materializer may have it open) and gives it a number; by
 * reference, writes the frames that introduce them. */
static void take_files(const struct tensor *tensor)
{
    for (size_t i = 0; i < tensor->n_parts; i++)
        take_files(tensor->parts[i]);
    struct source *source = tensor->source;
    if (!source || source->memory || source->stream_id)
        return;
    GROW(out.sources, out.n_sources, out.sources_capacity);
    out.sources[out.n_sources++] = source_keep(source);
    source->stream_id = out.n_sources;
    if (!out.inline_mode)
        write_file_frame(source);
}

static void add_dims(struct strbuf *json, const char *key, unsigned n, const uint64_t *dims)
{
    strbuf_printf(json, "\"%s\":[", key);
    for (unsigned i = 0; i < n; i++)
        strbuf_printf(json, "%s%llu", i ? "," : "", (unsigned long long)dims[i]);
    strbuf_puts(json, "]");
}

static void add_expression(struct strbuf *json, const struct tensor *tensor)
{
    strbuf_puts(json, "{");
    switch (tensor->kind) {
    case TENSOR_ZEROS:
        add_dims(json, "zeros", tensor->n_dims, tensor->shape);
        break;
    case TENSOR_VIEW:
        strbuf_printf(json, "\"file\":%llu,\"offset\":%llu,", (unsigned long long)tensor->source->stream_id,
                      (unsigned long long)tensor->offset);
        add_dims(json, "shape", tensor->n_dims, tensor->shape);
        strbuf_puts(json, ",");
        add_dims(json, "strides", tensor->n_dims, tensor->strides);
        break;
    case TENSOR_CONCAT:
        strbuf_printf(json, "\"concat\":%u,\"parts\":[", tensor->dim);
        for (size_t i = 0; i < tensor->n_parts; i++) {
            if (i)
                strbuf_puts(json, ",");
            add_expression(json, tensor->parts[i]);
        }
        strbuf_puts(json, "]");
        break;
    }
    strbuf_puts(json, "}");
}

static bool write_block(void *context, const unsigned char *bytes, size_t n, struct error *err)
{
    (void)context;
    (void)err;
    must_write(bytes, n);
    out.data_left -= n;
    progress_add(n);
    return true;
}

static void write_data(const struct record *record)
{
    struct error err;
    if (!out.materializer) {
        stream_widen_pipe(STDOUT_FILENO);
        out.materializer = materializer_new(1);
    }
    out.data_left = tensor_bytes(record->tensor);
    if (!materialize(out.materializer, record->tensor, 0, tensor_bytes(record->tensor), write_block, NULL,
                     &err))
        die_error(&err);
}

void stream_write(const struct record *record)
{
    bool in_memory = tensor_in_memory(record->tensor), inline_data = out.inline_mode || in_memory;
    if (in_memory && force_reference)
        die(EXIT_DATA, "%s came inline, so it cannot go on by reference; leave out --by-reference",
            record->name);
    take_files(record->tensor);
    strbuf_reset(&out.json);
    strbuf_puts(&out.json, "{\"name\":");
    json_write_string(&out.json, record->name);
    strbuf_printf(&out.json, ",\"dtype\":\"%s\",", dtype_name(record->tensor->dtype));
    add_dims(&out.json, "shape", record->tensor->n_dims, record->tensor->shape);
    if (out.sharded) {
        strbuf_printf(&out.json, ",\"rank\":{\"tp\":%u,\"pp\":%u", record->rank.tp, record->rank.pp);
        if (record->rank.ep)
            strbuf_printf(&out.json, ",\"ep\":%u", record->rank.ep);
        strbuf_puts(&out.json, "}");
    }
    if (!inline_data) {
        strbuf_puts(&out.json, ",\"data\":");
        add_expression(&out.json, record->tensor);
    }
    strbuf_puts(&out.json, "}");
    uint64_t bytes = tensor_bytes(record->tensor);
    if (!write_frame("TENS", out.json.data, out.json.length, inline_data ? bytes : 0))
        die(EXIT_DATA, "cannot write to standard output: %s", strerror(errno));
    if (inline_data)
        write_data(record);
    out.tensors++;
    out.bytes += bytes;
}

void stream_writer_end(void)
{
    struct error err;
    char json[96];
    if (out.materializer && !materializer_finish(out.materializer, &err))
        die_error(&err);
    int n = snprintf(json, sizeof json, "{\"tensors\":%llu,\"bytes\":%llu}", (unsigned long long)out.tensors,
                     (unsigned long long)out.bytes);
    bool ok = write_frame("END ", json, (size_t)n, 0);
    out.declared = false; /* from here on the stream is whole, or the reader sees that it is cut */
    progress_end();
    if (!ok || fclose(stdout) != 0)
        die(EXIT_DATA, "cannot write to standard output: %s", strerror(errno));
    for (size_t i = 0; i < out.n_sources; i++)
        source_free(out.sources[i]);
    free(out.sources);
    strbuf_free(&out.json);
    out.sources = NULL;
}
