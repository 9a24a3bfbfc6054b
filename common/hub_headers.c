#include "hub_http.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

/* Copies a header's value, cut to what fits. */
static void copy_text(char *to, size_t size, const char *value)
{
    snprintf(to, size, "%s", value);
}

/* "bytes FIRST-LAST/SIZE" (RFC 9110, 14.4). */
static void read_content_range(struct hub_response *r, const char *value)
{
    unsigned long long first, last, size;
    int end = 0;
    if (strchr(value, '-') && !strstr(value, "--") &&
        sscanf(value, "bytes %20llu-%20llu/%20llu%n", &first, &last, &size, &end) == 3 && !value[end]) {
        r->has_range = true;
        r->range_first = first;
        r->range_size = size;
    }
}

/* Seconds, or a date (RFC 9110, 10.2.3). */
static double read_retry_after(const char *value)
{
    uint64_t seconds;
    if (parse_u64(value, &seconds))
        return seconds > 3600 ? 3600 : (double)seconds;
    time_t date = curl_getdate(value, NULL);
    if (date < 0)
        return -1;
    double left = difftime(date, time(NULL));
    return left < 0 ? 0 : left;
}

static char *absolute_url(const char *base, const char *url)
{
    char *text = NULL, *copy = NULL;
    CURLU *parsed = curl_url();
    if (parsed && curl_url_set(parsed, CURLUPART_URL, base, 0) == CURLUE_OK &&
        curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parsed, CURLUPART_URL, &text, 0) == CURLUE_OK)
        copy = xstrdup(text);
    curl_free(text);
    curl_url_cleanup(parsed);
    return copy;
}

/* `<address>; rel="next"`, several of which may stand in one line, separated by commas (RFC 8288). */
static void read_link(struct hub_response *r, const char *value, const char *base)
{
    for (const char *open = strchr(value, '<'); open && !r->next; open = strchr(open + 1, '<')) {
        const char *close = strchr(open, '>');
        if (!close)
            return;
        size_t parameters = strcspn(close, "<");
        char *text = xstrndup(close, parameters);
        if (strcasestr(text, "rel=\"next\"") || strcasestr(text, "rel=next")) {
            char *url = xstrndup(open + 1, (size_t)(close - open - 1));
            r->next = absolute_url(base, url);
            free(url);
        }
        free(text);
    }
}

void hub_response_header(struct hub_response *r, const char *line, size_t length, const char *base)
{
    const char *colon = memchr(line, ':', length);
    if (!colon || length > 16384)
        return;
    char *name = xstrndup(line, (size_t)(colon - line));
    char *value = xstrndup(colon + 1, length - (size_t)(colon + 1 - line));
    char *text = value + strspn(value, " \t");
    for (size_t n = strlen(text); n > 0 && strchr(" \t\r\n", text[n - 1]); n--)
        text[n - 1] = '\0';
    if (strcasecmp(name, "x-error-code") == 0)
        copy_text(r->error_code, sizeof r->error_code, text);
    else if (strcasecmp(name, "x-error-message") == 0)
        copy_text(r->error_message, sizeof r->error_message, text);
    else if (strcasecmp(name, "content-length") == 0)
        r->has_length = parse_u64(text, &r->length);
    else if (strcasecmp(name, "content-range") == 0)
        read_content_range(r, text);
    else if (strcasecmp(name, "retry-after") == 0)
        r->retry_after = read_retry_after(text);
    else if (strcasecmp(name, "link") == 0)
        read_link(r, text, base);
    free(name);
    free(value);
}
