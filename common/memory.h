/* Memory: allocation that cannot return NULL, a bump arena, a growing string, and the arithmetic and
 * byte-order helpers that every number out of a file goes through. */
#ifndef MEMORY_H
#define MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* These end the program when memory is out. The caller frees the result with free(). */
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *old, size_t count, size_t size);
char *xstrdup(const char *text);
char *xstrndup(const char *text, size_t length);
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Makes room for one more element in a growing array: GROW(items, n, capacity); items[n++] = … */
#define GROW(items, n, capacity)                                                                             \
    do {                                                                                                     \
        if ((n) == (capacity)) {                                                                             \
            (capacity) = (capacity) ? (capacity)*2 : 8;                                                      \
            (items) = xrealloc((items), (capacity), sizeof *(items));                                        \
        }                                                                                                    \
    } while (0)

/* Memory that is freed all at once. Zero-initialise; blocks come zeroed and aligned for any type. */
struct arena {
    struct arena_block *blocks;
};
void *arena_alloc(struct arena *arena, size_t size);
char *arena_strndup(struct arena *arena, const char *text, size_t length);
void arena_free(struct arena *arena);

/* A growing byte string, always followed by a NUL. Zero-initialise; strbuf_free() releases it. */
struct strbuf {
    char *data;
    size_t length, capacity;
};
void strbuf_add(struct strbuf *buf, const void *bytes, size_t length);
void strbuf_puts(struct strbuf *buf, const char *text);
void strbuf_printf(struct strbuf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3), nonnull(2)));
void strbuf_reset(struct strbuf *buf);
void strbuf_free(struct strbuf *buf);
/* The buffer's string, which the caller now owns; the buffer is empty again. */
char *strbuf_steal(struct strbuf *buf);

/* *out = a op b; false when that does not fit in 64 bits. */
static inline bool add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}
static inline bool mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

/* Little-endian integers at any address. */
uint16_t le16(const void *at);
uint32_t le32(const void *at);
uint64_t le64(const void *at);
void put_le16(void *at, uint16_t value);
void put_le32(void *at, uint32_t value);
void put_le64(void *at, uint64_t value);

/* text as a decimal number without sign or spaces; false when it is anything else or too large. */
bool parse_u64(const char *text, uint64_t *value);

static inline bool has_prefix(const char *text, const char *prefix)
{
    return __builtin_strncmp(text, prefix, __builtin_strlen(prefix)) == 0;
}
static inline bool has_suffix(const char *text, const char *suffix)
{
    size_t n = __builtin_strlen(text), m = __builtin_strlen(suffix);
    return n >= m && __builtin_strcmp(text + n - m, suffix) == 0;
}

#endif
