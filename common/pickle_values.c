/* Looking at the values of a pickle. */
#include "pickle.h"

#include <string.h>

/* Nothing that is looked up by name is in a larger dictionary. A hostile one may be searched very often. */
enum { MAX_SEARCH = 100 };

bool pickle_is(const struct pickle_value *value, enum pickle_kind kind)
{
    return value && value->kind == kind;
}

bool slice_is(struct slice slice, const char *text)
{
    size_t length = strlen(text);
    return slice.length == length && memcmp(slice.at, text, length) == 0;
}

bool pickle_is_text(const struct pickle_value *value, const char *text)
{
    return (pickle_is(value, PICKLE_STRING) || pickle_is(value, PICKLE_BYTES)) &&
           slice_is(value->as.text, text);
}

bool pickle_is_global(const struct pickle_value *value, const char *module, const char *name)
{
    return pickle_is(value, PICKLE_GLOBAL) && slice_is(value->as.global->module, module) &&
           slice_is(value->as.global->name, name);
}

bool pickle_u64(const struct pickle_value *value, uint64_t *number)
{
    if (!pickle_is(value, PICKLE_INT) || value->as.integer < 0)
        return false;
    *number = (uint64_t)value->as.integer;
    return true;
}

bool pickle_is_true(const struct pickle_value *value)
{
    return (pickle_is(value, PICKLE_BOOL) && value->as.boolean) ||
           (pickle_is(value, PICKLE_INT) && value->as.integer);
}

struct pickle_value *pickle_item(const struct pickle_value *value, size_t index)
{
    bool list = pickle_is(value, PICKLE_TUPLE) || pickle_is(value, PICKLE_LIST);
    return list && index < value->as.items.n ? value->as.items.at[index] : NULL;
}

struct pickle_value *pickle_get(const struct pickle_value *dict, const char *key)
{
    struct pickle_value *found = NULL;
    if (pickle_is(dict, PICKLE_DICT))
        for (size_t i = 0; i + 1 < dict->as.items.n && i < 2 * MAX_SEARCH; i += 2)
            if (pickle_is_text(dict->as.items.at[i], key))
                found = dict->as.items.at[i + 1];
    return found;
}
