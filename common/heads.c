#include "heads.h"

#include "memory.h"

#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull;

static bool check_divisible(const struct head_layout *h, bool qkv_linear, struct error *err)
{
    if (!qkv_linear && h->multiplier > 1)
        return fail(err, "a kv_size_multiplier of %llu replicates KV heads, which only --qkv-linear can",
                    (ull)h->multiplier);
    if (!qkv_linear && h->kv_heads % h->tp)
        return fail(err,
                    "%llu KV heads cannot be divided among %llu tensor ranks; use a tensor parallel size "
                    "that divides "
                    "them, or --qkv-linear with a --kv-size-multiplier",
                    (ull)h->kv_heads, (ull)h->tp);
    if (h->tp % h->multiplier)
        return fail(err, "kv_size_multiplier %llu does not divide the tensor parallel size %llu",
                    (ull)h->multiplier, (ull)h->tp);
    if (h->kv_heads * h->multiplier % h->tp)
        return fail(
            err, "%llu KV heads x kv_size_multiplier %llu = %llu cannot be divided among %llu tensor ranks",
            (ull)h->kv_heads, (ull)h->multiplier, (ull)(h->kv_heads * h->multiplier), (ull)h->tp);
    return true;
}

bool head_layout_make(struct head_layout *h, const struct model_config *config, uint64_t tp,
                      const struct layout *layout, struct error *err)
{
    if (!config_is_known(config))
        return fail(err,
                    "the number of attention heads is not known; give the model's config.json with --config");
    *h = (struct head_layout){.q_heads = config->attention_heads,
                              .kv_heads = config->kv_heads,
                              .head_dim = config->head_dim,
                              .tp = tp,
                              .multiplier = layout->kv_size_multiplier ? layout->kv_size_multiplier : 1,
                              .group = config->attention_heads / config->kv_heads,
                              .backend = layout->backend,
                              .compat_nxd = layout->compat_nxd};
    if (tp > UINT32_MAX || h->multiplier > UINT32_MAX)
        return fail(err, "tensor parallel size %llu or kv_size_multiplier %llu is impossibly large", (ull)tp,
                    (ull)h->multiplier);
    if (!check_divisible(h, layout->qkv_linear, err))
        return false;
    h->kv_local = h->kv_heads * h->multiplier / tp;
    uint64_t q_padded = layout->pad_attn_heads ? (h->q_heads + tp - 1) / tp * tp : h->q_heads;
    if (q_padded % h->kv_heads)
        return fail(err, "%llu attention heads padded to %llu cannot be divided among %llu KV heads",
                    (ull)h->q_heads, (ull)q_padded, (ull)h->kv_heads);
    h->group_pad = q_padded / h->kv_heads;
    if (h->group_pad % h->multiplier)
        return fail(err,
                    "the %llu query heads of a KV head cannot be divided among its %llu replicas "
                    "(kv_size_multiplier)%s",
                    (ull)h->group_pad, (ull)h->multiplier,
                    layout->pad_attn_heads ? "" : "; --pad-attn-heads may help");
    h->q_local = q_padded / tp;
    if (h->multiplier > 1 && h->backend == BACKEND_UNKNOWN)
        return fail(
            err, "replicated KV heads are placed differently on trn1 and trn2; say which with --hw-backend");
    return true;
}

/* The chunk of KV heads (of tp/m) that a rank holds, and which of its m replicas the rank is. */
static uint64_t chunk_of(const struct head_layout *h, enum backend backend, uint64_t rank, uint64_t *replica)
{
    uint64_t chunks = h->tp / h->multiplier;
    if (backend == BACKEND_TRN2) {
        *replica = rank % h->multiplier;
        return rank / h->multiplier;
    }
    *replica = rank / chunks;
    return rank % chunks;
}

uint64_t head_layout_q(const struct head_layout *h, uint64_t rank, uint64_t i)
{
    uint64_t replica, share = h->group_pad / h->multiplier, kv, in_group;
    if (h->compat_nxd && h->backend == BACKEND_TRN2 && h->multiplier > 1) {
        /* The NxD script keeps q in natural order on trn2. */
        uint64_t head = rank * h->q_local + i;
        kv = head / h->group_pad;
        in_group = head % h->group_pad;
    } else {
        kv = chunk_of(h, h->backend, rank, &replica) * h->kv_local + i / share;
        in_group = replica * share + i % share;
    }
    return in_group < h->group ? kv * h->group + in_group : HEAD_PADDING;
}

