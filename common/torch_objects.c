#include "torch_objects.h"

#include <stdio.h>
#include <string.h>

enum { MAX_SEARCH = 1000 }; /* in a set, which a hostile file can have searched very often */

static bool slice_has_prefix(struct slice slice, const char *prefix)
{
    size_t n = strlen(prefix);
    return slice.length >= n && memcmp(slice.at, prefix, n) == 0;
}

/* Modules move between PyTorch versions (torch.tensor became torch._tensor), so any torch module will do. */
static bool is_torch_module(struct slice module)
{
    return slice_is(module, "torch") || slice_has_prefix(module, "torch.");
}

static bool is_torch(const struct pickle_value *value, const char *name)
{
    return pickle_is(value, PICKLE_GLOBAL) && is_torch_module(value->as.global->module) &&
           slice_is(value->as.global->name, name);
}

/* The class that makes an object: protocols 0 and 1 go through copyreg; legacy files keep the source of a
 * module's class in a persistent id ('module', class, file, source). */
static const struct pickle_value *class_of(const struct pickle_object *object)
{
    const struct pickle_value *callable = object->callable;
    if (pickle_is_global(callable, "copy_reg", "_reconstructor") ||
        pickle_is_global(callable, "copyreg", "_reconstructor") ||
        pickle_is_global(callable, "copyreg", "__newobj__"))
        callable = pickle_item(object->arguments, 0);
    if (pickle_is(callable, PICKLE_PERSISTENT))
        callable = pickle_item(callable->as.id, 1);
    return callable;
}

static bool is_dict_class(const struct pickle_value *class)
{
    return pickle_is_global(class, "collections", "OrderedDict") ||
           pickle_is_global(class, "collections", "defaultdict") ||
           pickle_is_global(class, "builtins", "dict") || pickle_is_global(class, "__builtin__", "dict");
}

/* An object's attributes: BUILD was given a dictionary, or a pair of one and the slots. */
static const struct pickle_value *attributes(const struct pickle_object *object)
{
    const struct pickle_value *state = object->state;
    return pickle_is(state, PICKLE_TUPLE) ? pickle_item(state, 0) : state;
}

static struct torch_object object_by_content(const struct pickle_object *object)
{
    struct torch_object found = {.kind = TORCH_OTHER};
    const struct pickle_value *class = class_of(object), *state = attributes(object);
    if (pickle_is(class, PICKLE_GLOBAL) && slice_is(class->as.global->name, "TensorReference") &&
        pickle_u64(pickle_get(state, "tid"), &found.tid)) {
        found.kind = TORCH_REFERENCE;
    } else if (is_dict_class(class) || object->pairs.n) {
        found.kind = TORCH_DICT;
    } else if (pickle_get(state, "_parameters") && pickle_get(state, "_buffers") &&
               pickle_get(state, "_modules")) {
        found.kind = TORCH_MODULE;
        found.state = state;
    } else if (object->elements.n) {
        found.kind = TORCH_LIST;
    }
    return found;
}

static struct torch_object plain_value(const struct pickle_value *value)
{
    struct torch_object found = {.kind = TORCH_OTHER};
    if (pickle_is(value, PICKLE_DICT))
        found.kind = TORCH_DICT;
    else if (pickle_is(value, PICKLE_LIST) || pickle_is(value, PICKLE_TUPLE))
        found.kind = TORCH_LIST;
    return found;
}

static bool is_plain_rebuild(struct slice name)
{
    return slice_is(name, "_rebuild_tensor") || slice_is(name, "_rebuild_tensor_v2") ||
           slice_is(name, "_rebuild_tensor_v3");
}

/* torch.nn.parameter.Parameter as a class: called with the tensor, or given it as the first of its state. */
static const struct pickle_value *parameter_data(const struct pickle_object *object)
{
    const struct pickle_value *data = pickle_item(object->arguments, 0);
    if (pickle_is_global(object->callable, "copyreg", "__newobj__") || class_of(object) == data)
        data = pickle_item(object->arguments, 1);
    if (!pickle_is(data, PICKLE_OBJECT))
        data = pickle_is(object->state, PICKLE_DICT) ? pickle_get(object->state, "data")
                                                     : pickle_item(object->state, 0);
    return data;
}

/* What stands inside of a Parameter and the like, or NULL when the object is not such. made is for a value
 * that the pickle does not have. */
static const struct pickle_value *look_through(const struct pickle_object *object, struct pickle_value *made)
{
    const struct pickle_value *class = class_of(object);
    if (is_torch(class, "_rebuild_parameter") || is_torch(class, "_rebuild_parameter_with_state"))
        return pickle_item(object->arguments, 0);
    if (is_torch(class, "Parameter") || is_torch(class, "Buffer"))
        return parameter_data(object);
    if (!is_torch(class, "_rebuild_from_type_v2") && !is_torch(class, "_rebuild_from_type"))
        return NULL;
    /* (function, type, arguments, state): what calling the function gives, made to be of the type */
    *made->as.object = (struct pickle_object){.callable = pickle_item(object->arguments, 0),
                                              .arguments = pickle_item(object->arguments, 2)};
    return pickle_is(made->as.object->arguments, PICKLE_TUPLE) ? made : NULL;
}

