#include "megatron_names.h"

#include "memory.h"
#include "naming.h"

#include <stdlib.h>
#include <string.h>

/* A pair of names, or of beginnings of names when both end in a dot. */
struct pair {
    const char *hf, *megatron;
};

static const struct pair outside_layers[] = {
    {"model.embed_tokens.", "language_model.embedding.word_embeddings."},
    {"model.norm.", "language_model.encoder.final_layernorm."},
    {"lm_head.", "language_model.output_layer."},
    {0},
};

static const struct pair layers = {"model.layers.", "language_model.encoder.layers."};

/* Behind the layer's number; the first row that fits counts. */
static const struct pair inside_layers[] = {
    {"self_attn.o_proj.", "self_attention.dense."},
    {"self_attn.rotary_emb.", "self_attention.core_attention.rotary_emb."},
    {"self_attn.", "self_attention."},
    {"mlp.gate_up_proj.", "mlp.dense_h_to_4h."},
    {"mlp.down_proj.", "mlp.dense_4h_to_h."},
    {0},
};

static const char *side(const struct pair *pair, bool megatron)
{
    return megatron ? pair->megatron : pair->hf;
}

/* "lead" + name with its beginning replaced as the first fitting row says, from the one side to the other. */
static char *translate(const struct pair *table, const char *lead, const char *name, bool to_megatron)
{
    for (; table->hf; table++) {
        const char *from = side(table, !to_megatron);
        if (has_prefix(name, from))
            return xasprintf("%s%s%s", lead, side(table, to_megatron), name + strlen(from));
    }
    return xasprintf("%s%s", lead, name);
}

static char *convert(const char *name, bool to_megatron)
{
    uint64_t layer;
    const char *rest;
    if (!has_prefix(name, side(&layers, !to_megatron)) || !name_layer(name, &layer, &rest))
        return translate(outside_layers, "", name, to_megatron);
    char *lead = xasprintf("%s%llu.", side(&layers, to_megatron), (unsigned long long)layer);
    char *converted = translate(inside_layers, lead, rest, to_megatron);
    free(lead);
    return converted;
}

char *name_to_megatron(const char *hf_name)
{
    return convert(hf_name, true);
}

char *name_to_hf(const char *megatron_name)
{
    return convert(megatron_name, false);
}
