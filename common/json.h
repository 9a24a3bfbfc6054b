/* JSON values, read and written with yajl.
 *
 * A parsed document is a tree in memory that json_free() releases as a whole; pointers into it are the
 * document's. Nesting is limited to 128 levels and a key may stand only once in an object, so a hostile
 * document is an error and nothing worse. Accessors take NULL and answer as for a missing value. */
#ifndef JSON_H
#define JSON_H

#include "fail.h"
#include "memory.h"

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
    enum json_type type;
    bool boolean;
    const char *text;   /* of a string (UTF-8, without NUL inside), or of a number as written */
    size_t n;           /* elements of an array or object; bytes of text */
    struct json **item; /* values, in the order of the document */
    const char **key;   /* of an object */
};

struct json_document {
    struct arena arena;
    struct json *root;
};

/* Parses length bytes. what names the document in messages, e.g. a path. On success the caller ends with
 * json_free(); on failure there is nothing to free. */
bool json_parse(struct json_document *doc, const char *text, size_t length, const char *what,
                struct error *err);
/* Parses a whole file of at most limit bytes. */
bool json_parse_file(struct json_document *doc, const char *path, size_t limit, struct error *err);
void json_free(struct json_document *doc);

/* The value of a key, or NULL. */
const struct json *json_get(const struct json *object, const char *key);
/* The string, or NULL when the value is not one. */
const char *json_string(const struct json *value);
/* False when the value is not a whole number from 0 to 2^64-1. */
bool json_u64(const struct json *value, uint64_t *number);
bool json_is(const struct json *value, enum json_type type);

/* Writing: appends to buf. */
void json_write_string(struct strbuf *buf, const char *text);
void json_write(struct strbuf *buf, const struct json *value);

#endif
