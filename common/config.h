/* What a conversion needs to know of a model, from its Hugging Face config.json or NxDT training
 * configuration. */
#ifndef CONFIG_H
#define CONFIG_H

#include "fail.h"
#include "json.h"

#include <stdint.h>

/* A number is 0 where it is not known. */
struct model_config {
    uint64_t hidden_size;
    uint64_t attention_heads; /* num_attention_heads */
    uint64_t kv_heads;        /* num_key_value_heads; attention_heads when the config has none */
    uint64_t head_dim;        /* head_dim; hidden_size / attention_heads when the config has none */
    uint64_t layers;          /* num_hidden_layers */
    bool tie_word_embeddings;
};

/* An error when a value is not of its kind, heads do not divide, or num_attention_heads or hidden_size is
 * missing. */
bool config_read_json(const char *path, struct model_config *config, struct error *err);
/* The same, but a config without heads, which is of another kind of model, leaves *config as it was. */
bool config_read_any_json(const char *path, struct model_config *config, struct error *err);
/* The same of a parsed object; what names it in messages. */
bool config_from_json(const struct json *object, const char *what, struct model_config *config,
                      struct error *err);
/* Fills in what follows from the rest (kv_heads, head_dim), and checks. */
bool config_complete(struct model_config *config, const char *what, struct error *err);
/* Whether the file is an NxDT training configuration rather than a config.json. */
bool config_is_yaml(const char *path);
/* Of either. */
bool config_read(const char *path, struct model_config *config, struct error *err);
static inline bool config_is_known(const struct model_config *config)
{
    return config->attention_heads > 0;
}

#endif
