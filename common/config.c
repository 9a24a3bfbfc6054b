#include "config.h"

#include "nxdt_yaml.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { CONFIG_LIMIT = 16 << 20 };

/* Reads a count. Missing and null leave *value as it is. */
static bool read_count(const struct json *object, const char *key, const char *what, uint64_t *value,
                       struct error *err)
{
    const struct json *found = json_get(object, key);
    if (!found || found->type == JSON_NULL)
        return true;
    if (!json_u64(found, value) || *value == 0 || *value > UINT32_MAX)
        return fail(err, "%s: %s must be a whole number of at least 1", what, key);
    return true;
}

bool config_complete(struct model_config *config, const char *what, struct error *err)
{
    if (!config->attention_heads)
        return fail(err, "%s: has no num_attention_heads; give the config.json of the model", what);
    if (!config->kv_heads)
        config->kv_heads = config->attention_heads;
    if (config->attention_heads % config->kv_heads)
        return fail(err, "%s: num_attention_heads %llu is not a multiple of num_key_value_heads %llu", what,
                    (unsigned long long)config->attention_heads, (unsigned long long)config->kv_heads);
    if (config->head_dim)
        return true;
    if (!config->hidden_size)
        return fail(err, "%s: has neither head_dim nor hidden_size", what);
    if (config->hidden_size % config->attention_heads)
        return fail(
            err,
            "%s: hidden_size %llu is not a multiple of num_attention_heads %llu, and there is no head_dim",
            what, (unsigned long long)config->hidden_size, (unsigned long long)config->attention_heads);
    config->head_dim = config->hidden_size / config->attention_heads;
    return true;
}

bool config_from_json(const struct json *object, const char *what, struct model_config *config,
                      struct error *err)
{
    *config = (struct model_config){0};
    if (!json_is(object, JSON_OBJECT))
        return fail(err, "%s: not a model configuration: it is not a JSON object", what);
    const struct {
        const char *key;
        uint64_t *value;
    } counts[] = {
        {"hidden_size", &config->hidden_size},      {"num_attention_heads", &config->attention_heads},
        {"num_key_value_heads", &config->kv_heads}, {"head_dim", &config->head_dim},
        {"num_hidden_layers", &config->layers},
    };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (!read_count(object, counts[i].key, what, counts[i].value, err))
            return false;
    const struct json *tied = json_get(object, "tie_word_embeddings");
    config->tie_word_embeddings = json_is(tied, JSON_BOOL) && tied->boolean;
    return config_complete(config, what, err);
}

static bool read_json(const char *path, bool heads_needed, struct model_config *config, struct error *err)
{
    struct json_document doc;
    if (!json_parse_file(&doc, path, CONFIG_LIMIT, err))
        return false;
    const struct json *heads = json_get(doc.root, "num_attention_heads");
    bool other_kind = json_is(doc.root, JSON_OBJECT) && (!heads || json_is(heads, JSON_NULL));
    bool ok = (other_kind && !heads_needed) || config_from_json(doc.root, path, config, err);
    json_free(&doc);
    return ok;
}

bool config_read_json(const char *path, struct model_config *config, struct error *err)
{
    return read_json(path, true, config, err);
}

bool config_read_any_json(const char *path, struct model_config *config, struct error *err)
{
    return read_json(path, false, config, err);
}

/* By its ending or, where that tells nothing, by whether it begins with a brace. A pipe, which can be read
 * once only, is taken for JSON. */
bool config_is_yaml(const char *path)
{
    if (has_suffix(path, ".json"))
        return false;
    if (has_suffix(path, ".yaml") || has_suffix(path, ".yml"))
        return true;
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return false;
    int c = ' ';
    FILE *file = fopen(path, "re");
    while (file && isspace(c))
        c = getc(file);
    if (file)
        fclose(file);
    return file && c != '{' && c != EOF;
}

bool config_read(const char *path, struct model_config *config, struct error *err)
{
    struct nxdt_settings settings;
    if (!config_is_yaml(path))
        return config_read_json(path, config, err);
    if (!nxdt_yaml_read(path, &settings, err))
        return false;
    *config = settings.config;
    nxdt_settings_free(&settings);
    return config_is_known(config) || fail(err, "%s: has no model.num_attention_heads", path);
}
