#include "pickle_machine.h"

#include <stdlib.h>
#include <string.h>

/* A pickle of a few bytes can ask for a lot of values; what it may take is bounded here once for everything.
 * Training checkpoints with millions of Python numbers in them stay below this. */
static const uint64_t MEMORY_LIMIT = 256 * 1024 * 1024;

bool machine_fail(struct machine *m, const char *problem)
{
    if (!m->problem)
        m->problem = problem;
    return false;
}

static bool spend(struct machine *m, uint64_t bytes)
{
    m->spent += bytes;
    return m->spent <= MEMORY_LIMIT || machine_fail(m, "its values take more than 256 MiB of memory");
}

void *machine_alloc(struct machine *m, size_t size)
{
    return spend(m, size) ? arena_alloc(&m->pickle->arena, size) : NULL;
}

struct pickle_value *machine_value(struct machine *m, enum pickle_kind kind)
{
    struct pickle_value *value = machine_alloc(m, sizeof *value);
    if (value)
        value->kind = kind;
    return value;
}

bool push(struct machine *m, struct pickle_value *value)
{
    if (!value)
        return false;
    if (m->n_stack == m->stack_capacity && !spend(m, m->stack_capacity * sizeof *m->stack))
        return false;
    GROW(m->stack, m->n_stack, m->stack_capacity);
    m->stack[m->n_stack++] = value;
    return true;
}

struct pickle_value *top(struct machine *m)
{
    size_t bottom = m->n_marks ? m->marks[m->n_marks - 1] : 0;
    if (m->n_stack > bottom)
        return m->stack[m->n_stack - 1];
    machine_fail(m, "it takes more values off its stack than it has put there");
    return NULL;
}

struct pickle_value *pop(struct machine *m)
{
    struct pickle_value *value = top(m);
    if (value)
        m->n_stack--;
    return value;
}

bool push_mark(struct machine *m)
{
    if (m->n_marks == m->marks_capacity && !spend(m, m->marks_capacity * sizeof *m->marks))
        return false;
    GROW(m->marks, m->n_marks, m->marks_capacity);
    m->marks[m->n_marks++] = m->n_stack;
    return true;
}

bool pop_mark(struct machine *m, struct pickle_value ***values, size_t *n)
{
    if (!m->n_marks)
        return machine_fail(m, "it goes back to a mark that it has not set");
    size_t bottom = m->marks[--m->n_marks];
    *values = bottom ? m->stack + bottom : m->stack;
    *n = m->n_stack - bottom;
    m->n_stack = bottom;
    return true;
}

bool append_item(struct machine *m, struct pickle_items *items, struct pickle_value *value)
{
    if (items->n == items->capacity) {
        size_t capacity = items->capacity ? items->capacity * 2 : 4;
        struct pickle_value **at = machine_alloc(m, capacity * sizeof *at);
        if (!at)
            return false;
        if (items->n)
            memcpy(at, items->at, items->n * sizeof *at);
        items->at = at;
        items->capacity = capacity;
    }
    items->at[items->n++] = value;
    return true;
}

static struct memo_entry *memo_slot(struct memo_entry *memo, size_t n_slots, uint64_t index)
{
    size_t at = (size_t)(index * 0x9e3779b97f4a7c15 >> 32) & (n_slots - 1);
    while (memo[at].value && memo[at].index != index)
        at = (at + 1) & (n_slots - 1);
    return &memo[at];
}

static bool memo_grow(struct machine *m)
{
    size_t n_slots = m->n_slots ? m->n_slots * 2 : 64;
    if (!spend(m, n_slots * sizeof *m->memo))
        return false;
    struct memo_entry *memo = xcalloc(n_slots, sizeof *memo);
    for (size_t i = 0; i < m->n_slots; i++)
        if (m->memo[i].value)
            *memo_slot(memo, n_slots, m->memo[i].index) = m->memo[i];
    free(m->memo);
    m->memo = memo;
    m->n_slots = n_slots;
    return true;
}

