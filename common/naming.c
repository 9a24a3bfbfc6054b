#include "naming.h"

#include "memory.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

const char EMBEDDING_NAME[] = "model.embed_tokens.weight", LM_HEAD_NAME[] = "lm_head.weight";

static const struct tensor_rule outside_layers[] = {
    {"model.embed_tokens.weight", SPLIT_EVEN, 0, PLACE_FIRST_STAGE},
    {"model.norm.weight", SPLIT_WHOLE, 0, PLACE_LAST_STAGE},
    {"model.norm.bias", SPLIT_WHOLE, 0, PLACE_LAST_STAGE},
    {"lm_head.weight", SPLIT_EVEN, 0, PLACE_LAST_STAGE},
    {"lm_head.bias", SPLIT_EVEN, 0, PLACE_LAST_STAGE},
    {0},
};

static const struct tensor_rule inside_layers[] = {
    {"self_attn.q_proj.weight", SPLIT_Q, 0, PLACE_LAYER},
    {"self_attn.q_proj.bias", SPLIT_Q, 0, PLACE_LAYER},
    {"self_attn.k_proj.weight", SPLIT_KV, 0, PLACE_LAYER},
    {"self_attn.k_proj.bias", SPLIT_KV, 0, PLACE_LAYER},
    {"self_attn.v_proj.weight", SPLIT_KV, 0, PLACE_LAYER},
    {"self_attn.v_proj.bias", SPLIT_KV, 0, PLACE_LAYER},
    {"self_attn.o_proj.weight", SPLIT_Q, 1, PLACE_LAYER},
    {"self_attn.o_proj.bias", SPLIT_WHOLE, 0, PLACE_LAYER},
    {"mlp.gate_proj.weight", SPLIT_EVEN, 0, PLACE_LAYER},
    {"mlp.gate_proj.bias", SPLIT_EVEN, 0, PLACE_LAYER},
    {"mlp.up_proj.weight", SPLIT_EVEN, 0, PLACE_LAYER},
    {"mlp.up_proj.bias", SPLIT_EVEN, 0, PLACE_LAYER},
    {"mlp.down_proj.weight", SPLIT_EVEN, 1, PLACE_LAYER},
    {"mlp.down_proj.bias", SPLIT_WHOLE, 0, PLACE_LAYER},
    {0},
};

bool name_layer(const char *name, uint64_t *layer, const char **rest)
{
    const char *at = strstr(name, "layers.");
    if (!at || (at != name && at[-1] != '.'))
        return false;
    const char *digits = at + strlen("layers."), *end = digits;
    while (isdigit((unsigned char)*end))
        end++;
    if (end == digits || end - digits > 9 || *end != '.')
        return false;
    *layer = strtoull(digits, NULL, 10);
    *rest = end + 1;
    return true;
}

static const struct tensor_rule *find_rule(const struct tensor_rule *table, const char *name)
{
    while (table->name && strcmp(table->name, name) != 0)
        table++;
    return table->name ? table : NULL;
}

struct tensor_rule rule_of_tensor(const char *name, uint64_t *layer, bool *known)
{
    const char *rest;
    bool in_layer = has_prefix(name, "model.layers.") && name_layer(name, layer, &rest);
    const struct tensor_rule *rule =
        in_layer ? find_rule(inside_layers, rest) : find_rule(outside_layers, name);
    *known = rule != NULL;
    if (rule)
        return *rule;
    return (struct tensor_rule){name, SPLIT_WHOLE, 0, in_layer ? PLACE_LAYER : PLACE_EVERY_STAGE};
}

#define GATE_UP                                                                                              \
    {.parts = {"mlp.gate_proj.weight", "mlp.up_proj.weight"}, .fused = "mlp.gate_up_proj.weight"},           \
    {                                                                                                        \
        .parts = {"mlp.gate_proj.bias", "mlp.up_proj.bias"}, .fused = "mlp.gate_up_proj.bias"                \
    }

