#include "torch_read.h"

#include "torch_archive.h"
#include "torch_objects.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A pickle can contain itself, and with sharing a few bytes can stand for more dictionaries than there is
 * time for. */
enum { MAX_DEPTH = 100, MAX_NAME = 4096, MAX_VISITS = 20 * 1000 * 1000, MAX_NAME_BYTES = 256 * 1024 * 1024 };
/* A tensor can be repeated by strides of zero; no one means this much more than the file has. */
static const uint64_t MAX_EXPANDED = (uint64_t)1 << 36;

struct walk {
    const struct torch_archive *archive;
    struct source *source;
    struct tensor_list *list;
    struct strbuf name;
    unsigned depth;
    unsigned
        strange_keys; /* on the way here: neither text nor whole numbers, so there is no name below them */
    uint64_t visits, max_visits, name_bytes;
    struct error *err;
};

static bool walk_value(struct walk *w, const struct pickle_value *value);

/* The text of a dictionary's key; false when it has none. digits is room for a number. */
static bool key_text(const struct pickle_value *key, char digits[24], struct slice *text)
{
    if (pickle_is(key, PICKLE_STRING) || pickle_is(key, PICKLE_BYTES))
        *text = key->as.text;
    else if (pickle_is(key, PICKLE_INT))
        *text = (struct slice){digits, (size_t)snprintf(digits, 24, "%lld", (long long)key->as.integer)};
    else
        return false;
    return true;
}

/* Walks a value that stands under a name in the present one. */
static bool walk_into(struct walk *w, struct slice name, const struct pickle_value *value)
{
    size_t before = w->name.length;
    if (name.length > MAX_NAME || before > MAX_NAME)
        return fail(w->err, "%s: a tensor name is longer than %d bytes", w->archive->path, MAX_NAME);
    if (w->depth > 1)
        strbuf_puts(&w->name, ".");
    strbuf_add(&w->name, name.at, name.length);
    bool ok = walk_value(w, value);
    w->name.length = before;
    if (w->name.data)
        w->name.data[before] = '\0';
    return ok;
}

static bool walk_dict(struct walk *w, const struct pickle_value *dict)
{
    struct pickle_value *key, *value;
    char digits[24];
    bool ok = true;
    for (size_t at = 0; ok && torch_next_pair(dict, &at, &key, &value);) {
        struct slice text = {"?", 1};
        bool strange = !key_text(key, digits, &text);
        w->strange_keys += strange;
        ok = walk_into(w, text, value);
        w->strange_keys -= strange;
    }
    return ok;
}

static bool walk_list(struct walk *w, const struct pickle_value *list)
{
    const struct pickle_items *items = torch_elements(list);
    char digits[24];
    bool ok = true;
    for (size_t i = 0; i < items->n && ok; i++)
        ok = walk_into(w, (struct slice){digits, (size_t)snprintf(digits, sizeof digits, "%zu", i)},
                       items->at[i]);
    return ok;
}

/* As Module.state_dict() does: its own parameters and buffers, but None and the non-persistent; then the
 * modules in it. */
static bool walk_module(struct walk *w, const struct pickle_value *state)
{
    static const char *const parts[] = {"_parameters", "_buffers", "_modules"};
    const struct pickle_value *transient = pickle_get(state, "_non_persistent_buffers_set");
    struct pickle_value *key, *value;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const struct pickle_value *part = pickle_get(state, parts[i]);
        if (torch_object(part).kind != TORCH_DICT)
            continue;
        for (size_t at = 0; torch_next_pair(part, &at, &key, &value);) {
            if (!pickle_is(key, PICKLE_STRING) || pickle_is(value, PICKLE_NONE) ||
                (i == 1 && torch_set_has(transient, key->as.text)))
                continue;
            if (!walk_into(w, key->as.text, value))
                return false;
        }
    }
    return true;
}

/* Prefixes a message with the file and the tensor. */
static bool tensor_error(struct walk *w, const char *reason)
{
    return fail(w->err, "%s: tensor '%s': %s", w->archive->path, w->name.data, reason);
}

