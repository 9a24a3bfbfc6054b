#include "hub_token.h"

#include "hub_signal.h"
#include "memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

enum { MAX_TOKEN = 4096 };

/* Takes text as the token. White space around it is dropped; anything else that could not stand in a header
 * line is refused, and not shown. */
static bool set_token(struct hub_settings *settings, const char *text, const char *source, struct error *err)
{
    static const char space[] = " \t\r\n";
    text += strspn(text, space);
    size_t n = strlen(text);
    while (n > 0 && strchr(space, text[n - 1]))
        n--;
    if (n == 0)
        return true;
    for (size_t i = 0; i < n; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return fail(err, "the token from %s has characters that no token has; copy it again", source);
    free(settings->token);
    settings->token = xstrndup(text, n);
    return true;
}

static bool read_token_file(struct hub_settings *settings, struct error *err)
{
    char text[MAX_TOKEN];
    FILE *file = fopen(settings->token_path, "re");
    if (!file && (errno == ENOENT || errno == ENOTDIR))
        return true;
    if (!file)
        return fail_errno(err, "%s: cannot read the token", settings->token_path);
    size_t n = fread(text, 1, sizeof text - 1, file);
    bool ok = !ferror(file);
    if (!ok)
        fail_errno(err, "%s: cannot read the token", settings->token_path);
    fclose(file);
    text[n] = '\0';
    ok = ok && set_token(settings, text, settings->token_path, err);
    explicit_bzero(text, sizeof text);
    return ok;
}

bool hub_token_find(struct hub_settings *settings, char *option, struct error *err)
{
    if (option) {
        bool ok = set_token(settings, option, "--token", err);
        explicit_bzero(option, strlen(option));
        return ok;
    }
    const char *variable = getenv("HF_TOKEN");
    if (variable && !set_token(settings, variable, "HF_TOKEN", err))
        return false;
    return settings->token || read_token_file(settings, err);
}

bool hub_token_can_ask(void)
{
    return isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
}

/* Reads a line from the terminal; false at its end or on a signal. */
static bool read_line(char *line, size_t size)
{
    size_t n = 0;
    bool ended = false;
    for (char c; !ended && !hub_interrupted() && read(STDIN_FILENO, &c, 1) == 1;) {
        ended = c == '\n';
        if (!ended && n + 1 < size)
            line[n++] = c;
    }
    line[n] = '\0';
    return ended && !hub_interrupted();
}

bool hub_token_ask(struct hub_settings *settings, struct error *err)
{
    char line[MAX_TOKEN];
    struct termios shown, hidden;
    if (tcgetattr(STDIN_FILENO, &shown) != 0)
        return fail_errno(err, "cannot ask for a token");
    hidden = shown;
    hidden.c_lflag &= ~(tcflag_t)ECHO;
    if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden) !=
        0) /* before the prompt: what is typed after that counts */
        return fail_errno(err, "cannot ask for a token");
    fprintf(stderr, "Token for %s (not shown; Enter for none): ", settings->endpoint);
    bool ok = read_line(line, sizeof line);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
    fputc('\n', stderr);
    ok = ok ? set_token(settings, line, "the terminal", err) : fail(err, "no token was given");
    explicit_bzero(line, sizeof line);
    if (ok && !settings->token)
        return fail(err, "no token was given");
    return ok;
}

void hub_token_redact(const struct hub_settings *settings, char *text)
{
    if (!settings->token)
        return;
    size_t n = strlen(settings->token);
    for (char *at = text; (at = strstr(at, settings->token)); at += n)
        memset(at, '*', n);
}
