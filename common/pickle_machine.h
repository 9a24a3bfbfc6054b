/* Inside the pickle reader: the machine's memory (pickle_machine.c), which the opcodes (pickle.c) work on. */
#ifndef PICKLE_MACHINE_H
#define PICKLE_MACHINE_H

#include "pickle.h"

struct memo_entry {
    uint64_t index;
    struct pickle_value *value; /* NULL where the slot is free */
};

struct machine {
    struct pickle *pickle;
    const unsigned char *begin, *at, *end;
    struct pickle_value **stack;
    size_t n_stack, stack_capacity;
    size_t *marks; /* heights of the stack */
    size_t n_marks, marks_capacity;
    struct memo_entry *memo; /* a hash table */
    size_t n_memo, n_slots;
    uint64_t spent;      /* bytes of memory */
    const char *problem; /* why the machine stopped */
};

/* All of these are false or NULL after setting problem. */
bool machine_fail(struct machine *m, const char *problem);
void *machine_alloc(struct machine *m, size_t size);
struct pickle_value *machine_value(struct machine *m, enum pickle_kind kind);

bool push(struct machine *m, struct pickle_value *value);
struct pickle_value *pop(struct machine *m);
struct pickle_value *top(struct machine *m);
bool push_mark(struct machine *m);
/* Takes the values above the topmost mark, and the mark, off the stack. They stay good until the next push.
 */
bool pop_mark(struct machine *m, struct pickle_value ***values, size_t *n);
bool append_item(struct machine *m, struct pickle_items *items, struct pickle_value *value);

bool memo_put(struct machine *m, uint64_t index, struct pickle_value *value);
bool memo_get(struct machine *m, uint64_t index);

/* The next bytes of the input. */
bool take(struct machine *m, uint64_t length, const unsigned char **bytes);
bool take_line(struct machine *m, struct slice *line);

/* Text of protocol 0 with its backslash escapes replaced, as UTF-8 (unicode) or bytes. */
bool unescape(struct machine *m, struct slice *text, bool unicode);

void machine_free(struct machine *m);

/* pickle_scalars.c: opcodes, named after what follows them in the input. */
bool push_bool(struct machine *m, bool boolean);
bool push_text(struct machine *m, enum pickle_kind kind, struct slice text);
/* A little-endian number of n bytes, unsigned. */
bool take_number(struct machine *m, size_t n, uint64_t *number);
bool counted_text(struct machine *m, enum pickle_kind kind, size_t count_bytes);
bool counted_int(struct machine *m, size_t count_bytes);
bool decimal_int(struct machine *m, bool is_long);
bool decimal_float(struct machine *m);
bool binary_int(struct machine *m, size_t n);
bool binary_float(struct machine *m);
bool quoted_string(struct machine *m);
bool unicode_line(struct machine *m);

#endif