static struct tensor *view_of(struct walk *w, const struct torch_tensor *t, struct error *reason)
{
    struct storage_place place;
    uint64_t bytes, offset;
    bool empty = false;
    size_t storage_size = dtype_size(t->storage.dtype), size = dtype_size(t->dtype);
    if (!torch_archive_storage(w->archive, t->storage.key, &place, reason))
        return NULL;
    /* torch_tensor() has seen to it that first + reach fit in the storage, so these cannot overflow. */
    bytes = t->storage.elements * storage_size;
    if (bytes > place.size) {
        fail(reason, "its storage should have %llu bytes, but has %llu", (unsigned long long)bytes,
             (unsigned long long)place.size);
        return NULL;
    }
    for (unsigned i = 0; i < t->n_dims; i++)
        empty = empty || t->shape[i] == 0;
    offset = place.offset + (empty ? 0 : t->storage.first * storage_size + t->offset * size);
    struct tensor *tensor = tensor_view(w->source, offset, t->dtype, t->n_dims, t->shape, t->strides, reason);
    if (tensor && tensor_bytes(tensor) > MAX_EXPANDED && tensor_bytes(tensor) > w->archive->size) {
        fail(reason, "it repeats the %llu bytes of its storage to %llu, which is not credible",
             (unsigned long long)bytes, (unsigned long long)tensor_bytes(tensor));
        tensor_free(tensor);
        tensor = NULL;
    }
    return tensor;
}

static bool add(struct walk *w, struct tensor *tensor, uint64_t tid)
{
    w->name_bytes += w->name.length;
    if (w->name_bytes > MAX_NAME_BYTES) {
        tensor_free(tensor);
        return fail(w->err, "%s: the names of its tensors take more than 256 MiB", w->archive->path);
    }
    return tensor_list_add(w->list, w->name.data, w->name.length, tensor, tid, w->archive->path, w->err);
}

static bool walk_tensor(struct walk *w, const struct torch_object *object)
{
    struct torch_tensor description;
    struct error reason;
    if (!w->depth)
        strbuf_puts(&w->name, "tensor");
    if (w->strange_keys)
        return tensor_error(
            w, "it stands under a key ('?') that is neither text nor a whole number, so it has no name");
    if (object->kind == TORCH_REFERENCE)
        return add(w, NULL, object->tid);
    if (!torch_tensor(object, &description, &reason))
        return tensor_error(w, reason.message);
    struct tensor *tensor = view_of(w, &description, &reason);
    return tensor ? add(w, tensor, 0) : tensor_error(w, reason.message);
}

static void leave_out(struct walk *w)
{
    if (w->list->n_left_out < LEFT_OUT_NAMES)
        w->list->left_out[w->list->n_left_out] = xstrdup(w->name.data ? w->name.data : "");
    w->list->n_left_out++;
}

static bool walk_value(struct walk *w, const struct pickle_value *value)
{
    struct torch_object object = torch_object(value);
    bool ok = true;
    if (++w->visits > w->max_visits)
        return fail(w->err, "%s: its dictionaries share their parts too often to be written out",
                    w->archive->path);
    if (w->depth == MAX_DEPTH)
        return fail(w->err, "%s: it is nested more than %d levels deep, or contains itself", w->archive->path,
                    MAX_DEPTH);
    w->depth++;
    switch (object.kind) {
    case TORCH_TENSOR:
    case TORCH_REFERENCE:
    case TORCH_UNSUPPORTED:
        w->depth--;
        return walk_tensor(w, &object);
    case TORCH_DICT:
        ok = walk_dict(w, value);
        break;
    case TORCH_LIST:
        ok = walk_list(w, value);
        break;
    case TORCH_MODULE:
        ok = walk_module(w, object.state);
        break;
    case TORCH_OTHER:
        leave_out(w);
        break;
    }
    w->depth--;
    return ok;
}

