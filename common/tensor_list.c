#include "tensor_list.h"

#include "names.h"

#include <stdlib.h>
#include <string.h>

/* Bytes of the UTF-8 character at text, 0 when it is none (RFC 3629: no surrogates, nothing longer than
 * needed). */
static size_t utf8_length(const unsigned char *text, size_t left)
{
    unsigned char c = text[0];
    size_t n = c < 0x80                ? 1
               : c >= 0xc2 && c < 0xe0 ? 2
               : c >= 0xe0 && c < 0xf0 ? 3
               : c >= 0xf0 && c < 0xf5 ? 4
                                       : 0;
    if (n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    bool bad = (c == 0xe0 && text[1] < 0xa0) || (c == 0xed && text[1] > 0x9f) ||
               (c == 0xf0 && text[1] < 0x90) || (c == 0xf4 && text[1] > 0x8f);
    return bad ? 0 : n;
}

static bool check_name(const char *name, size_t length, const char *path, struct error *err)
{
    if (!length)
        return fail(err, "%s: a tensor in it has an empty name", path);
    if (memchr(name, 0, length))
        return fail(err, "%s: the tensor name that begins with '%s' has a NUL character inside", path, name);
    for (size_t i = 0; i < length;) {
        size_t n = utf8_length((const unsigned char *)name + i, length - i);
        if (!n)
            return fail(err, "%s: the tensor name that begins with '%.*s' is not valid UTF-8", path, (int)i,
                        name);
        i += n;
    }
    return true;
}

bool tensor_list_add(struct tensor_list *list, const char *name, size_t length, struct tensor *tensor,
                     uint64_t tid, const char *path, struct error *err)
{
    bool full = list->n == MAX_TENSORS;
    if (full)
        fail(err, "%s: there are more than %d tensors in it", path, MAX_TENSORS);
    if (full || !check_name(name, length, path, err)) {
        tensor_free(tensor);
        return false;
    }
    GROW(list->items, list->n, list->capacity);
    list->items[list->n++] = (struct named_tensor){xstrndup(name, length), tensor, tid};
    return true;
}

bool tensor_list_check_unique(const struct tensor_list *list, const char *path, struct error *err)
{
    struct names seen = {0};
    bool ok = true;
    for (size_t i = 0; i < list->n && ok && list->n > 1; i++)
        if (names_add(&seen, list->items[i].name, strlen(list->items[i].name)) != i)
            ok = fail(err, "%s: two tensors in it have the name '%s'", path, list->items[i].name);
    names_free(&seen);
    return ok;
}

void tensor_list_free(struct tensor_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        free(list->items[i].name);
        tensor_free(list->items[i].tensor);
    }
    for (size_t i = 0; i < LEFT_OUT_NAMES; i++)
        free(list->left_out[i]);
    free(list->items);
    *list = (struct tensor_list){0};
}
