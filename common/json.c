#include "json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_gen.h>
#include <yajl/yajl_parse.h>

enum { MAX_DEPTH = 128 };

/* The arrays and objects that are open while parsing; their members collect in growing arrays. */
struct level {
    struct json *value;
    size_t capacity;
};

struct builder {
    struct arena *arena;
    struct json *root;
    struct level open[MAX_DEPTH];
    size_t depth;
    const char *problem;
};

static void *grown(struct arena *arena, const void *old, size_t n, size_t capacity, size_t size)
{
    void *more = arena_alloc(arena, capacity * size);
    if (n)
        memcpy(more, old, n * size);
    return more;
}

static struct json *add(struct builder *b, enum json_type type)
{
    struct json *value = arena_alloc(b->arena, sizeof *value);
    value->type = type;
    if (b->depth == 0) {
        b->root = value;
        return value;
    }
    struct level *level = &b->open[b->depth - 1];
    struct json *parent = level->value;
    if (parent->type == JSON_ARRAY && parent->n == level->capacity) {
        level->capacity = level->capacity ? level->capacity * 2 : 4;
        parent->item = grown(b->arena, parent->item, parent->n, level->capacity, sizeof *parent->item);
    }
    parent->item[parent->n++] = value;
    return value;
}

static int on_null(void *context)
{
    add(context, JSON_NULL);
    return 1;
}

static int on_boolean(void *context, int value)
{
    add(context, JSON_BOOL)->boolean = value != 0;
    return 1;
}

static int on_number(void *context, const char *text, size_t length)
{
    struct builder *b = context;
    struct json *value = add(b, JSON_NUMBER);
    value->text = arena_strndup(b->arena, text, length);
    value->n = length;
    return 1;
}

static const char *take_text(struct builder *b, const unsigned char *text, size_t length)
{
    if (memchr(text, 0, length)) {
        b->problem = "a string has a NUL character inside";
        return NULL;
    }
    return arena_strndup(b->arena, (const char *)text, length);
}

static int on_string(void *context, const unsigned char *text, size_t length)
{
    struct builder *b = context;
    const char *copy = take_text(b, text, length);
    if (!copy)
        return 0;
    struct json *value = add(b, JSON_STRING);
    value->text = copy;
    value->n = length;
    return 1;
}

static int on_key(void *context, const unsigned char *text, size_t length)
{
    struct builder *b = context;
    struct level *level = &b->open[b->depth - 1];
    struct json *object = level->value;
    if (object->n == level->capacity) {
        level->capacity = level->capacity ? level->capacity * 2 : 4;
        object->item = grown(b->arena, object->item, object->n, level->capacity, sizeof *object->item);
        object->key = grown(b->arena, object->key, object->n, level->capacity, sizeof *object->key);
    }
    object->key[object->n] = take_text(b, text, length);
    return object->key[object->n] != NULL;
}

static int open_level(void *context, enum json_type type)
{
    struct builder *b = context;
    if (b->depth == MAX_DEPTH) {
        b->problem = "it is nested more than 128 levels deep";
        return 0;
    }
    struct json *value = add(b, type);
    b->open[b->depth++] = (struct level){.value = value};
    return 1;
}

static int on_array(void *context)
{
    return open_level(context, JSON_ARRAY);
}

