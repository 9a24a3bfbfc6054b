/* Python pickles, read as data.
 *
 * A pickle is a program for a small stack machine. This one runs the part that builds values, and calls
 * nothing: what Python would call or look up becomes a value that says so (PICKLE_OBJECT, PICKLE_GLOBAL), and
 * torch_objects.h makes sense of the few that matter. Opcodes are those of protocols 0 to 5
 * (Lib/pickletools.py of CPython describes them).
 *
 * A value tree lives in the pickle's arena; texts are slices of the input, which must outlive it. Values can
 * be shared and can contain themselves, so whoever walks them must bound depth and work. Parsing is not
 * recursive and takes time and memory in proportion to the input, up to a fixed limit. */
#ifndef PICKLE_H
#define PICKLE_H

#include "fail.h"
#include "memory.h"

enum pickle_kind {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_BIG_INT, /* beyond 64 bits */
    PICKLE_FLOAT,
    PICKLE_STRING,
    PICKLE_BYTES,
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_SET,
    PICKLE_DICT,
    PICKLE_GLOBAL,    /* a class or function, by name */
    PICKLE_OBJECT,    /* what calling something would give */
    PICKLE_PERSISTENT /* what the pickle's owner keeps elsewhere */
};

/* Bytes that something else owns, without a NUL behind them. */
struct slice {
    const char *at;
    size_t length;
};

struct pickle_value;

struct pickle_items {
    struct pickle_value **at;
    size_t n, capacity;
};

struct pickle_global {
    struct slice module, name;
};

struct pickle_object {
    struct pickle_value *callable;  /* a class or a function, normally a PICKLE_GLOBAL */
    struct pickle_value *arguments; /* a PICKLE_TUPLE */
    struct pickle_value *state;     /* what BUILD set, or NULL */
    struct pickle_items pairs;      /* key, value, key, value … that were set in it */
    struct pickle_items elements;   /* that were appended to it */
};

struct pickle_value {
    enum pickle_kind kind;
    union {
        bool boolean;
        int64_t integer;
        double real;
        struct slice text;         /* STRING, BYTES; BIG_INT: little-endian bytes, or decimal digits */
        struct pickle_items items; /* TUPLE, LIST, SET; DICT: key, value, key, value … */
        struct pickle_global *global;
        struct pickle_object *object;
        struct pickle_value *id; /* PERSISTENT */
    } as;
};

struct pickle {
    struct arena arena;
    struct pickle_value *root;
    struct pickle_items persistent; /* all PICKLE_PERSISTENT, in the order of the pickle */
    size_t length;                  /* bytes of the input that the pickle takes */
    size_t wanted;                  /* after a failure: bytes without which it cannot be read, or 0 */
};

/* Reads the pickle at the beginning of the input. what names it in messages. The caller ends with
 * pickle_free(), also after a failure. When the pickle does not end within length bytes, that is a failure
 * that sets wanted. */
bool pickle_parse(struct pickle *pickle, const void *input, size_t length, const char *what,
                  struct error *err);
void pickle_free(struct pickle *pickle);

/* These take any value, also NULL, and are false where it is of another kind. */
bool pickle_is(const struct pickle_value *value, enum pickle_kind kind);
bool pickle_is_text(const struct pickle_value *value, const char *text); /* STRING or BYTES */
bool pickle_is_global(const struct pickle_value *value, const char *module, const char *name);
bool pickle_u64(const struct pickle_value *value, uint64_t *number);
bool pickle_is_true(const struct pickle_value *value);
/* The item of a TUPLE or LIST, or NULL. */
struct pickle_value *pickle_item(const struct pickle_value *value, size_t index);
/* The value of a key of a DICT, or NULL. Only the first 100 pairs are looked at. */
struct pickle_value *pickle_get(const struct pickle_value *dict, const char *key);
bool slice_is(struct slice slice, const char *text);

#endif
