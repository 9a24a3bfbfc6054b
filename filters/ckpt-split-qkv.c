/* ckpt-split-qkv: fused attention (and gate_up) tensors, in any fused layout -> separate q, k, v (and gate,
 * up). The exact inverse of ckpt-fuse-qkv.
 *
 * The rule: a tensor with a fused name (naming.c) is cut along dimension 0 into its parts, which are equal,
 * or have the rank's numbers of heads, or alternate head by head. */
#include "layout_options.h"
#include "memory.h"
#include "naming.h"
#include "progress.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long ull;

static const struct program program = {
    .summary = "Take fused q, k, v (and gate, up) tensors apart, whatever their layout",
    .synopsis = "[OPTION]... <STREAM >STREAM",
    .tables = (const struct option_spec *const[]){layout_options, size_options, fusion_options,
                                                  stream_options, progress_options, NULL},
    .examples = "  ckpt-unpack nxdt/ | ckpt-split-qkv --config config.json |\n"
                "    ckpt-merge --hw-backend trn1 | ckpt-pack-pt checkpoint.pt\n",
};

/* Rows of q on this rank (of k and v there are rows_kv each), from the rows of the fused tensor: its heads
 * are q' and twice kv x m, in that proportion on every rank. */
static void rows_by_heads(struct stream_info *info, const char *name, uint64_t rows, uint64_t *rows_q,
                          uint64_t *rows_kv)
{
    const struct model_config *c = &info->config;
    uint64_t tp = info->sharded ? info->tp_size : 1;
    if (!config_is_known(c))
        die(EXIT_DATA,
            "%s: the number of attention heads is not known; give the model's config.json with --config",
            name);
    uint64_t q = info->layout.pad_attn_heads ? (c->attention_heads + tp - 1) / tp * tp : c->attention_heads;
    uint64_t all_q = q * c->head_dim, one_kv = c->kv_heads * c->head_dim, all = rows * tp;
    if (rows > UINT64_MAX / tp || all <= all_q || (all - all_q) % (2 * one_kv) || all_q % tp)
        die(EXIT_DATA,
            "%s: %llu rows on each of %llu tensor ranks do not fit %llu heads and %llu KV heads of %llu; "
            "check --config "
            "and --pad-attn-heads",
            name, (ull)rows, (ull)tp, (ull)q, (ull)c->kv_heads, (ull)c->head_dim);
    uint64_t multiplier = (all - all_q) / (2 * one_kv);
    if (info->layout.kv_size_multiplier && info->layout.kv_size_multiplier != multiplier)
        die(EXIT_DATA,
            "%s: %llu rows on each of %llu tensor ranks mean a kv_size_multiplier of %llu, not %llu", name,
            (ull)rows, (ull)tp, (ull)multiplier, (ull)info->layout.kv_size_multiplier);
    *rows_q = all_q / tp;
    *rows_kv = (rows - *rows_q) / 2;
}

/* Every n-th head, beginning with head `first`. */
static struct tensor *pick_heads(const struct tensor *tensor, uint64_t first, uint64_t n, uint64_t head_dim,
                                 struct error *err)
{
    uint64_t heads = tensor->shape[0] / head_dim / n;
    struct tensor **picked = xcalloc((size_t)heads, sizeof *picked);
    for (uint64_t i = 0; i < heads; i++)
        picked[i] = tensor_narrow((struct tensor *)tensor, 0, (i * n + first) * head_dim, head_dim);
    struct tensor *part = tensor_concat(0, picked, (size_t)heads, err);
    for (uint64_t i = 0; i < heads; i++)
        tensor_free(picked[i]);
    free(picked);
    return part;
}

static void write_part(const struct record *record, size_t prefix, const char *name, struct tensor *tensor)
{
    struct record part = {xasprintf("%.*s%s", (int)prefix, record->name, name), record->rank, tensor};
    stream_write(&part);
    record_free(&part);
}

static void split(struct stream_info *info, const struct record *record, const struct fusion *fusion,
                  size_t prefix)
{
    struct error err;
    struct tensor *t = record->tensor;
    unsigned n = fusion->parts[2] ? 3 : fusion->parts[1] ? 2 : 1;
    bool interleaved = fusion->interleaved && !info->layout.compat_nxd;
    if (t->n_dims == 0 || t->shape[0] == 0)
        die(EXIT_DATA, "%s: has no rows to be taken apart", record->name);
    uint64_t rows = t->shape[0], sizes[3] = {rows / n, rows / n, rows / n}, at = 0,
             head_dim = info->config.head_dim;
    if (fusion->by_heads)
        rows_by_heads(info, record->name, rows, &sizes[0], &sizes[1]);
    sizes[2] = sizes[1];
    if (interleaved && !config_is_known(&info->config))
        die(EXIT_DATA, "%s: the size of its heads is not known; give the model's config.json with --config",
            record->name);
    if (interleaved ? rows % (n * head_dim) != 0 : (!fusion->by_heads && rows % n != 0))
        die(EXIT_DATA, "%s: its %llu rows cannot be divided into %u parts%s", record->name, (ull)rows, n,
            interleaved ? " of whole heads" : "");
    for (unsigned i = 0; i < n; i++) {
        struct tensor *part =
            interleaved ? pick_heads(t, i, n, head_dim, &err) : tensor_narrow(t, 0, at, sizes[i]);
        if (!part)
            die_error(&err);
        write_part(record, prefix, fusion->parts[i], part);
        at += sizes[i];
    }
}

int main(int argc, char **argv)
{
    struct stream_info info;
    struct record record;
    stream_writer_declare();
    if (options_parse(&program, argc, argv) < argc)
        usage_error("takes no operand, but got '%s'", argv[argc - 1]);
    struct stream_reader *in = stream_reader_open(STDIN_FILENO, &info);
    layout_options_apply(&info);
    size_options_check(&info);
    info.tensors = info.bytes = 0;
    stream_writer_begin(&info);
    while (stream_read(in, &record)) {
        uint64_t layer;
        const char *rest;
        const struct fusion *fusion =
            name_layer(record.name, &layer, &rest) ? fusion_of_fused_name(rest) : NULL;
        if (fusion)
            split(&info, &record, fusion, (size_t)(rest - record.name));
        else
            stream_write(&record);
        record_free(&record);
    }
    stream_writer_end();
    stream_reader_close(in);
    return 0;
}
