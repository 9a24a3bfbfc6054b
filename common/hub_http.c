#include "hub_http.h"

#include "hub_signal.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef VERSION
#define VERSION "unknown"
#endif

enum { MAX_REDIRECTS = 10 };

struct hub_http {
    const struct hub_settings *settings;
    CURLM *multi;
    char *origin; /* of the endpoint: scheme://host:port */
    struct curl_slist *with_token, *without_token;
    CURL *idle[HUB_MAX_CONNECTIONS];
    unsigned n_idle;
    bool answered; /* some server has answered in this run */
    bool wants_token;
};

/* "scheme://host:port" of an address, or NULL when it is not one. The caller frees it. */
static char *origin_of(const char *url)
{
    char *scheme = NULL, *host = NULL, *port = NULL, *origin = NULL;
    CURLU *parsed = curl_url();
    if (parsed && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
        curl_url_get(parsed, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
        curl_url_get(parsed, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK) {
        for (char *c = host; *c; c++)
            if (*c >= 'A' && *c <= 'Z')
                *c = (char)(*c - 'A' + 'a');
        origin = xasprintf("%s://%s:%s", scheme, host, port);
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(parsed);
    return origin;
}

static struct curl_slist *append(struct curl_slist *list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(list, line);
    if (!longer)
        die(EXIT_DATA, "out of memory");
    return longer;
}

void hub_http_use_token(struct hub_http *http)
{
    curl_slist_free_all(http->with_token);
    curl_slist_free_all(http->without_token);
    http->without_token = append(NULL, "Accept-Encoding: identity");
    http->with_token = append(NULL, "Accept-Encoding: identity");
    if (http->settings->token) {
        char *line = xasprintf("Authorization: Bearer %s", http->settings->token);
        http->with_token = append(http->with_token, line);
        explicit_bzero(line, strlen(line));
        free(line);
    }
    http->wants_token = false;
}

struct hub_http *hub_http_open(const struct hub_settings *settings, struct error *err)
{
    char *origin = origin_of(settings->endpoint);
    if (!origin) {
        fail(err, "endpoint '%s': it must look like https://huggingface.co", settings->endpoint);
        return NULL;
    }
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        die(EXIT_DATA, "cannot initialise libcurl");
    struct hub_http *http = xcalloc(1, sizeof *http);
    http->settings = settings;
    http->origin = origin;
    http->multi = curl_multi_init();
    if (!http->multi)
        die(EXIT_DATA, "out of memory");
    hub_http_use_token(http);
    return http;
}

void hub_http_close(struct hub_http *http)
{
    if (!http)
        return;
    while (http->n_idle > 0)
        curl_easy_cleanup(http->idle[--http->n_idle]);
    curl_multi_cleanup(http->multi);
    curl_slist_free_all(http->with_token);
    curl_slist_free_all(http->without_token);
    free(http->origin);
    free(http);
    curl_global_cleanup();
}

static size_t on_header(char *line, size_t size, size_t count, void *context)
{
    struct hub_transfer *t = context;
    if (has_prefix(line, "HTTP/")) { /* the first line; there are several after a "100 Continue" */
        free(t->response.next);
        t->response = (struct hub_response){.retry_after = -1};
    } else {
        hub_response_header(&t->response, line, size * count, t->url);
    }
    return size * count;
}

static size_t on_data(char *data, size_t size, size_t count, void *context)
{
    struct hub_transfer *t = context;
    if (t->response.status == 0)
        curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &t->response.status);
    if (t->response.status < 200 || t->response.status > 299)
        return size * count;
    return t->on_body(t, data, size * count) ? size * count : CURL_WRITEFUNC_ERROR;
}

/* libcurl calls this about once a second. Its own low-speed limit averages over several seconds and would
 * notice a stalled server that much later. */
static int on_tick(void *context, curl_off_t total, curl_off_t received, curl_off_t to_send, curl_off_t sent)
{
    struct hub_transfer *t = context;
    (void)total;
    (void)to_send;
    (void)sent;
    if (received != t->received || t->last_byte == 0) {
        t->received = received;
        t->last_byte = hub_now();
    }
    return hub_now() - t->last_byte > (double)t->timeout;
}

static void set_options(struct hub_http *http, struct hub_transfer *t)
{
    CURL *easy = t->easy;
    const struct hub_settings *settings = http->settings;
    curl_easy_reset(easy);
    curl_easy_setopt(easy, CURLOPT_URL, t->url);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, t->redirected ? http->without_token : http->with_token);
    /* A proxy gets its own headers, not these. */
    curl_easy_setopt(easy, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR,
                     has_prefix(http->origin, "https:") ? "https" : "http,https");
    /* HTTP/2 would put all ranges on one connection, which is what several ranges are meant to avoid. */
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    if (settings->ca_file)
        curl_easy_setopt(easy, CURLOPT_CAINFO, settings->ca_file);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "hf-fetch/" VERSION);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 512L * 1024);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, t->timeout);
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_tick);
    curl_easy_setopt(easy, CURLOPT_XFERINFODATA, t);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->problem);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
    if (t->ranged) {
        char range[48];
        snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)t->first, (unsigned long long)t->last);
        curl_easy_setopt(easy, CURLOPT_RANGE, range);
    }
}