/* The longest key of the container, shorter than limit, that the path begins with, up to its end or a dot. */
static const struct pickle_value *longest_key(const struct pickle_value *container, const char *path,
                                              size_t limit, size_t *length)
{
    const struct pickle_value *found = NULL;
    struct pickle_value *key, *value;
    struct slice text;
    char digits[24];
    for (size_t at = 0; torch_next_pair(container, &at, &key, &value);)
        if (key_text(key, digits, &text) && text.length < limit && (!found || text.length > *length) &&
            strncmp(path, text.at, text.length) == 0 && strlen(path) >= text.length &&
            (path[text.length] == '.' || !path[text.length])) {
            found = value;
            *length = text.length;
        }
    return found;
}

/* The value at a dotted path, or NULL. Keys can contain dots themselves, so the longest that fits is tried
 * first, then shorter ones. tries bounds the work. */
static const struct pickle_value *select_part(const struct pickle_value *value, const char *path,
                                              unsigned *tries)
{
    const struct pickle_value *found = NULL, *inner;
    size_t length = 0, limit = SIZE_MAX, index;
    struct torch_object object = torch_object(value);
    if (!*path)
        return value;
    if (object.kind == TORCH_LIST) {
        char *end;
        index = (size_t)strtoull(path, &end, 10);
        bool valid =
            *path >= '0' && *path <= '9' && (*end == '.' || !*end) && index < torch_elements(value)->n;
        return valid ? select_part(torch_elements(value)->at[index], end + (*end == '.'), tries) : NULL;
    }
    while (object.kind == TORCH_DICT && !found && *tries < 1000 &&
           (inner = longest_key(value, path, limit, &length)) != NULL) {
        ++*tries;
        limit = length;
        found = path[length] ? select_part(inner, path + length + 1, tries) : inner;
    }
    return found;
}

static bool key_not_found(const struct torch_archive *archive, const char *key, struct error *err)
{
    const struct pickle_value *root = archive->pickle.root;
    struct strbuf keys = {0};
    struct pickle_value *name, *value;
    struct slice text;
    char digits[24];
    size_t n = 0;
    bool is_dict = torch_object(root).kind == TORCH_DICT;
    for (size_t at = 0; is_dict && torch_next_pair(root, &at, &name, &value);)
        if (key_text(name, digits, &text) && n++ < 10)
            strbuf_printf(&keys, "%s%.*s", n > 1 ? ", " : "", text.length < 100 ? (int)text.length : 100,
                          text.at);
    if (!is_dict)
        fail(err, "%s: there is no key '%s' in it: it is not a dictionary", archive->path, key);
    else
        fail(err, "%s: there is no key '%s' in it; its keys are: %s%s", archive->path, key,
             n ? keys.data : "none", n > 10 ? ", …" : "");
    strbuf_free(&keys);
    return false;
}

static bool walk_file(struct walk *w, const char *key)
{
    const struct torch_archive *archive = w->archive;
    const struct pickle_value *part = archive->pickle.root;
    unsigned tries = 0;
    if (key && !(part = select_part(part, key, &tries)))
        return key_not_found(archive, key, w->err);
    /* Without sharing there are fewer values than bytes in the pickle. */
    w->max_visits = 100 * 1000 + 16 * (uint64_t)archive->pickle.length;
    if (w->max_visits > MAX_VISITS)
        w->max_visits = MAX_VISITS;
    if (w->max_visits < archive->pickle.length)
        w->max_visits = archive->pickle.length;
    return walk_value(w, part) && tensor_list_check_unique(w->list, archive->path, w->err);
}

bool torch_read(const char *path, const char *key, struct tensor_list *list, struct error *err)
{
    struct torch_archive archive;
    struct walk w = {.archive = &archive, .list = list, .err = err};
    *list = (struct tensor_list){0};
    bool ok = torch_archive_open(&archive, path, err) && (w.source = source_of_file(path, err)) &&
              walk_file(&w, key);
    strbuf_free(&w.name);
    source_free(w.source);
    torch_archive_close(&archive);
    return ok;
}