bool memo_put(struct machine *m, uint64_t index, struct pickle_value *value)
{
    if (!value || (m->n_memo * 2 >= m->n_slots && !memo_grow(m)))
        return false;
    struct memo_entry *entry = memo_slot(m->memo, m->n_slots, index);
    m->n_memo += !entry->value;
    *entry = (struct memo_entry){index, value};
    return true;
}

bool memo_get(struct machine *m, uint64_t index)
{
    struct memo_entry *entry = m->n_slots ? memo_slot(m->memo, m->n_slots, index) : NULL;
    if (!entry || !entry->value)
        return machine_fail(m, "it refers back to a value that it has not given");
    return push(m, entry->value);
}

static bool cut_short(struct machine *m, uint64_t more)
{
    uint64_t wanted;
    if (!add_u64((uint64_t)(m->at - m->begin), more, &wanted))
        wanted = UINT64_MAX;
    m->pickle->wanted = wanted;
    return machine_fail(m, "it ends too early");
}

bool take(struct machine *m, uint64_t length, const unsigned char **bytes)
{
    if (length > (uint64_t)(m->end - m->at))
        return cut_short(m, length);
    *bytes = m->at;
    m->at += length;
    return true;
}

bool take_line(struct machine *m, struct slice *line)
{
    size_t left = (size_t)(m->end - m->at);
    const unsigned char *end = left ? memchr(m->at, '\n', left) : NULL;
    if (!end)
        return cut_short(m, (uint64_t)left + 1);
    *line = (struct slice){(const char *)m->at, (size_t)(end - m->at)};
    m->at = end + 1;
    return true;
}

static size_t put_utf8(char *to, uint32_t c)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; c >>= 6)
        to[i] = (char)(0x80 | (c & 0x3f));
    to[0] = (char)(0xf00 >> n | c);
    return n;
}

/* Up to max digits, all that are there. */
static size_t hex_digits(const char *from, const char *end, size_t max, uint32_t *number)
{
    size_t n = 0;
    *number = 0;
    while (n < max && from + n < end) {
        char c = from[n];
        int digit = c >= '0' && c <= '9'                 ? c - '0'
                    : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                         : -1;
        if (digit < 0)
            break;
        *number = *number << 4 | (uint32_t)digit;
        n++;
    }
    return n;
}

/* One escape at from, which points behind the backslash. Returns how many characters it has, 0 when there is
 * no such. */
static size_t read_escape(const char *from, const char *end, bool unicode, uint32_t *c)
{
    static const char simple[] = "\\\\''\"\"n\nr\rt\t";
    if (from == end)
        return 0;
    size_t digits = *from == 'u' && unicode    ? 4
                    : *from == 'U' && unicode  ? 8
                    : *from == 'x' && !unicode ? 2
                                               : 0;
    if (digits)
        return hex_digits(from + 1, end, digits, c) == digits && *c < 0x110000 ? 1 + digits : 0;
    for (const char *s = simple; *s && !unicode; s += 2)
        if (*s == *from) {
            *c = (unsigned char)s[1];
            return 1;
        }
    return 0;
}

bool unescape(struct machine *m, struct slice *text, bool unicode)
{
    if (!text->length || (!unicode && !memchr(text->at, '\\', text->length)))
        return true;
    /* Nothing becomes longer than twice: a Latin-1 byte is two bytes of UTF-8. */
    char *to = machine_alloc(m, text->length * 2);
    if (!to)
        return false;
    size_t n = 0;
    const char *end = text->at + text->length;
    for (const char *from = text->at; from < end;) {
        uint32_t c = (unsigned char)*from++;
        if (c == '\\')
            from += read_escape(from, end, unicode, &c);
        if (unicode)
            n += put_utf8(to + n, c);
        else
            to[n++] = (char)c;
    }
    *text = (struct slice){to, n};
    return true;
}

void machine_free(struct machine *m)
{
    free(m->stack);
    free(m->marks);
    free(m->memo);
}