static int on_object(void *context)
{
    return open_level(context, JSON_OBJECT);
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool has_duplicate_key(const struct json *object)
{
    if (object->n < 2)
        return false;
    const char **sorted = xmalloc(object->n * sizeof *sorted);
    memcpy(sorted, object->key, object->n * sizeof *sorted);
    qsort(sorted, object->n, sizeof *sorted, compare_keys);
    bool found = false;
    for (size_t i = 1; i < object->n && !found; i++)
        found = strcmp(sorted[i - 1], sorted[i]) == 0;
    free(sorted);
    return found;
}

static int on_end(void *context)
{
    struct builder *b = context;
    const struct json *closed = b->open[--b->depth].value;
    if (closed->type == JSON_OBJECT && has_duplicate_key(closed)) {
        b->problem = "a key stands twice in an object";
        return 0;
    }
    return 1;
}

static const yajl_callbacks callbacks = {
    .yajl_null = on_null,
    .yajl_boolean = on_boolean,
    .yajl_number = on_number,
    .yajl_string = on_string,
    .yajl_start_map = on_object,
    .yajl_map_key = on_key,
    .yajl_end_map = on_end,
    .yajl_start_array = on_array,
    .yajl_end_array = on_end,
};

bool json_parse(struct json_document *doc, const char *text, size_t length, const char *what,
                struct error *err)
{
    *doc = (struct json_document){0};
    struct builder builder = {.arena = &doc->arena};
    yajl_handle parser = yajl_alloc(&callbacks, NULL, &builder);
    if (!parser)
        die(EXIT_DATA, "out of memory");
    yajl_status status = yajl_parse(parser, (const unsigned char *)text, length);
    if (status == yajl_status_ok)
        status = yajl_complete_parse(parser);
    bool ok = true;
    if (status == yajl_status_client_canceled) {
        ok = fail(err, "%s: not usable JSON: %s", what, builder.problem);
    } else if (status != yajl_status_ok) {
        unsigned char *reason = yajl_get_error(parser, 0, NULL, 0);
        size_t n = strcspn((char *)reason, "\n");
        ok = fail(err, "%s: not valid JSON: %.*s", what, (int)n, reason);
        yajl_free_error(parser, reason);
    } else if (!builder.root) {
        ok = fail(err, "%s: not valid JSON: it is empty", what);
    }
    yajl_free(parser);
    doc->root = builder.root;
    if (!ok)
        json_free(doc);
    return ok;
}

bool json_parse_file(struct json_document *doc, const char *path, size_t limit, struct error *err)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return fail_errno(err, "%s: cannot open", path);
    struct strbuf text = {0};
    char block[16384];
    size_t n;
    while (text.length <= limit && (n = fread(block, 1, sizeof block, file)) > 0)
        strbuf_add(&text, block, n);
    bool ok = true;
    if (ferror(file))
        ok = fail_errno(err, "%s: cannot read", path);
    else if (text.length > limit)
        ok = fail(err, "%s: larger than the %zu bytes that such a file may have", path, limit);
    fclose(file);
    ok = ok && json_parse(doc, text.data ? text.data : "", text.length, path, err);
    strbuf_free(&text);
    return ok;
}

void json_free(struct json_document *doc)
{
    arena_free(&doc->arena);
    doc->root = NULL;
}

bool json_is(const struct json *value, enum json_type type)
{
    return value && value->type == type;
}

const struct json *json_get(const struct json *object, const char *key)
{
    if (json_is(object, JSON_OBJECT))
        for (size_t i = 0; i < object->n; i++)
            if (strcmp(object->key[i], key) == 0)
                return object->item[i];
    return NULL;
}

const char *json_string(const struct json *value)
{
    return json_is(value, JSON_STRING) ? value->text : NULL;
}

bool json_u64(const struct json *value, uint64_t *number)
{
    return json_is(value, JSON_NUMBER) && parse_u64(value->text, number);
}

void json_write_string(struct strbuf *buf, const char *text)
{
    yajl_gen gen = yajl_gen_alloc(NULL);
    const unsigned char *out;
    size_t n;
    if (!gen || yajl_gen_string(gen, (const unsigned char *)text, strlen(text)) != yajl_gen_status_ok ||
        yajl_gen_get_buf(gen, &out, &n) != yajl_gen_status_ok)
        die(EXIT_DATA, "cannot write '%s' as JSON", text);
    strbuf_add(buf, out, n);
    yajl_gen_free(gen);
}

void json_write(struct strbuf *buf, const struct json *value)
{
    switch (value->type) {
    case JSON_NULL:
        strbuf_puts(buf, "null");
        break;
    case JSON_BOOL:
        strbuf_puts(buf, value->boolean ? "true" : "false");
        break;
    case JSON_NUMBER:
        strbuf_puts(buf, value->text);
        break;
    case JSON_STRING:
        json_write_string(buf, value->text);
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        strbuf_puts(buf, value->type == JSON_ARRAY ? "[" : "{");
        for (size_t i = 0; i < value->n; i++) {
            if (i)
                strbuf_puts(buf, ",");
            if (value->type == JSON_OBJECT) {
                json_write_string(buf, value->key[i]);
                strbuf_puts(buf, ":");
            }
            json_write(buf, value->item[i]);
        }
        strbuf_puts(buf, value->type == JSON_ARRAY ? "]" : "}");
        break;
    }
}