struct torch_object torch_object(const struct pickle_value *value)
{
    struct pickle_object object;
    struct pickle_value made = {.kind = PICKLE_OBJECT, .as.object = &object};
    const struct pickle_value *inner = value;
    for (int layers = 0; layers < 16 && inner; layers++) {
        value = inner;
        inner = pickle_is(value, PICKLE_OBJECT) ? look_through(value->as.object, &made) : NULL;
    }
    if (!pickle_is(value, PICKLE_OBJECT))
        return plain_value(value);
    const struct pickle_value *class = class_of(value->as.object);
    if (!pickle_is(class, PICKLE_GLOBAL) || !is_torch_module(class->as.global->module) ||
        !slice_has_prefix(class->as.global->name, "_rebuild_"))
        return object_by_content(value->as.object);
    return (struct torch_object){.kind = is_plain_rebuild(class->as.global->name) ? TORCH_TENSOR
                                                                                  : TORCH_UNSUPPORTED,
                                 .function = class->as.global->name,
                                 .arguments = value->as.object->arguments};
}

enum dtype torch_dtype(const struct pickle_value *value)
{
    char name[32];
    if (!pickle_is(value, PICKLE_GLOBAL) || !slice_is(value->as.global->module, "torch") ||
        value->as.global->name.length >= sizeof name)
        return DTYPE_NONE;
    snprintf(name, sizeof name, "%.*s", (int)value->as.global->name.length, value->as.global->name.at);
    return dtype_from_name(name);
}

bool torch_sizes(const struct pickle_value *value, uint64_t *sizes, unsigned *n)
{
    if (pickle_is(value, PICKLE_OBJECT) && is_torch(value->as.object->callable, "Size"))
        value = pickle_item(value->as.object->arguments, 0);
    if ((!pickle_is(value, PICKLE_TUPLE) && !pickle_is(value, PICKLE_LIST)) ||
        value->as.items.n > TENSOR_MAX_DIMS)
        return false;
    *n = (unsigned)value->as.items.n;
    for (unsigned i = 0; i < *n; i++)
        if (!pickle_u64(value->as.items.at[i], &sizes[i]))
            return false;
    return true;
}

/* torch.FloatStorage …, torch.storage.UntypedStorage (in PyTorch 1.12 _UntypedStorage),
 * torch.cuda.FloatStorage … */
static bool storage_dtype(const struct pickle_value *class, enum dtype *dtype, struct error *err)
{
    char name[48] = "";
    if (!pickle_is(class, PICKLE_GLOBAL) || !is_torch_module(class->as.global->module))
        return fail(err, "its storage is of a type that is not of PyTorch");
    struct slice text = class->as.global->name;
    snprintf(name, sizeof name, "%.*s", text.length < sizeof name ? (int)text.length : 0, text.at);
    *dtype = strcmp(name, "UntypedStorage") == 0 || strcmp(name, "_UntypedStorage") == 0
                 ? DTYPE_UINT8
                 : dtype_from_storage_class(name);
    return *dtype != DTYPE_NONE || fail(err, "its storage is of the unknown type '%.*s'",
                                        text.length < 100 ? (int)text.length : 100, text.at);
}

bool torch_storage(const struct pickle_value *persistent, struct torch_storage *storage, struct error *err)
{
    const struct pickle_value *id = pickle_is(persistent, PICKLE_PERSISTENT) ? persistent->as.id : NULL;
    const struct pickle_value *key = pickle_item(id, 2), *view = pickle_item(id, 5);
    uint64_t end;
    if (!pickle_is_text(pickle_item(id, 0), "storage") || !pickle_is(key, PICKLE_STRING) ||
        !pickle_u64(pickle_item(id, 4), &storage->elements))
        return fail(err, "its storage is not in this file");
    if (!storage_dtype(pickle_item(id, 1), &storage->dtype, err))
        return false;
    storage->key = key->as.text;
    storage->first = 0;
    storage->visible = storage->elements;
    if (!view || pickle_is(view, PICKLE_NONE))
        return true;
    if (!pickle_u64(pickle_item(view, 1), &storage->first) ||
        !pickle_u64(pickle_item(view, 2), &storage->visible) ||
        !add_u64(storage->first, storage->visible, &end) || end > storage->elements)
        return fail(err, "its storage is a view that reaches out of the storage it is of");
    return true;
}

/* Elements that the tensor reaches, from the first of its storage: 0 when it has none. False when they do not
 * fit. */
static bool reach(const struct torch_tensor *tensor, uint64_t *elements)
{
    uint64_t step, last = tensor->offset;
    *elements = 0;
    for (unsigned i = 0; i < tensor->n_dims; i++)
        if (!tensor->shape[i])
            return true;
    for (unsigned i = 0; i < tensor->n_dims; i++)
        if (!mul_u64(tensor->shape[i] - 1, tensor->strides[i], &step) || !add_u64(last, step, &last))
            return false;
    return add_u64(last, 1, elements);
}

