#include "nxdt_yaml.h"

#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct reader {
    const char *path;
    yaml_document_t *document;
    struct error *err;
};

static yaml_node_t *member(const struct reader *r, yaml_node_t *node, const char *key, size_t length)
{
    if (!node || node->type != YAML_MAPPING_NODE)
        return NULL;
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top;
         pair++) {
        const yaml_node_t *name = yaml_document_get_node(r->document, pair->key);
        if (name && name->type == YAML_SCALAR_NODE && name->data.scalar.length == length &&
            memcmp(name->data.scalar.value, key, length) == 0)
            return yaml_document_get_node(r->document, pair->value);
    }
    return NULL;
}

/* The node at a dotted path, or NULL. */
static yaml_node_t *find(const struct reader *r, const char *path)
{
    yaml_node_t *node = yaml_document_get_root_node(r->document);
    for (;;) {
        size_t n = strcspn(path, ".");
        node = member(r, node, path, n);
        if (!path[n])
            return node;
        path += n + 1;
    }
}

/* The text of a scalar, which has no NUL inside; NULL when it is missing, null or no scalar. False for an
 * expression. */
static bool scalar(const struct reader *r, const char *path, const yaml_node_t *node, const char **text)
{
    static const char *const nulls[] = {"", "null", "Null", "NULL", "~"};
    *text = NULL;
    if (!node || node->type != YAML_SCALAR_NODE)
        return true;
    const char *value = (const char *)node->data.scalar.value;
    for (size_t i = 0; i < sizeof nulls / sizeof *nulls; i++)
        if (strcmp(value, nulls[i]) == 0)
            return true;
    if (strstr(value, "${"))
        return fail(r->err,
                    "%s: %s is the expression '%s', which only the trainer can work out; write its value",
                    r->path, path, value);
    *text = value;
    return true;
}

static bool read_number(const struct reader *r, const char *path, uint64_t *value)
{
    const char *text;
    if (!scalar(r, path, find(r, path), &text))
        return false;
    if (text && (!parse_u64(text, value) || *value > UINT32_MAX))
        return fail(r->err, "%s: %s is '%s', but must be a whole number", r->path, path, text);
    return true;
}

static bool read_flag(const struct reader *r, const char *path, int *value)
{
    const char *text;
    bool flag;
    if (!scalar(r, path, find(r, path), &text))
        return false;
    if (text && !parse_bool(text, &flag))
        return fail(r->err, "%s: %s is '%s', but must be true or false", r->path, path, text);
    if (text)
        *value = flag;
    return true;
}

/* A list of layers, or one text with commas. */
static bool read_cuts(const struct reader *r, const char *path, char **value)
{
    yaml_node_t *node = find(r, path);
    struct strbuf cuts = {0};
    const char *text;
    if (!node || node->type != YAML_SEQUENCE_NODE) {
        bool ok = scalar(r, path, node, &text);
        *value = ok && text ? xstrdup(text) : NULL;
        return ok;
    }
    for (yaml_node_item_t *item = node->data.sequence.items.start; item < node->data.sequence.items.top;
         item++) {
        if (!scalar(r, path, yaml_document_get_node(r->document, *item), &text)) {
            strbuf_free(&cuts);
            return false;
        }
        strbuf_printf(&cuts, "%s%s", cuts.length ? "," : "", text ? text : "");
    }
    *value = cuts.length ? strbuf_steal(&cuts) : NULL;
    strbuf_free(&cuts);
    return true;
}

static bool read_settings(const struct reader *r, struct nxdt_settings *s)
{
    struct model_config *c = &s->config;
    const struct {
        const char *path;
        uint64_t *value;
    } numbers[] = {
        {"model.num_layers", &c->layers},
        {"model.num_attention_heads", &c->attention_heads},
        {"model.hidden_size", &c->hidden_size},
        {"model.num_kv_heads", &c->kv_heads},
        {"model.moe.num_experts", &s->experts},
        {"distributed_strategy.tensor_model_parallel_size", &s->tp_size},
        {"distributed_strategy.pipeline_model_parallel_size", &s->pp_size},
        {"distributed_strategy.virtual_pipeline_model_parallel_size", &s->virtual_pp_size},
        {"distributed_strategy.kv_replicator", &s->kv_size_multiplier},
    };
    s->qkv_linear = s->fuse_qkv = -1;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!read_number(r, numbers[i].path, numbers[i].value))
            return false;
    return read_flag(r, "model.qkv_linear", &s->qkv_linear) && read_flag(r, "model.fuse_qkv", &s->fuse_qkv) &&
           read_cuts(r, "distributed_strategy.pipeline_cuts", &s->pipeline_cuts) &&
           (!c->attention_heads || config_complete(c, r->path, r->err));
}

static bool load(yaml_parser_t *parser, yaml_document_t *document, const char *path, struct error *err)
{
    if (yaml_parser_load(parser, document))
        return true;
    return fail(err, "%s: not valid YAML: %s at line %zu", path,
                parser->problem ? parser->problem : "unreadable", parser->problem_mark.line + 1);
}

bool nxdt_yaml_read(const char *path, struct nxdt_settings *settings, struct error *err)
{
    yaml_parser_t parser;
    yaml_document_t document;
    *settings = (struct nxdt_settings){0};
    FILE *file = fopen(path, "re");
    if (!file)
        return fail_errno(err, "%s: cannot open", path);
    if (!yaml_parser_initialize(&parser))
        die(EXIT_DATA, "out of memory");
    yaml_parser_set_input_file(&parser, file);
    bool ok = load(&parser, &document, path, err);
    if (ok) {
        struct reader reader = {path, &document, err};
        ok = read_settings(&reader, settings);
        yaml_document_delete(&document);
    }
    yaml_parser_delete(&parser);
    fclose(file);
    if (!ok)
        nxdt_settings_free(settings);
    return ok;
}

void nxdt_settings_free(struct nxdt_settings *settings)
{
    free(settings->pipeline_cuts);
    settings->pipeline_cuts = NULL;
}