/* Sends the request for t->url. */
static void send_request(struct hub_transfer *t)
{
    struct hub_http *http = t->http;
    char *origin = origin_of(t->url);
    t->redirected = !origin || strcmp(origin, http->origin) != 0;
    free(origin);
    free(t->response.next);
    t->response = (struct hub_response){.retry_after = -1};
    t->problem[0] = '\0';
    t->received = 0;
    t->last_byte = 0;
    set_options(http, t);
    if (curl_multi_add_handle(http->multi, t->easy) != CURLM_OK)
        die(EXIT_DATA, "out of memory");
}

void hub_http_start(struct hub_http *http, struct hub_transfer *t, const char *url, long timeout)
{
    t->http = http;
    t->easy = http->n_idle > 0 ? http->idle[--http->n_idle] : curl_easy_init();
    if (!t->easy)
        die(EXIT_DATA, "out of memory");
    free(t->url);
    t->url = xstrdup(url);
    t->timeout = timeout;
    t->redirects = 0;
    send_request(t);
}

static void release_handle(struct hub_transfer *t)
{
    struct hub_http *http = t->http;
    if (!t->easy)
        return;
    curl_multi_remove_handle(http->multi, t->easy);
    curl_easy_reset(t->easy);
    if (http->n_idle < HUB_MAX_CONNECTIONS)
        http->idle[http->n_idle++] = t->easy;
    else
        curl_easy_cleanup(t->easy);
    t->easy = NULL;
}

void hub_transfer_clear(struct hub_transfer *t)
{
    release_handle(t);
    free(t->response.next);
    free(t->url);
    *t = (struct hub_transfer){0};
}

/* Goes on to where the answer points. False when this is the last answer. */
static bool follow_redirect(struct hub_transfer *t)
{
    const char *location = NULL;
    long status = t->response.status;
    if (status != 301 && status != 302 && status != 303 && status != 307 && status != 308)
        return false;
    if (curl_easy_getinfo(t->easy, CURLINFO_REDIRECT_URL, &location) != CURLE_OK || !location ||
        ++t->redirects > MAX_REDIRECTS)
        return false;
    char *url = xstrdup(location);
    curl_multi_remove_handle(t->http->multi, t->easy);
    free(t->url);
    t->url = url;
    send_request(t);
    return true;
}

static enum hub_outcome failure_outcome(const struct hub_http *http, CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
        /* Without any answer so far there is probably no network: say so at once. */
        return http->answered ? HUB_DROPPED : HUB_IMPOSSIBLE;
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_ABORTED_BY_CALLBACK:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
        return HUB_DROPPED;
    default:
        return HUB_IMPOSSIBLE;
    }
}

/* True when the transfer has ended; false when it goes on at another address. */
static bool ended(struct hub_transfer *t, CURLcode code)
{
    struct hub_http *http = t->http;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &t->response.status);
    if (t->response.status)
        http->answered = true;
    if (code == CURLE_WRITE_ERROR) {
        t->outcome = HUB_STOPPED;
    } else if (code != CURLE_OK) {
        t->outcome = failure_outcome(http, code);
        if (code == CURLE_ABORTED_BY_CALLBACK)
            snprintf(t->problem, sizeof t->problem, "no data for %ld s", t->timeout);
        else if (!t->problem[0])
            snprintf(t->problem, sizeof t->problem, "%s", curl_easy_strerror(code));
    } else if (follow_redirect(t)) {
        return false;
    } else {
        long status = t->response.status;
        t->outcome = status >= 200 && status <= 299 ? HUB_COMPLETE : HUB_STATUS;
        if ((status == 401 || status == 403) && !http->settings->token && !t->redirected)
            http->wants_token = true;
    }
    release_handle(t);
    return true;
}

struct hub_transfer *hub_http_wait(struct hub_http *http, int milliseconds)
{
    for (int round = 0; round < 2; round++) {
        int running, left;
        curl_multi_perform(http->multi, &running);
        for (CURLMsg *message; (message = curl_multi_info_read(http->multi, &left));) {
            void *transfer;
            if (message->msg != CURLMSG_DONE)
                continue;
            CURLcode code = message->data.result;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
            if (ended(transfer, code))
                return transfer;
        }
        if (round == 0) {
            struct curl_waitfd wake = {.fd = hub_wake_fd(), .events = CURL_WAIT_POLLIN};
            curl_multi_poll(http->multi, &wake, 1, milliseconds, NULL);
            hub_wake_reset();
        }
    }
    return NULL;
}

bool hub_http_wants_token(const struct hub_http *http)
{
    return http->wants_token;
}

const struct hub_settings *hub_http_settings(const struct hub_http *http)
{
    return http->settings;
}
