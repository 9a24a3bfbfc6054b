/* The opcodes. A pickle from a stranger runs here, so every function checks what it takes. */
#include "pickle.h"

#include "pickle_machine.h"

#include <string.h>

/* Values that hold nothing of their own are shared, and never written to. */
static struct pickle_value none = {.kind = PICKLE_NONE};
static struct pickle_value empty_tuple = {.kind = PICKLE_TUPLE};

static struct pickle_value *make_items(struct machine *m, enum pickle_kind kind, struct pickle_value **values,
                                       size_t n)
{
    struct pickle_value *value = machine_value(m, kind);
    struct pickle_value **at = n && value ? machine_alloc(m, n * sizeof *at) : NULL;
    if (!value || (n && !at))
        return NULL;
    if (n)
        memcpy(at, values, n * sizeof *at);
    value->as.items = (struct pickle_items){at, n, n};
    return value;
}

/* TUPLE, LIST, DICT, FROZENSET: everything above the mark. */
static bool marked_items(struct machine *m, enum pickle_kind kind)
{
    struct pickle_value **values;
    size_t n;
    if (!pop_mark(m, &values, &n))
        return false;
    if (kind == PICKLE_DICT && n % 2)
        return machine_fail(m, "it has a dictionary with a key without value");
    return push(m, make_items(m, kind, values, n));
}

/* TUPLE1, TUPLE2, TUPLE3 */
static bool short_tuple(struct machine *m, size_t n)
{
    struct pickle_value *values[3];
    for (size_t i = n; i-- > 0;)
        if (!(values[i] = pop(m)))
            return false;
    return push(m, make_items(m, PICKLE_TUPLE, values, n));
}

static struct pickle_items *pairs_of(struct pickle_value *value)
{
    return pickle_is(value, PICKLE_DICT)     ? &value->as.items
           : pickle_is(value, PICKLE_OBJECT) ? &value->as.object->pairs
                                             : NULL;
}

static struct pickle_items *elements_of(struct pickle_value *value)
{
    return pickle_is(value, PICKLE_LIST) || pickle_is(value, PICKLE_SET) ? &value->as.items
           : pickle_is(value, PICKLE_OBJECT)                             ? &value->as.object->elements
                                                                         : NULL;
}

/* SETITEM(S) and APPEND(S), ADDITEMS: values go into the container that is on top of the stack then. */
static bool add_items(struct machine *m, struct pickle_value **values, size_t n, bool to_pairs)
{
    struct pickle_value *container = top(m);
    struct pickle_items *items = to_pairs ? pairs_of(container) : elements_of(container);
    if (!container)
        return false;
    if (!items)
        return machine_fail(m, to_pairs ? "it sets an item in something that is not a dictionary"
                                        : "it appends to something that is not a list");
    if (to_pairs && n % 2)
        return machine_fail(m, "it sets a key without value");
    for (size_t i = 0; i < n; i++)
        if (!append_item(m, items, values[i]))
            return false;
    return true;
}

static bool add_marked_items(struct machine *m, bool to_pairs)
{
    struct pickle_value **values;
    size_t n;
    return pop_mark(m, &values, &n) && add_items(m, values, n, to_pairs);
}

static bool add_one_item(struct machine *m, bool to_pairs)
{
    struct pickle_value *values[2];
    for (size_t i = to_pairs ? 2 : 1; i-- > 0;)
        if (!(values[i] = pop(m)))
            return false;
    return add_items(m, values, to_pairs ? 2 : 1, to_pairs);
}

static bool push_global(struct machine *m, struct slice module, struct slice name)
{
    struct pickle_value *value = machine_value(m, PICKLE_GLOBAL);
    struct pickle_global *global = value ? machine_alloc(m, sizeof *global) : NULL;
    if (!global)
        return false;
    *global = (struct pickle_global){module, name};
    value->as.global = global;
    return push(m, value);
}

static bool global_lines(struct machine *m)
{
    struct slice module, name;
    return take_line(m, &module) && take_line(m, &name) && push_global(m, module, name);
}

static bool stack_global(struct machine *m)
{
    struct pickle_value *name = pop(m), *module = name ? pop(m) : NULL;
    if (!module)
        return false;
    if (name->kind != PICKLE_STRING || module->kind != PICKLE_STRING)
        return machine_fail(m, "it names a class with something that is not text");
    return push_global(m, module->as.text, name->as.text);
}

static bool push_object(struct machine *m, struct pickle_value *callable, struct pickle_value *arguments)
{
    if (!callable || !arguments)
        return false;
    if (arguments->kind != PICKLE_TUPLE)
        return machine_fail(m, "it calls something with arguments that are not a tuple");
    struct pickle_value *value = machine_value(m, PICKLE_OBJECT);
    struct pickle_object *object = value ? machine_alloc(m, sizeof *object) : NULL;
    if (!object)
        return false;
    object->callable = callable;
    object->arguments = arguments;
    value->as.object = object;
    return push(m, value);
}

