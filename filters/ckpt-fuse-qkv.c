/* ckpt-fuse-qkv: q, k, v and gate, up -> the fused tensors of a model's layout. The exact inverse of
 * ckpt-split-qkv.
 *
 * The rule: within a rank, the parts of a fusion (naming.c) become one tensor along dimension 0, one part
 * behind the other or, in Megatron's layouts, interleaved head by head. */
#include "layout_options.h"
#include "memory.h"
#include "naming.h"
#include "progress.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long ull;

static const struct program program = {
    .summary = "Fuse q, k, v (and gate, up) into the tensors that a model expects",
    .synopsis = "[OPTION]... <STREAM >STREAM",
    .tables = (const struct option_spec *const[]){fusion_options, layout_options, size_options,
                                                  stream_options, progress_options, NULL},
    .examples = "  ckpt-unpack hf/ | ckpt-shard --tp-size 8 --qkv-linear | ckpt-fuse-qkv --fuse-qkv |\n"
                "    ckpt-pack-xser out/\n",
};

/* A fusion of one layer on one rank, of which some parts are here. */
struct pending {
    struct rank rank;
    char *prefix; /* "model.layers.N." */
    const struct fusion *fusion;
    struct tensor *parts[3];
};

struct fuser {
    struct stream_info info;
    const struct fusion *fusions;
    struct pending *pending;
    size_t n, capacity;
};

static unsigned part_count(const struct fusion *fusion)
{
    unsigned n = 0;
    while (n < 3 && fusion->parts[n])
        n++;
    return n;
}

static const struct fusion *find_fusion(const struct fusion *fusions, const char *rest, unsigned *part)
{
    for (; fusions->fused; fusions++)
        for (*part = 0; *part < part_count(fusions); (*part)++)
            if (strcmp(fusions->parts[*part], rest) == 0)
                return fusions;
    return NULL;
}

static struct pending *pending_for(struct fuser *f, const struct record *record, const struct fusion *fusion,
                                   size_t prefix)
{
    for (size_t i = f->n; i-- > 0;) {
        struct pending *p = &f->pending[i];
        if (p->fusion == fusion && memcmp(&p->rank, &record->rank, sizeof p->rank) == 0 &&
            strlen(p->prefix) == prefix && strncmp(p->prefix, record->name, prefix) == 0)
            return p;
    }
    GROW(f->pending, f->n, f->capacity);
    f->pending[f->n] =
        (struct pending){.rank = record->rank, .prefix = xstrndup(record->name, prefix), .fusion = fusion};
    return &f->pending[f->n++];
}

/* Heads of each part in turn: part 0 head 0, part 1 head 0, …, part 0 head 1, … */
static struct tensor *interleave(const struct fuser *f, const struct pending *p, unsigned n,
                                 struct error *err)
{
    uint64_t head_dim = f->info.config.head_dim, rows = p->parts[0]->n_dims ? p->parts[0]->shape[0] : 0;
    for (unsigned i = 0; i < n; i++)
        if (p->parts[i]->n_dims == 0 || p->parts[i]->shape[0] != rows || rows % head_dim) {
            fail(err, "interleaving by heads takes parts of the same number of heads of %llu", (ull)head_dim);
            return NULL;
        }
    uint64_t heads = rows / head_dim;
    struct tensor **pieces = xcalloc((size_t)heads * n, sizeof *pieces);
    for (uint64_t h = 0; h < heads; h++)
        for (unsigned i = 0; i < n; i++)
            pieces[h * n + i] = tensor_narrow(p->parts[i], 0, h * head_dim, head_dim);
    struct tensor *whole = tensor_concat(0, pieces, (size_t)heads * n, err);
    for (size_t i = 0; i < heads * n; i++)
        tensor_free(pieces[i]);
    free(pieces);
    return whole;
}

/* The layer that has q, k and v in one without qkv_linear cuts it into thirds. */
static void check_thirds(const struct fuser *f, const struct pending *p, unsigned n)
{
    if (f->info.layout.qkv_linear || n != 3)
        return;
    for (unsigned i = 1; i < n; i++)
        if (p->parts[i]->n_dims && p->parts[0]->n_dims && p->parts[i]->shape[0] != p->parts[0]->shape[0])
            die(EXIT_DATA,
                "%s%s has %llu rows and %s has %llu: fusing fewer KV heads than heads needs --qkv-linear",
                p->prefix, p->fusion->parts[0], (ull)p->parts[0]->shape[0], p->fusion->parts[i],
                (ull)p->parts[i]->shape[0]);
}

