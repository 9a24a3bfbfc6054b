#include "hub_settings.h"

#include "memory.h"
#include "options.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* The variable, or NULL when it is unset or empty. */
static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static bool is_true(const char *name)
{
    const char *value = environment(name);
    bool truth;
    return value && parse_bool(value, &truth) && truth;
}

/* A path with "~" at its beginning replaced, as Python's os.path.expanduser does. */
static char *expand_home(const char *path)
{
    const char *home = environment("HOME");
    if (home && path[0] == '~' && (path[1] == '/' || path[1] == '\0'))
        return xasprintf("%s%s", home, path + 1);
    return xstrdup(path);
}

static char *hub_home(void)
{
    const char *path = environment("HF_HOME");
    if (path)
        return expand_home(path);
    path = environment("XDG_CACHE_HOME");
    char *cache = expand_home(path ? path : "~/.cache");
    char *home = xasprintf("%s/huggingface", cache);
    free(cache);
    return home;
}

static char *path_or(const char *path, const char *home, const char *name)
{
    return path ? expand_home(path) : xasprintf("%s/%s", home, name);
}

static bool read_timeout(const char *name, long *seconds, struct error *err)
{
    const char *text = environment(name);
    uint64_t value = 10; /* huggingface_hub's default for both */
    if (text && (!parse_u64(text, &value) || value == 0 || value > 24 * 3600))
        return fail(err, "%s is '%s': it must be a number of seconds, e.g. 10", name, text);
    *seconds = (long)value;
    return true;
}

static bool read_endpoint(struct hub_settings *s, const char *endpoint, struct error *err)
{
    const char *text = endpoint ? endpoint : environment("HF_ENDPOINT");
    if (!text)
        text = "https://huggingface.co";
    size_t n = strlen(text);
    while (n > 0 && text[n - 1] == '/')
        n--;
    s->endpoint = xstrndup(text, n);
    const char *host = has_prefix(s->endpoint, "https://")  ? s->endpoint + 8
                       : has_prefix(s->endpoint, "http://") ? s->endpoint + 7
                                                            : "";
    /* A name and password in the address would end up in messages. */
    if (!*host || *host == '/' || strpbrk(host, "@?# \t\r\n"))
        return fail(err, "endpoint '%.*s': it must look like https://huggingface.co",
                    (int)strcspn(s->endpoint, "@?#"), s->endpoint);
    return true;
}

bool hub_settings_read(struct hub_settings *s, const char *endpoint, const char *cache, struct error *err)
{
    *s = (struct hub_settings){.retries = 5};
    char *home = hub_home();
    s->cache = path_or(cache ? cache : environment("HF_HUB_CACHE"), home, "hub");
    s->token_path = path_or(environment("HF_TOKEN_PATH"), home, "token");
    free(home);
    /* libcurl itself reads neither; the curl program does, in this order. */
    const char *ca_file = environment("CURL_CA_BUNDLE");
    if (!ca_file)
        ca_file = environment("SSL_CERT_FILE");
    s->ca_file = ca_file ? xstrdup(ca_file) : NULL;
    s->offline = is_true("HF_HUB_OFFLINE");
    s->no_progress = is_true("HF_HUB_DISABLE_PROGRESS_BARS");
    if (read_endpoint(s, endpoint, err) && read_timeout("HF_HUB_ETAG_TIMEOUT", &s->etag_timeout, err) &&
        read_timeout("HF_HUB_DOWNLOAD_TIMEOUT", &s->download_timeout, err))
        return true;
    hub_settings_free(s);
    return false;
}

void hub_settings_free(struct hub_settings *s)
{
    if (s->token)
        explicit_bzero(s->token, strlen(s->token));
    free(s->endpoint);
    free(s->cache);
    free(s->token_path);
    free(s->token);
    free(s->ca_file);
    *s = (struct hub_settings){0};
}