/* REDUCE, NEWOBJ, and NEWOBJ_EX, whose keyword arguments no object that matters here has. */
static bool call(struct machine *m, bool keywords)
{
    if (keywords && !pop(m))
        return false;
    struct pickle_value *arguments = pop(m), *callable = arguments ? pop(m) : NULL;
    return push_object(m, callable, arguments);
}

/* OBJ: the class and its arguments above the mark. INST: the class in two lines, the arguments above the
 * mark. */
static bool marked_call(struct machine *m, bool named)
{
    struct pickle_value **values, *callable;
    size_t n;
    if (named && (!global_lines(m) || !(callable = pop(m))))
        return false;
    if (!pop_mark(m, &values, &n))
        return false;
    if (!named && !n)
        return machine_fail(m, "it makes an object of no class");
    if (!named)
        callable = *values++, n--;
    return push_object(m, callable, make_items(m, PICKLE_TUPLE, values, n));
}

static bool build(struct machine *m)
{
    struct pickle_value *state = pop(m), *object = state ? top(m) : NULL;
    if (!object)
        return false;
    if (object->kind != PICKLE_OBJECT)
        return machine_fail(m, "it sets the state of something that has none");
    object->as.object->state = state;
    return true;
}

static bool persistent(struct machine *m, struct pickle_value *id)
{
    struct pickle_value *value = id ? machine_value(m, PICKLE_PERSISTENT) : NULL;
    if (!value)
        return false;
    value->as.id = id;
    return append_item(m, &m->pickle->persistent, value) && push(m, value);
}

static bool persistent_line(struct machine *m)
{
    struct slice line;
    return take_line(m, &line) && push_text(m, PICKLE_STRING, line) && persistent(m, pop(m));
}

/* GET and PUT of protocol 0 */
static bool line_index(struct machine *m, uint64_t *index)
{
    struct slice line;
    char digits[24];
    if (!take_line(m, &line))
        return false;
    size_t n = line.length < sizeof digits ? line.length : sizeof digits - 1;
    memcpy(digits, line.at, n);
    digits[n] = '\0';
    return parse_u64(digits, index) || machine_fail(m, "it numbers a value with something that is no number");
}

static bool pop_anything(struct machine *m)
{
    struct pickle_value **values;
    size_t n, bottom = m->n_marks ? m->marks[m->n_marks - 1] : 0;
    if (m->n_marks && m->n_stack == bottom)
        return pop_mark(m, &values, &n);
    return pop(m) != NULL;
}

static bool memo_op(struct machine *m, size_t n, bool put)
{
    uint64_t index;
    if (n ? !take_number(m, n, &index) : !line_index(m, &index))
        return false;
    return put ? memo_put(m, index, top(m)) : memo_get(m, index);
}

static bool proto(struct machine *m)
{
    uint64_t version;
    return take_number(m, 1, &version) &&
           (version <= 5 || machine_fail(m, "it is of a protocol that is newer than 5"));
}

static bool pop_all(struct machine *m)
{
    struct pickle_value **values;
    size_t n;
    return pop_mark(m, &values, &n);
}

