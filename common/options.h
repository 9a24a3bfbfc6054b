/* Command lines, from a table.
 *
 * A program describes itself once, in a struct program with a table of options; parsing, --help, --version
 * and the messages for wrong usage (exit status 2) all come from that table. Long options take their value as
 * `--name value` or `--name=value`. Flags are --name, and take an optional =true/false (any case, 1/0,
 * yes/no), so that a recipe can pass a variable. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum option_kind {
    OPTION_FLAG,   /* value is a bool *  */
    OPTION_NUMBER, /* value is a uint64_t *; at least 1 unless zero_allowed */
    OPTION_STRING, /* value is a const char **, pointing into argv */
    OPTION_CHOICE, /* value is an int *: the index in choices */
    OPTION_LIST,   /* value is a struct option_list *: may be given more than once */
    OPTION_HEADING /* not an option: a line in --help; only help is set */
};

struct option_list {
    const char **items; /* pointing into argv */
    unsigned n;
};

struct option_spec {
    const char *name;
    char letter; /* short form, or 0 */
    enum option_kind kind;
    void *value;
    const char *argument; /* how --help shows the value, e.g. "N" */
    const char *help;     /* one sentence without a full stop; \n begins a new line */
    const char *const *choices;
    bool *given; /* set when the option stands on the command line; may be NULL */
    bool zero_allowed;
};

struct program {
    const char *summary;                     /* what it does: "NAME - summary" of the man page */
    const char *synopsis;                    /* what follows the program's name in the usage line */
    const struct option_spec *const *tables; /* NULL-ended list of tables, each ended by {0} */
    const char *examples;                    /* shown at the end of --help */
};

/* Returns the index of the first operand in argv. Operands and options may be mixed; "--" ends options.
 * --help and --version print and exit 0. */
int options_parse(const struct program *program, int argc, char **argv);

/* "die with usage status": one line that ends in a hint to --help. */
_Noreturn void usage_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The text as a boolean: true/false, yes/no, on/off in any case, 1/0. False when it is none of those. */
bool parse_bool(const char *text, bool *value);

#endif