uint64_t head_layout_kv(const struct head_layout *h, uint64_t rank)
{
    uint64_t replica;
    /* The NxD script places KV heads on trn2 as on trn1. */
    return chunk_of(h, h->compat_nxd ? BACKEND_TRN1 : h->backend, rank, &replica) * h->kv_local;
}

static struct tensor *padding_head(const struct tensor *tensor, unsigned dim, uint64_t head_dim)
{
    struct error err;
    uint64_t shape[TENSOR_MAX_DIMS];
    memcpy(shape, tensor->shape, tensor->n_dims * sizeof *shape);
    shape[dim] = head_dim;
    struct tensor *zeros = tensor_zeros(tensor->dtype, tensor->n_dims, shape, &err);
    if (!zeros)
        die_error(&err);
    return zeros;
}

/* tensor_concat() of n parts, which it releases together with their array. */
static struct tensor *concat_all(unsigned dim, struct tensor **parts, uint64_t n, struct error *err)
{
    struct tensor *whole = tensor_concat(dim, parts, (size_t)n, err);
    for (uint64_t i = 0; i < n; i++)
        tensor_free(parts[i]);
    free(parts);
    return whole;
}

struct tensor *heads_cut_q(const struct head_layout *h, struct tensor *tensor, unsigned dim, uint64_t rank)
{
    struct error err;
    struct tensor **parts = xcalloc((size_t)h->q_local, sizeof *parts);
    for (uint64_t i = 0; i < h->q_local; i++) {
        uint64_t head = head_layout_q(h, rank, i);
        parts[i] = head == HEAD_PADDING ? padding_head(tensor, dim, h->head_dim)
                                        : tensor_narrow(tensor, dim, head * h->head_dim, h->head_dim);
    }
    struct tensor *piece = concat_all(dim, parts, h->q_local, &err);
    if (!piece)
        die_error(&err);
    return piece;
}

struct tensor *heads_cut_kv(const struct head_layout *h, struct tensor *tensor, unsigned dim, uint64_t rank)
{
    return tensor_narrow(tensor, dim, head_layout_kv(h, rank) * h->head_dim, h->kv_local * h->head_dim);
}

static bool check_piece(const struct tensor *piece, unsigned dim, uint64_t heads, uint64_t head_dim,
                        struct error *err)
{
    uint64_t size = dim < piece->n_dims ? piece->shape[dim] : 0;
    return size == heads * head_dim || fail(err,
                                            "its piece has %llu along dimension %u, but the config and "
                                            "layout make %llu heads of %llu on a rank; "
                                            "check --config, --kv-size-multiplier and --pad-attn-heads",
                                            (ull)size, dim, (ull)heads, (ull)head_dim);
}

struct tensor *heads_join_q(const struct head_layout *h, struct tensor *const *pieces, unsigned dim,
                            struct error *err)
{
    for (uint64_t rank = 0; rank < h->tp; rank++)
        if (!check_piece(pieces[rank], dim, h->q_local, h->head_dim, err))
            return NULL;
    struct tensor **parts = xcalloc((size_t)h->q_heads, sizeof *parts);
    for (uint64_t rank = 0; rank < h->tp; rank++)
        for (uint64_t i = 0; i < h->q_local; i++) {
            uint64_t head = head_layout_q(h, rank, i);
            if (head != HEAD_PADDING)
                parts[head] = tensor_narrow(pieces[rank], dim, i * h->head_dim, h->head_dim);
        }
    return concat_all(dim, parts, h->q_heads, err);
}

struct tensor *heads_join_kv(const struct head_layout *h, struct tensor *const *pieces, unsigned dim,
                             struct error *err)
{
    uint64_t chunks = h->kv_heads / h->kv_local;
    for (uint64_t rank = 0; rank < h->tp; rank++)
        if (!check_piece(pieces[rank], dim, h->kv_local, h->head_dim, err))
            return NULL;
    struct tensor **parts = xcalloc((size_t)chunks, sizeof *parts);
    for (uint64_t rank = 0; rank < h->tp; rank++) {
        struct tensor **part = &parts[head_layout_kv(h, rank) / h->kv_local];
        if (!*part)
            *part = tensor_keep(pieces[rank]);
    }
    return concat_all(dim, parts, chunks, err);
}