/* Executes one opcode (all but STOP). */
static bool step(struct machine *m, unsigned char opcode)
{
    const unsigned char *skipped;
    switch (opcode) {
    case 0x80: /* PROTO */
        return proto(m);
    case 0x95: /* FRAME: how many bytes follow, which is of use to unbuffered readers only */
        return take(m, 8, &skipped);
    case '(': /* MARK */
        return push_mark(m);
    case '0': /* POP */
        return pop_anything(m);
    case '1': /* POP_MARK */
        return pop_all(m);
    case '2': /* DUP */
        return push(m, top(m));
    case 'N': /* NONE */
        return push(m, &none);
    case 0x88: /* NEWTRUE */
        return push_bool(m, true);
    case 0x89: /* NEWFALSE */
        return push_bool(m, false);
    case 'I': /* INT */
        return decimal_int(m, false);
    case 'L': /* LONG */
        return decimal_int(m, true);
    case 'J': /* BININT */
        return binary_int(m, 4);
    case 'K': /* BININT1 */
        return binary_int(m, 1);
    case 'M': /* BININT2 */
        return binary_int(m, 2);
    case 0x8a: /* LONG1 */
        return counted_int(m, 1);
    case 0x8b: /* LONG4 */
        return counted_int(m, 4);
    case 'F': /* FLOAT */
        return decimal_float(m);
    case 'G': /* BINFLOAT */
        return binary_float(m);
    case 'S': /* STRING */
        return quoted_string(m);
    case 'V': /* UNICODE */
        return unicode_line(m);
    case 'U': /* SHORT_BINSTRING: str of Python 2 */
        return counted_text(m, PICKLE_STRING, 1);
    case 'T': /* BINSTRING */
        return counted_text(m, PICKLE_STRING, 4);
    case 0x8c: /* SHORT_BINUNICODE */
        return counted_text(m, PICKLE_STRING, 1);
    case 'X': /* BINUNICODE */
        return counted_text(m, PICKLE_STRING, 4);
    case 0x8d: /* BINUNICODE8 */
        return counted_text(m, PICKLE_STRING, 8);
    case 'C': /* SHORT_BINBYTES */
        return counted_text(m, PICKLE_BYTES, 1);
    case 'B': /* BINBYTES */
        return counted_text(m, PICKLE_BYTES, 4);
    case 0x8e: /* BINBYTES8 */
    case 0x96: /* BYTEARRAY8 */
        return counted_text(m, PICKLE_BYTES, 8);
    case ')': /* EMPTY_TUPLE */
        return push(m, &empty_tuple);
    case 't': /* TUPLE */
        return marked_items(m, PICKLE_TUPLE);
    case 0x85: /* TUPLE1 */
    case 0x86: /* TUPLE2 */
    case 0x87: /* TUPLE3 */
        return short_tuple(m, (size_t)(opcode - 0x84));
    case ']': /* EMPTY_LIST */
        return push(m, machine_value(m, PICKLE_LIST));
    case 'l': /* LIST */
        return marked_items(m, PICKLE_LIST);
    case 'a': /* APPEND */
        return add_one_item(m, false);
    case 'e':  /* APPENDS */
    case 0x90: /* ADDITEMS */
        return add_marked_items(m, false);
    case '}': /* EMPTY_DICT */
        return push(m, machine_value(m, PICKLE_DICT));
    case 'd': /* DICT */
        return marked_items(m, PICKLE_DICT);
    case 's': /* SETITEM */
        return add_one_item(m, true);
    case 'u': /* SETITEMS */
        return add_marked_items(m, true);
    case 0x8f: /* EMPTY_SET */
        return push(m, machine_value(m, PICKLE_SET));
    case 0x91: /* FROZENSET */
        return marked_items(m, PICKLE_SET);
    case 'c': /* GLOBAL */
        return global_lines(m);
    case 0x93: /* STACK_GLOBAL */
        return stack_global(m);
    case 'R':  /* REDUCE */
    case 0x81: /* NEWOBJ */
        return call(m, false);
    case 0x92: /* NEWOBJ_EX */
        return call(m, true);
    case 'o': /* OBJ */
        return marked_call(m, false);
    case 'i': /* INST */
        return marked_call(m, true);
    case 'b': /* BUILD */
        return build(m);
    case 'P': /* PERSID */
        return persistent_line(m);
    case 'Q': /* BINPERSID */
        return persistent(m, pop(m));
    case 'g': /* GET */
        return memo_op(m, 0, false);
    case 'h': /* BINGET */
        return memo_op(m, 1, false);
    case 'j': /* LONG_BINGET */
        return memo_op(m, 4, false);
    case 'p': /* PUT */
        return memo_op(m, 0, true);
    case 'q': /* BINPUT */
        return memo_op(m, 1, true);
    case 'r': /* LONG_BINPUT */
        return memo_op(m, 4, true);
    case 0x94: /* MEMOIZE */
        return memo_put(m, m->n_memo, top(m));
    case 0x82: /* EXT1, EXT2, EXT4: numbers of a registry that only the writer has */
    case 0x83:
    case 0x84:
        return machine_fail(m, "it uses the extension registry, which cannot be read elsewhere");
    case 0x97: /* NEXT_BUFFER */
    case 0x98: /* READONLY_BUFFER */
        return machine_fail(m, "it keeps data in buffers outside of itself");
    default:
        return machine_fail(m, "it has an unknown opcode");
    }
}

bool pickle_parse(struct pickle *pickle, const void *input, size_t length, const char *what,
                  struct error *err)
{
    *pickle = (struct pickle){0};
    struct machine m = {
        .pickle = pickle, .begin = input, .at = input, .end = (const unsigned char *)input + length};
    const unsigned char *opcode = NULL;
    while (take(&m, 1, &opcode) && *opcode != '.' && step(&m, *opcode))
        ;
    if (!m.problem)
        pickle->root = pop(&m);
    pickle->length = (size_t)(m.at - m.begin);
    size_t position = opcode ? (size_t)(opcode - m.begin) : 0;
    machine_free(&m);
    return !m.problem || fail(err, "%s: not a usable pickle: %s (at byte %zu)", what, m.problem, position);
}

void pickle_free(struct pickle *pickle)
{
    arena_free(&pickle->arena);
    pickle->root = NULL;
}
