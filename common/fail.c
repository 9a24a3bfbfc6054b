#include "fail.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *program = "ckpt-filters";
bool fail_quiet;
static void (*cleanups[8])(void);
static int n_cleanups;
static pthread_mutex_t end = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

void fail_set_program(const char *argv0)
{
    const char *slash = strrchr(argv0, '/');
    program = slash ? slash + 1 : argv0;
}

const char *fail_program(void)
{
    return program;
}

void make_printable(char *text)
{
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127)
            *c = '?';
}

static void print_line(const char *kind, char *text)
{
    make_printable(text);
    fprintf(stderr, "%s: %s%s\n", program, kind, text);
}

bool fail(struct error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    return false;
}

bool fail_errno(struct error *err, const char *format, ...)
{
    const char *reason = strerror(errno);
    va_list args;
    va_start(args, format);
    int used = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    if (used >= 0 && (size_t)used < sizeof err->message)
        snprintf(err->message + used, sizeof err->message - (size_t)used, ": %s", reason);
    return false;
}

void fail_cleanup(void (*cleanup)(void))
{
    if (n_cleanups == (int)(sizeof cleanups / sizeof *cleanups))
        abort();
    cleanups[n_cleanups++] = cleanup;
}

void fail_run_cleanups(void)
{
    while (n_cleanups > 0)
        cleanups[--n_cleanups]();
}

void fail_hold(void)
{
    pthread_mutex_lock(&end);
}

void fail_release(void)
{
    pthread_mutex_unlock(&end);
}

static _Noreturn void finish(int status)
{
    fail_run_cleanups();
    fflush(stderr);
    _exit(status);
}

_Noreturn void die_silently(int status)
{
    fail_hold();
    finish(status);
}

_Noreturn void die(int status, const char *format, ...)
{
    char text[2300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fail_hold();
    signal(SIGPIPE, SIG_IGN); /* nobody may be reading the message, or the stream that ends now */
    print_line("", text);
    finish(status);
}

_Noreturn void die_error(const struct error *err)
{
    die(EXIT_DATA, "%s", err->message);
}

void warning(const char *format, ...)
{
    char text[2300];
    if (fail_quiet)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    print_line("warning: ", text);
}
