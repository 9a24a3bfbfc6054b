/* Attention heads on tensor parallel ranks.
 *
 * KV heads are replicated kv_size_multiplier (m) times so that each of tp ranks has n = kv*m/tp of them; a
 * rank's query heads are those that use its KV heads, divided among the replicas. ckpt-shard cuts by these
 * lists and ckpt-merge joins by the same ones, which makes them inverses. */
#ifndef HEADS_H
#define HEADS_H

#include "config.h"
#include "stream.h"

struct head_layout {
    uint64_t q_heads, kv_heads, head_dim; /* of the model */
    uint64_t tp;
    uint64_t multiplier;       /* m */
    uint64_t kv_local;         /* n: KV heads on a rank */
    uint64_t q_local;          /* query heads on a rank, with padding */
    uint64_t group, group_pad; /* query heads a KV head, without and with padding */
    enum backend backend;
    bool compat_nxd;
};

/* A query head that is padding. */
#define HEAD_PADDING UINT64_MAX

/* Checks the sizes against each other; errors say which do not divide. layout->kv_size_multiplier 0 counts as
 * 1; the backend may be unknown when it is 1. */
bool head_layout_make(struct head_layout *heads, const struct model_config *config, uint64_t tp,
                      const struct layout *layout, struct error *err);

/* The model's query head that is local head i of a rank, or HEAD_PADDING. */
uint64_t head_layout_q(const struct head_layout *heads, uint64_t rank, uint64_t i);
/* The model's first KV head on a rank; kv_local of them follow each other. */
uint64_t head_layout_kv(const struct head_layout *heads, uint64_t rank);

/* A rank's piece of a tensor whose dimension dim holds all query or KV heads, one behind the other. Padding
 * heads are zeros. The caller sees to it that dim has the model's number of heads. */
struct tensor *heads_cut_q(const struct head_layout *heads, struct tensor *tensor, unsigned dim,
                           uint64_t rank);
struct tensor *heads_cut_kv(const struct head_layout *heads, struct tensor *tensor, unsigned dim,
                            uint64_t rank);
/* The inverses, from the pieces of all tp ranks: padding is dropped, and of replicas the one on the lowest
 * rank is taken. NULL after filling err when a piece has not the size that the layout asks for. */
struct tensor *heads_join_q(const struct head_layout *heads, struct tensor *const *pieces, unsigned dim,
                            struct error *err);
struct tensor *heads_join_kv(const struct head_layout *heads, struct tensor *const *pieces, unsigned dim,
                             struct error *err);

#endif