static bool check_reach(const struct torch_tensor *tensor, struct error *err)
{
    uint64_t elements, have, bytes;
    size_t size = dtype_size(tensor->storage.dtype);
    if (!mul_u64(tensor->storage.visible, size, &have) || !mul_u64(tensor->storage.elements, size, &bytes))
        return fail(err, "its storage is too large for 64 bits of bytes");
    if (reach(tensor, &elements) && elements <= have / dtype_size(tensor->dtype))
        return true;
    return fail(err, "it reaches outside of its storage of %llu bytes", (unsigned long long)have);
}

/* Metadata says that the values are to be conjugated or negated when they are read. */
static bool check_metadata(const struct pickle_value *metadata, struct error *err)
{
    if (pickle_is_true(pickle_get(metadata, "conj")) || pickle_is_true(pickle_get(metadata, "neg")))
        return fail(
            err, "it is a conjugate or negative view, whose bytes are not its values; save a clone() of it");
    return true;
}

bool torch_tensor(const struct torch_object *object, struct torch_tensor *tensor, struct error *err)
{
    const struct pickle_value *arguments = object->arguments;
    unsigned n_strides;
    if (object->kind == TORCH_UNSUPPORTED)
        return fail(err, "it is rebuilt by %.*s, which is not a plain tensor; only plain ones can be read",
                    object->function.length < 100 ? (int)object->function.length : 100, object->function.at);
    if (!torch_storage(pickle_item(arguments, 0), &tensor->storage, err))
        return false;
    bool v3 = slice_is(object->function, "_rebuild_tensor_v3");
    const struct pickle_value *dtype = pickle_item(arguments, 6);
    tensor->dtype = v3 ? torch_dtype(dtype) : tensor->storage.dtype;
    if (tensor->dtype == DTYPE_NONE) {
        struct slice name = pickle_is(dtype, PICKLE_GLOBAL) ? dtype->as.global->name : (struct slice){"?", 1};
        return fail(err, "its dtype '%.*s' is unknown", name.length < 100 ? (int)name.length : 100, name.at);
    }
    if (!pickle_u64(pickle_item(arguments, 1), &tensor->offset) ||
        !torch_sizes(pickle_item(arguments, 2), tensor->shape, &tensor->n_dims) ||
        !torch_sizes(pickle_item(arguments, 3), tensor->strides, &n_strides) || n_strides != tensor->n_dims)
        return fail(err, "its offset, shape or strides are not whole numbers that fit together");
    return check_metadata(pickle_item(arguments, v3 ? 7 : 6), err) && check_reach(tensor, err);
}

/* One pair of a list of pairs, or the at-th of a flat run of keys and values. */
static bool pair_at(const struct pickle_items *items, bool flat, size_t at, struct pickle_value **key,
                    struct pickle_value **value)
{
    if (flat) {
        *key = items->at[2 * at];
        *value = items->at[2 * at + 1];
        return true;
    }
    *key = pickle_item(items->at[at], 0);
    *value = pickle_item(items->at[at], 1);
    return *key && *value;
}

/* OrderedDict([(key, value), …]) or OrderedDict({…}), and whatever was set in it after that. */
bool torch_next_pair(const struct pickle_value *dict, size_t *at, struct pickle_value **key,
                     struct pickle_value **value)
{
    static const struct pickle_items nothing;
    const struct pickle_items *given = &nothing, *set = &dict->as.items;
    bool flat = true;
    if (dict->kind == PICKLE_OBJECT) {
        const struct pickle_value *first = pickle_item(dict->as.object->arguments, 0);
        set = &dict->as.object->pairs;
        flat = pickle_is(first, PICKLE_DICT);
        if (flat || pickle_is(first, PICKLE_LIST) || pickle_is(first, PICKLE_TUPLE))
            given = &first->as.items;
    }
    size_t n_given = flat ? given->n / 2 : given->n;
    for (; *at < n_given; ++*at)
        if (pair_at(given, flat, *at, key, value)) {
            ++*at;
            return true;
        }
    if (*at - n_given >= set->n / 2)
        return false;
    return pair_at(set, true, (*at)++ - n_given, key, value);
}

const struct pickle_items *torch_elements(const struct pickle_value *list)
{
    return list->kind == PICKLE_OBJECT ? &list->as.object->elements : &list->as.items;
}

bool torch_set_has(const struct pickle_value *set, struct slice text)
{
    if (pickle_is(set, PICKLE_OBJECT)) /* protocols before 4: set([…]) */
        set = pickle_item(set->as.object->arguments, 0);
    if (!pickle_is(set, PICKLE_SET) && !pickle_is(set, PICKLE_LIST))
        return false;
    for (size_t i = 0; i < set->as.items.n && i < MAX_SEARCH; i++) {
        const struct pickle_value *item = set->as.items.at[i];
        if (pickle_is(item, PICKLE_STRING) && item->as.text.length == text.length &&
            memcmp(item->as.text.at, text.at, text.length) == 0)
            return true;
    }
    return false;
}