static void write_fused(struct fuser *f, struct pending *p, unsigned n)
{
    struct error err;
    struct record record = {.rank = p->rank};
    check_thirds(f, p, n);
    bool interleaved = p->fusion->interleaved && !f->info.layout.compat_nxd;
    record.name = xasprintf("%s%s", p->prefix, p->fusion->fused);
    record.tensor = interleaved ? interleave(f, p, n, &err) : tensor_concat(0, p->parts, n, &err);
    if (!record.tensor)
        die(EXIT_DATA, "%s: cannot be made: %s", record.name, err.message);
    for (unsigned i = 0; i < n; i++)
        tensor_free(p->parts[i]);
    free(p->prefix);
    *p = f->pending[--f->n];
    stream_write(&record);
    record_free(&record);
}

static void take(struct fuser *f, struct record *record)
{
    uint64_t layer;
    const char *rest;
    unsigned part, n, here = 0;
    const struct fusion *fusion = NULL;
    if (name_layer(record->name, &layer, &rest))
        fusion = find_fusion(f->fusions, rest, &part);
    if (!fusion) {
        stream_write(record);
        return;
    }
    struct pending *p = pending_for(f, record, fusion, (size_t)(rest - record->name));
    if (p->parts[part])
        die(EXIT_DATA, "%s: is there twice on one rank", record->name);
    p->parts[part] = tensor_keep(record->tensor);
    n = part_count(fusion);
    for (unsigned i = 0; i < n; i++)
        here += p->parts[i] != NULL;
    if (here == n)
        write_fused(f, p, n);
}

static void check_complete(const struct fuser *f)
{
    if (f->n == 0)
        return;
    const struct pending *p = &f->pending[0];
    unsigned here = 0, missing = 0;
    while (!p->parts[here])
        here++;
    while (p->parts[missing])
        missing++;
    die(EXIT_DATA, "%s%s: is missing for %s, or %s is there twice", p->prefix, p->fusion->parts[missing],
        p->fusion->fused, p->fusion->parts[here]);
}

static void settle_options(struct fuser *f)
{
    bool fuse = fusion_option_fuse();
    enum attention_style style = fusion_option_style();
    layout_options_apply(&f->info);
    size_options_check(&f->info);
    const struct layout *layout = &f->info.layout;
    const struct model_config *config = &f->info.config;
    bool gqa = config_is_known(config) && config->kv_heads != config->attention_heads;
    f->fusions = fusions_of(style, layout->qkv_linear, fuse);
    if (style == ATTENTION_MEGATRON && !config_is_known(config))
        die(EXIT_DATA,
            "the number of attention heads is not known; give the model's config.json with --config");
    if (style == ATTENTION_MEGATRON && layout->kv_size_multiplier > 1)
        die(EXIT_DATA, "Megatron style has no replicated KV heads: --kv-size-multiplier must be 1, not %llu",
            (ull)layout->kv_size_multiplier);
    if (!layout->qkv_linear && gqa && (fuse || style == ATTENTION_MEGATRON))
        die(EXIT_DATA, "fused attention of a model with %llu heads and %llu KV heads needs --qkv-linear",
            (ull)config->attention_heads, (ull)config->kv_heads);
    f->info.tensors = f->info.bytes = 0;
}

int main(int argc, char **argv)
{
    struct fuser f = {0};
    struct record record;
    stream_writer_declare();
    if (options_parse(&program, argc, argv) < argc)
        usage_error("takes no operand, but got '%s'", argv[argc - 1]);
    struct stream_reader *in = stream_reader_open(STDIN_FILENO, &f.info);
    settle_options(&f);
    stream_writer_begin(&f.info);
    while (stream_read(in, &record)) {
        take(&f, &record);
        record_free(&record);
    }
    check_complete(&f);
    stream_writer_end();
    free(f.pending);
    stream_reader_close(in);
    return 0;
}
