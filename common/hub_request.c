/* Whole documents over hub_http: the request that is repeated until it succeeds or is given up. */
#include "hub_http.h"
#include "hub_signal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool hub_is_transient(long status)
{
    return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

double hub_backoff(unsigned failures, double retry_after)
{
    double seconds = 0.5 * (double)(1u << (failures < 5 ? failures : 5));
    if (retry_after >= 0)
        return retry_after > 300 ? 300 : retry_after;
    return seconds * (0.75 + 0.5 * (double)random() / (double)RAND_MAX);
}

bool hub_transfer_fail(const struct hub_transfer *t, const char *what, struct error *err)
{
    size_t host = strstr(t->url, "://") ? (size_t)(strstr(t->url, "://") - t->url) + 3 : 0;
    int n = (int)(host + strcspn(t->url + host, "/?#")); /* the rest may be a signed address */
    if (hub_interrupted())
        return fail(err, "interrupted");
    if (t->outcome == HUB_STATUS)
        return fail(err, "%s: %.*s answered with status %ld%s%s; try again later", what, n, t->url,
                    t->response.status, t->response.error_message[0] ? ": " : "", t->response.error_message);
    return fail(err, "%s: %.*s: %s; check the network, or set HF_HUB_OFFLINE=1 to use what the cache has",
                what, n, t->url, t->problem);
}

struct document {
    struct strbuf *body;
    size_t limit;
};

static bool collect(struct hub_transfer *t, const char *data, size_t length)
{
    struct document *document = t->owner;
    if (length > document->limit - document->body->length)
        return false;
    strbuf_add(document->body, data, length);
    return true;
}

bool hub_http_get(struct hub_http *http, const char *url, size_t limit, struct strbuf *body,
                  struct hub_transfer *t, struct error *err)
{
    const struct hub_settings *settings = hub_http_settings(http);
    struct document document = {body, limit};
    for (unsigned failures = 0;; failures++) {
        strbuf_reset(body);
        *t = (struct hub_transfer){.owner = &document, .on_body = collect};
        hub_http_start(http, t, url, settings->etag_timeout);
        while (!hub_interrupted() && hub_http_wait(http, 1000) != t)
            ;
        bool again =
            t->outcome == HUB_DROPPED || (t->outcome == HUB_STATUS && hub_is_transient(t->response.status));
        if (hub_interrupted() || !again || failures == settings->retries)
            break;
        double seconds = hub_backoff(failures, t->response.retry_after);
        hub_transfer_clear(t);
        hub_pause(seconds);
    }
    if (!hub_interrupted() && t->outcome == HUB_STOPPED)
        return fail(err, "the server's answer is larger than %zu bytes; it is not what was asked for", limit);
    if (hub_interrupted() || (t->outcome != HUB_COMPLETE && t->outcome != HUB_STATUS))
        return hub_transfer_fail(t, "cannot ask the Hub", err);
    return true;
}