#define QKV_PARTS(kind)                                                                                      \
    {                                                                                                        \
        "self_attn.q_proj." kind, "self_attn.k_proj." kind, "self_attn.v_proj." kind                         \
    }

static const struct fusion separate[] = {GATE_UP, {.fused = NULL}};

static const struct fusion fused[] = {
    {.parts = QKV_PARTS("weight"), .fused = "self_attn.qkv_proj.weight", .by_heads = true},
    {.parts = QKV_PARTS("bias"), .fused = "self_attn.qkv_proj.bias", .by_heads = true},
    GATE_UP,
    {.fused = NULL},
};

static const struct fusion qkv_linear_separate[] = {
    {.parts = {"self_attn.q_proj.weight"}, .fused = "self_attn.qkv_proj.weight_q"},
    {.parts = {"self_attn.k_proj.weight"}, .fused = "self_attn.qkv_proj.weight_k"},
    {.parts = {"self_attn.v_proj.weight"}, .fused = "self_attn.qkv_proj.weight_v"},
    {.parts = {"self_attn.q_proj.bias"}, .fused = "self_attn.qkv_proj.bias_q"},
    {.parts = {"self_attn.k_proj.bias"}, .fused = "self_attn.qkv_proj.bias_k"},
    {.parts = {"self_attn.v_proj.bias"}, .fused = "self_attn.qkv_proj.bias_v"},
    GATE_UP,
    {.fused = NULL},
};

static const struct fusion qkv_linear_fused[] = {
    {.parts = QKV_PARTS("weight"), .fused = "self_attn.qkv_proj.weight_qkv", .by_heads = true},
    {.parts = QKV_PARTS("bias"), .fused = "self_attn.qkv_proj.bias_qkv", .by_heads = true},
    GATE_UP,
    {.fused = NULL},
};

/* Megatron's model reads query_key_value as [heads, 3, head_dim] and key_value as [KV heads, 2, head_dim]. */
static const struct fusion megatron_mha[] = {
    {.parts = QKV_PARTS("weight"),
     .fused = "self_attn.query_key_value.weight",
     .interleaved = true,
     .by_heads = true},
    {.parts = QKV_PARTS("bias"),
     .fused = "self_attn.query_key_value.bias",
     .interleaved = true,
     .by_heads = true},
    GATE_UP,
    {.fused = NULL},
};

static const struct fusion megatron_gqa[] = {
    {.parts = {"self_attn.q_proj.weight"}, .fused = "self_attn.query.weight"},
    {.parts = {"self_attn.q_proj.bias"}, .fused = "self_attn.query.bias"},
    {.parts = {"self_attn.k_proj.weight", "self_attn.v_proj.weight"},
     .fused = "self_attn.key_value.weight",
     .interleaved = true},
    {.parts = {"self_attn.k_proj.bias", "self_attn.v_proj.bias"},
     .fused = "self_attn.key_value.bias",
     .interleaved = true},
    GATE_UP,
    {.fused = NULL},
};

static const struct fusion *const all_fusions[] = {separate,         fused,        qkv_linear_separate,
                                                   qkv_linear_fused, megatron_mha, megatron_gqa};

const struct fusion *fusions_of(enum attention_style style, bool qkv_linear, bool fuse_qkv)
{
    if (style == ATTENTION_MEGATRON)
        return qkv_linear ? megatron_gqa : megatron_mha;
    if (qkv_linear)
        return fuse_qkv ? qkv_linear_fused : qkv_linear_separate;
    return fuse_qkv ? fused : separate;
}

const struct fusion *fusion_of_fused_name(const char *rest)
{
    for (size_t i = 0; i < sizeof all_fusions / sizeof *all_fusions; i++)
        for (const struct fusion *f = all_fusions[i]; f->fused; f++)
            if (strcmp(f->fused, rest) == 0)
                return f;
    return NULL;
}
