/* A table of strings without repetition, numbered 0, 1, … in the order in which they came.
 *
 * Zero-initialise; names_free() releases it. Pointers to its strings stay good until then. */
#ifndef NAMES_H
#define NAMES_H

#include "memory.h"

struct names {
    struct arena arena;
    const char **text; /* by number */
    size_t n, capacity;
    uint32_t *slot; /* a hash table: number + 1, or 0 where free */
    size_t n_slots; /* a power of two */
};

/* The string's number; it is a new one when that equals the former names->n. The string has no NUL inside. */
size_t names_add(struct names *names, const char *text, size_t length);
/* False when the string is not there. */
bool names_find(const struct names *names, const char *text, size_t length, size_t *number);
void names_free(struct names *names);

#endif
