#include "names.h"

#include "fail.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* FNV-1a from a start that differs between runs, so that a file cannot be made of names that collide. */
static uint64_t hash(const char *text, size_t length)
{
    static uint64_t seed;
    while (!seed)
        if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
            seed = (uint64_t)(uintptr_t)&seed;
    uint64_t h = seed;
    for (size_t i = 0; i < length; i++)
        h = (h ^ (unsigned char)text[i]) * 0x100000001b3;
    return h ^ h >> 29;
}

/* The slot that holds the string, or the free one where it belongs. */
static size_t find_slot(const struct names *names, const char *text, size_t length)
{
    size_t at = hash(text, length) & (names->n_slots - 1);
    while (names->slot[at]) {
        const char *other = names->text[names->slot[at] - 1];
        if (strncmp(other, text, length) == 0 && !other[length])
            break;
        at = (at + 1) & (names->n_slots - 1);
    }
    return at;
}

static void grow(struct names *names)
{
    free(names->slot);
    names->n_slots = names->n_slots ? names->n_slots * 2 : 64;
    names->slot = xcalloc(names->n_slots, sizeof *names->slot);
    for (size_t i = 0; i < names->n; i++)
        names->slot[find_slot(names, names->text[i], strlen(names->text[i]))] = (uint32_t)(i + 1);
}

size_t names_add(struct names *names, const char *text, size_t length)
{
    if (names->n * 2 >= names->n_slots)
        grow(names);
    size_t at = find_slot(names, text, length);
    if (names->slot[at])
        return names->slot[at] - 1;
    if (names->n == UINT32_MAX - 1)
        die(EXIT_DATA, "more than 4 billion names");
    GROW(names->text, names->n, names->capacity);
    names->text[names->n] = arena_strndup(&names->arena, text, length);
    names->slot[at] = (uint32_t)(names->n + 1);
    return names->n++;
}

bool names_find(const struct names *names, const char *text, size_t length, size_t *number)
{
    if (!names->n)
        return false;
    size_t at = find_slot(names, text, length);
    if (names->slot[at])
        *number = names->slot[at] - 1;
    return names->slot[at] != 0;
}

void names_free(struct names *names)
{
    arena_free(&names->arena);
    free(names->text);
    free(names->slot);
    *names = (struct names){0};
}
