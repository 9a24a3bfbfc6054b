/* HTTP transfers, several at once, on libcurl's multi interface.
 *
 * Redirects are followed here and not by libcurl, so that one rule decides where the token goes: only to the
 * endpoint's own scheme, host and port. An https endpoint is never left for http. All functions are for one
 * thread. */
#ifndef HUB_HTTP_H
#define HUB_HTTP_H

#include "hub_settings.h"
#include "memory.h"

enum { HUB_MAX_CONNECTIONS = 64 };

/* What the header lines of the last answer said. Texts are "" when the line was missing. */
struct hub_response {
    long status;
    char error_code[64];     /* X-Error-Code, e.g. "GatedRepo" */
    char error_message[512]; /* X-Error-Message */
    char *next;              /* address in Link rel="next", or NULL; owned by the transfer */
    double retry_after;      /* seconds, or -1 */
    bool has_length, has_range;
    uint64_t length;                  /* Content-Length */
    uint64_t range_first, range_size; /* Content-Range: first byte, size of the whole file */
};

enum hub_outcome {
    HUB_COMPLETE,  /* status 2xx, and the whole body went to the callback */
    HUB_STATUS,    /* any other status; the body was dropped */
    HUB_STOPPED,   /* the callback returned false */
    HUB_DROPPED,   /* no connection, lost connection, time-out: worth another try */
    HUB_IMPOSSIBLE /* e.g. a bad certificate: not worth another try */
};

/* One request. The caller zero-initialises it, fills the first four members and keeps it until
 * hub_http_wait() has returned it; then hub_transfer_clear(). */
struct hub_transfer {
    void *owner;
    bool (*on_body)(struct hub_transfer *transfer, const char *data, size_t length);
    bool ranged; /* ask for bytes first..last only */
    uint64_t first, last;

    struct hub_response response;
    enum hub_outcome outcome;
    char problem[512]; /* of HUB_DROPPED and HUB_IMPOSSIBLE */
    char *url;         /* where the answer came from, after redirects */
    bool redirected;   /* url is not at the endpoint */

    struct hub_http *http;
    void *easy;
    long timeout;
    int64_t received; /* bytes, when on_tick() last looked */
    double last_byte; /* hub_now() time */
    unsigned redirects;
};

struct hub_http;

struct hub_http *hub_http_open(const struct hub_settings *settings, struct error *err);
void hub_http_close(struct hub_http *http);

const struct hub_settings *hub_http_settings(const struct hub_http *http);

/* Begins to use settings->token after it has changed. No transfer may be running. */
void hub_http_use_token(struct hub_http *http);

/* timeout: seconds without a byte, after which the transfer counts as dropped. */
void hub_http_start(struct hub_http *http, struct hub_transfer *transfer, const char *url, long timeout);
void hub_transfer_clear(struct hub_transfer *transfer);

/* The next transfer that has ended, or NULL after the time or after hub_wake(). */
struct hub_transfer *hub_http_wait(struct hub_http *http, int milliseconds);

/* Whether a request that got this status may succeed later. */
bool hub_is_transient(long status);

/* How long to wait before try number `failures` + 1, in seconds. retry_after is the server's wish, or -1. */
double hub_backoff(unsigned failures, double retry_after);

/* Fetches a document of at most limit bytes, repeating what is worth repeating. True when the server
 * answered, with whatever status; the response is in *transfer, which the caller clears. */
bool hub_http_get(struct hub_http *http, const char *url, size_t limit, struct strbuf *body,
                  struct hub_transfer *transfer, struct error *err);

/* Fills *err with the reason that a transfer that is not HUB_COMPLETE ended, and returns false. */
bool hub_transfer_fail(const struct hub_transfer *transfer, const char *what, struct error *err);

/* Whether a request failed in a way that a token may cure, and none was sent. */
bool hub_http_wants_token(const struct hub_http *http);

/* hub_headers.c: takes one header line (without its line end) into the response. base: the address that
 * a relative address in it refers to. */
void hub_response_header(struct hub_response *response, const char *line, size_t length, const char *base);

#endif
