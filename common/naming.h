/* What the tensors of a model are, by their names: which pipeline stage holds them and how tensor parallel
 * ranks divide them. Rows of tables; a new model family is more rows.
 *
 * Names are Hugging Face's; ckpt-rename(1) brings others into that form. */
#ifndef NAMING_H
#define NAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum split {
    SPLIT_WHOLE, /* every tensor rank holds all of it */
    SPLIT_EVEN,  /* equal parts along dim */
    SPLIT_Q,     /* by query heads along dim */
    SPLIT_KV     /* by KV heads along dim */
};

enum place { PLACE_LAYER, PLACE_FIRST_STAGE, PLACE_LAST_STAGE, PLACE_EVERY_STAGE };

struct tensor_rule {
    const char *name; /* behind "model.layers.N." for PLACE_LAYER, else whole; NULL ends a table */
    enum split split;
    unsigned dim;
    enum place place;
};

extern const char EMBEDDING_NAME[], LM_HEAD_NAME[];

/* The rule for a tensor. *known tells whether it stands in the table, or is treated as all others are (whole
 * on every rank). *layer is set for PLACE_LAYER. */
struct tensor_rule rule_of_tensor(const char *name, uint64_t *layer, bool *known);

/* The N of "model.layers.N.rest" (also below a prefix: "….layers.N.rest"), and where the rest begins; false
 * for other names. */
bool name_layer(const char *name, uint64_t *layer, const char **rest);

/* Fused tensors: several tensors of a layer as one, within a rank. */
enum attention_style { ATTENTION_HF, ATTENTION_MEGATRON };

struct fusion {
    const char *parts[3]; /* names behind "model.layers.N."; unused ones NULL */
    const char *fused;    /* the same */
    bool interleaved; /* by heads: all parts of the first head, then of the second … (one head_dim each) */
    bool by_heads;    /* the parts are q, k, v: their sizes follow from the heads; else they are equal */
};

/* A NULL-ended (fused) list of the fusions of one kind of checkpoint. */
const struct fusion *fusions_of(enum attention_style style, bool qkv_linear, bool fuse_qkv);
/* All of them, for taking apart. */
const struct fusion *fusion_of_fused_name(const char *rest);

#endif
