#include "memory.h"

#include "fail.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *checked(void *memory, size_t size)
{
    if (!memory && size)
        die(EXIT_DATA, "out of memory: cannot allocate %zu bytes", size);
    return memory;
}

void *xmalloc(size_t size)
{
    return checked(malloc(size), size);
}

void *xcalloc(size_t count, size_t size)
{
    return checked(calloc(count, size), count);
}

void *xrealloc(void *old, size_t count, size_t size)
{
    return checked(reallocarray(old, count, size), count);
}

char *xstrndup(const char *text, size_t length)
{
    char *copy = xmalloc(length + 1);
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

char *xstrdup(const char *text)
{
    return xstrndup(text, strlen(text));
}

char *xasprintf(const char *format, ...)
{
    char *text;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0)
        die(EXIT_DATA, "out of memory");
    return text;
}

struct arena_block {
    struct arena_block *next;
    size_t used, size;
    max_align_t data[];
};

void *arena_alloc(struct arena *arena, size_t size)
{
    if (size > SIZE_MAX / 2)
        die(EXIT_DATA, "out of memory: cannot allocate %zu bytes", size);
    size = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    struct arena_block *block = arena->blocks;
    if (!block || block->size - block->used < size) {
        size_t room = size > 64 * 1024 ? size : 64 * 1024;
        block = xcalloc(1, sizeof *block + room);
        block->size = room;
        block->next = arena->blocks;
        arena->blocks = block;
    }
    void *memory = (char *)block->data + block->used;
    block->used += size;
    return memory;
}

char *arena_strndup(struct arena *arena, const char *text, size_t length)
{
    char *copy = arena_alloc(arena, length + 1);
    memcpy(copy, text, length);
    return copy;
}

void arena_free(struct arena *arena)
{
    while (arena->blocks) {
        struct arena_block *next = arena->blocks->next;
        free(arena->blocks);
        arena->blocks = next;
    }
}

static void strbuf_room(struct strbuf *buf, size_t more)
{
    if (buf->capacity - buf->length > more)
        return;
    size_t capacity = buf->capacity ? buf->capacity : 64;
    while (capacity - buf->length <= more)
        capacity *= 2;
    buf->data = xrealloc(buf->data, capacity, 1);
    buf->capacity = capacity;
}

void strbuf_add(struct strbuf *buf, const void *bytes, size_t length)
{
    strbuf_room(buf, length);
    if (length)
        memcpy(buf->data + buf->length, bytes, length);
    buf->length += length;
    buf->data[buf->length] = '\0';
}

void strbuf_puts(struct strbuf *buf, const char *text)
{
    strbuf_add(buf, text, strlen(text));
}

void strbuf_printf(struct strbuf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0)
        die(EXIT_DATA, "cannot format a message");
    strbuf_room(buf, (size_t)n);
    va_start(args, format);
    vsnprintf(buf->data + buf->length, (size_t)n + 1, format, args);
    va_end(args);
    buf->length += (size_t)n;
}

void strbuf_reset(struct strbuf *buf)
{
    buf->length = 0;
    if (buf->data)
        buf->data[0] = '\0';
}

void strbuf_free(struct strbuf *buf)
{
    free(buf->data);
    *buf = (struct strbuf){0};
}

char *strbuf_steal(struct strbuf *buf)
{
    char *text = buf->data ? buf->data : xstrdup("");
    *buf = (struct strbuf){0};
    return text;
}

uint16_t le16(const void *at)
{
    const unsigned char *b = at;
    return (uint16_t)(b[0] | b[1] << 8);
}

uint32_t le32(const void *at)
{
    const unsigned char *b = at;
    return le16(b) | (uint32_t)le16(b + 2) << 16;
}

uint64_t le64(const void *at)
{
    const unsigned char *b = at;
    return le32(b) | (uint64_t)le32(b + 4) << 32;
}

void put_le16(void *at, uint16_t value)
{
    unsigned char *b = at;
    b[0] = (unsigned char)value;
    b[1] = (unsigned char)(value >> 8);
}

void put_le32(void *at, uint32_t value)
{
    put_le16(at, (uint16_t)value);
    put_le16((char *)at + 2, (uint16_t)(value >> 16));
}

void put_le64(void *at, uint64_t value)
{
    put_le32(at, (uint32_t)value);
    put_le32((char *)at + 4, (uint32_t)(value >> 32));
}

bool parse_u64(const char *text, uint64_t *value)
{
    if (*text < '0' || *text > '9')
        return false;
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno || *end)
        return false;
    *value = n;
    return true;
}
