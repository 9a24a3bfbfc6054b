/* Failing, in one way.
 *
 * Library functions return false and fill a struct error; programs turn that into one line on standard
 * error with die_error(), or fail by themselves with die(). The line is "program: what is wrong, with the
 * value, and what to do"; control characters in it (file and tensor names come from strangers) are shown
 * as '?'. Exit status: EXIT_DATA for data and system errors, EXIT_USAGE for wrong command lines. */
#ifndef FAIL_H
#define FAIL_H

#include <stdbool.h>

enum { EXIT_DATA = 1, EXIT_USAGE = 2 };

struct error {
    char message[2048];
};

/* Sets the name that messages begin with (argv[0] without its directories). */
void fail_set_program(const char *argv0);
const char *fail_program(void);

/* Replaces control characters by '?': names come from strangers, and would move a terminal's cursor. */
void make_printable(char *text);

/* Fills *err and returns false, so that a library function can `return fail(err, "…", …)`. */
bool fail(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As fail(), with ": " and the text of the errno value at the time of the call appended. */
bool fail_errno(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints one line, runs the functions given to fail_cleanup(), and exits with status. */
_Noreturn void die(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
_Noreturn void die_error(const struct error *err);

/* Exits as die() does but prints nothing: whoever caused the failure has already said why. */
_Noreturn void die_silently(int status);

void warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Whether warnings are suppressed: the option --quiet. */
extern bool fail_quiet;

/* Registers a function to run (last registered first) when the program fails. At most 8. */
void fail_cleanup(void (*cleanup)(void));

/* Runs what fail_cleanup() registered, once. The caller holds the end of the program: */
void fail_run_cleanups(void);

/* The first thread that fails ends the program, and all others wait for that. A thread that holds the end
 * does what must not be interrupted by it; a signal ends the program only when nobody holds it. Holds may be
 * nested. */
void fail_hold(void);
void fail_release(void);

#endif
