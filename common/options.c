#include "options.h"

#include "fail.h"
#include "memory.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#ifndef VERSION
#define VERSION "unknown"
#endif

enum { FIRST_LONG = 256, LONG_HELP = 254, LONG_VERSION = 255, HELP_COLUMN = 30 };

_Noreturn void usage_error(const char *format, ...)
{
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    die(EXIT_USAGE, "%s (see %s --help)", text, fail_program());
}

bool parse_bool(const char *text, bool *value)
{
    static const char *const names[] = {"false", "true", "no", "yes", "0", "1", "off", "on"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcasecmp(text, names[i]) == 0) {
            *value = i % 2 == 1;
            return true;
        }
    return false;
}

static void print_option(const char *left, const char *help)
{
    printf("  %-*s", HELP_COLUMN - 4, left);
    if (strlen(left) > HELP_COLUMN - 4)
        printf("\n%*s", HELP_COLUMN - 2, "");
    for (const char *line = help;;) {
        size_t n = strcspn(line, "\n");
        printf("  %.*s\n", (int)n, line);
        if (!line[n])
            break;
        line += n + 1;
        printf("%*s", HELP_COLUMN - 2, "");
    }
}

static void print_help(const struct program *program)
{
    printf("Usage: %s %s\n%s.\n\nOptions:\n", fail_program(), program->synopsis, program->summary);
    for (const struct option_spec *const *table = program->tables; *table; table++)
        for (const struct option_spec *o = *table; o->help; o++) {
            if (o->kind == OPTION_HEADING) {
                printf("\n%s:\n", o->help);
                continue;
            }
            struct strbuf left = {0};
            if (o->letter)
                strbuf_printf(&left, "-%c, ", o->letter);
            else
                strbuf_puts(&left, "    ");
            strbuf_printf(&left, "--%s%s%s", o->name, o->argument ? " " : "", o->argument ? o->argument : "");
            print_option(left.data, o->help);
            strbuf_free(&left);
        }
    print_option("-h, --help", "show this help and exit");
    print_option("    --version", "show the version and exit");
    if (program->examples)
        printf("\nExamples:\n%s", program->examples);
    printf("\nFull manual: man %s\n", fail_program());
}

static void set_flag(const struct option_spec *spec, const char *argument)
{
    bool *flag = spec->value;
    *flag = true;
    if (argument && !parse_bool(argument, flag))
        usage_error("--%s takes true or false, not '%s'", spec->name, argument);
}

static void set_choice(const struct option_spec *spec, const char *argument)
{
    struct strbuf known = {0};
    for (int i = 0; spec->choices[i]; i++) {
        if (strcmp(spec->choices[i], argument) == 0) {
            *(int *)spec->value = i;
            strbuf_free(&known);
            return;
        }
        strbuf_printf(&known, "%s%s", i ? ", " : "", spec->choices[i]);
    }
    usage_error("--%s takes one of %s, not '%s'", spec->name, known.data, argument);
}

static void set_option(const struct option_spec *spec, char *argument)
{
    if (spec->given)
        *spec->given = true;
    switch (spec->kind) {
    case OPTION_FLAG:
        set_flag(spec, argument);
        break;
    case OPTION_NUMBER:
        if (!parse_u64(argument, spec->value) || (*(uint64_t *)spec->value == 0 && !spec->zero_allowed))
            usage_error("--%s takes a whole number%s, not '%s'", spec->name,
                        spec->zero_allowed ? "" : " of at least 1", argument);
        break;
    case OPTION_STRING:
        *(const char **)spec->value = argument;
        break;
    case OPTION_CHOICE:
        set_choice(spec, argument);
        break;
    case OPTION_LIST: {
        struct option_list *list = spec->value;
        list->items = xrealloc(list->items, list->n + 1, sizeof *list->items);
        list->items[list->n++] = argument;
        break;
    }
    case OPTION_HEADING:
        break;
    }
}

static void bad_option(int code, char **argv)
{
    /* getopt says which letter is wrong, or has moved past the offending long option. */
    const char *word = argv[optind - 1];
    bool is_long = optopt == 0 || optopt >= LONG_HELP;
    if (code == ':' && is_long)
        usage_error("%s needs a value", word);
    else if (code == ':')
        usage_error("-%c needs a value", optopt);
    else if (is_long && optopt)
        usage_error("%s does not take a value", word);
    else if (is_long)
        usage_error("unknown or ambiguous option %s", word);
    usage_error("unknown option -%c", optopt);
}

int options_parse(const struct program *program, int argc, char **argv)
{
    const struct option_spec *spec[128];
    struct option longs[131];
    char letters[300] = ":h";
    int n = 0;
    fail_set_program(argv[0]);
    for (const struct option_spec *const *table = program->tables; *table; table++)
        for (const struct option_spec *o = *table; o->help; o++) {
            if (o->kind == OPTION_HEADING)
                continue;
            if (n == 128)
                abort();
            int has_value = o->kind == OPTION_FLAG ? optional_argument : required_argument;
            longs[n] = (struct option){o->name, has_value, NULL, FIRST_LONG + n};
            if (o->letter)
                snprintf(letters + strlen(letters), 3, "%c%s", o->letter, o->kind == OPTION_FLAG ? "" : ":");
            spec[n++] = o;
        }
    longs[n] = (struct option){"help", no_argument, NULL, LONG_HELP};
    longs[n + 1] = (struct option){"version", no_argument, NULL, LONG_VERSION};
    longs[n + 2] = (struct option){0};

    opterr = 0;
    for (int code; (code = getopt_long(argc, argv, letters, longs, NULL)) != -1;) {
        if (code == 'h' || code == LONG_HELP || code == LONG_VERSION) {
            if (code == LONG_VERSION)
                printf("%s (ckpt-filters) %s\n", fail_program(), VERSION);
            else
                print_help(program);
            if (fflush(stdout) != 0 || ferror(stdout))
                die(EXIT_DATA, "cannot write to standard output: %s", strerror(errno));
            exit(0);
        }
        if (code == '?' || code == ':')
            bad_option(code, argv);
        int index = code - FIRST_LONG;
        for (int i = 0; code < FIRST_LONG && i < n; i++)
            if (spec[i]->letter == code)
                index = i;
        set_option(spec[index], optarg);
    }
    return optind;
}
