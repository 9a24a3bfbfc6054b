#include "hub_api.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"

enum {
    MAX_INFO = 64 << 20, /* bytes of one answer; a page of the list has 1000 entries of some 300 bytes */
    MAX_FILES = 1000000,
    MAX_PAGES = 10000
};

static bool is_hex(const char *text, size_t length)
{
    return text && strlen(text) == length && strspn(text, "0123456789abcdef") == length;
}

bool hub_is_commit(const char *text)
{
    return is_hex(text, 40);
}

bool hub_repo_is_valid(const char *text)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
    size_t n = strlen(text);
    const char *slash = strchr(text, '/');
    if (n == 0 || n > 96 || strstr(text, "--") || strstr(text, "..") || has_suffix(text, ".git"))
        return false;
    for (const char *part = text; part; part = part == text && slash ? slash + 1 : NULL) {
        size_t length = strspn(part, letters);
        bool last = part != text || !slash;
        if (length == 0 || part[length] != (last ? '\0' : '/') || strchr("-.", part[0]) ||
            strchr("-.", part[length - 1]))
            return false;
    }
    return true;
}

/* Appends text with everything escaped that is not plain in a path; '/' only when keep_slashes is false. */
static void add_escaped(struct strbuf *url, const char *text, bool keep_slashes)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~";
    for (; *text; text++)
        if (strchr(plain, *text) || (keep_slashes && *text == '/'))
            strbuf_add(url, text, 1);
        else
            strbuf_printf(url, "%%%02X", (unsigned char)*text);
}

char *hub_file_url(const struct hub_http *http, const char *repo, const char *commit, const char *path)
{
    struct strbuf url = {0};
    strbuf_printf(&url, "%s/%s/resolve/%s/", hub_http_settings(http)->endpoint, repo, commit);
    add_escaped(&url, path, true);
    return strbuf_steal(&url);
}

/* Fetches a document of the API; what it is about is for messages. *next is the following page or NULL. */
static bool ask(struct hub_http *http, const char *repo, const char *what, const char *url,
                struct json_document *doc, char **next, struct error *err)
{
    struct strbuf body = {0};
    struct hub_transfer transfer;
    bool ok = hub_http_get(http, url, MAX_INFO, &body, &transfer, err);
    *next = NULL;
    if (ok && transfer.outcome != HUB_COMPLETE)
        ok = hub_explain(http, repo, what, &transfer, err);
    ok = ok && json_parse(doc, body.data ? body.data : "", body.length, "the Hub's answer", err);
    if (ok && transfer.response.next)
        *next = xstrdup(transfer.response.next);
    hub_transfer_clear(&transfer);
    strbuf_free(&body);
    return ok;
}

bool hub_find_commit(struct hub_http *http, const char *repo, const char *revision, char commit[HUB_HEX_SIZE],
                     struct error *err)
{
    struct strbuf url = {0};
    struct json_document doc;
    char *next;
    strbuf_printf(&url, "%s/api/models/%s/revision/", hub_http_settings(http)->endpoint, repo);
    add_escaped(&url, revision, false);
    char *what = xasprintf("revision %s", revision);
    bool ok = ask(http, repo, what, url.data, &doc, &next, err);
    if (ok) {
        const char *sha = json_string(json_get(doc.root, "sha"));
        if (hub_is_commit(sha))
            strcpy(commit, sha);
        else
            ok = fail(err, "the Hub's answer about %s names no commit; is %s a Hugging Face Hub?", what,
                      hub_http_settings(http)->endpoint);
        json_free(&doc);
    }
    free(next);
    free(what);
    strbuf_free(&url);
    return ok;
}

/* Takes an entry of the tree: {"type":"file","path":…,"size":…,"oid":git blob id,"lfs":{"oid":sha256,…}}. */
static bool add_file(struct hub_listing *listing, const struct json *entry, struct error *err)
{
    const char *type = json_string(json_get(entry, "type")), *path = json_string(json_get(entry, "path"));
    const struct json *lfs = json_get(entry, "lfs");
    bool large = json_is(lfs, JSON_OBJECT);
    const char *oid = json_string(json_get(large ? lfs : entry, "oid"));
    struct hub_file file = {.kind = large ? HUB_SHA256 : HUB_GIT_SHA1};
    if (type && strcmp(type, "file") != 0)
        return true;
    if (!type || !path || !json_u64(json_get(entry, "size"), &file.size) || file.size > INT64_MAX)
        return fail(err, "the Hub's list of files has an entry without path or size: '%s'",
                    path ? path : "?");
    if (!is_hex(oid, large ? 64 : 40))
        return fail(err, "the Hub's list gives '%s' as the digest of %s", oid ? oid : "nothing", path);
    if (listing->n == MAX_FILES)
        return fail(err, "the Hub lists more than %d files", MAX_FILES);
    strcpy(file.digest, oid);
    file.path = xstrdup(path);
    GROW(listing->files, listing->n, listing->capacity);
    listing->files[listing->n++] = file;
    return true;
}

bool hub_list_files(struct hub_http *http, const char *repo, const char *commit, struct hub_listing *listing,
                    struct error *err)
{
    *listing = (struct hub_listing){0};
    char *url = xasprintf("%s/api/models/%s/tree/%s?recursive=true&expand=false",
                          hub_http_settings(http)->endpoint, repo, commit);
    bool ok = true;
    for (unsigned pages = 0; ok && url; pages++) {
        struct json_document doc;
        char *next = NULL;
        if (pages == MAX_PAGES)
            ok = fail(err, "the Hub's list of files has more than %d pages", MAX_PAGES);
        ok = ok && ask(http, repo, "the list of files", url, &doc, &next, err);
        if (ok) {
            ok = json_is(doc.root, JSON_ARRAY) || fail(err, "the Hub's list of files is not a list");
            for (size_t i = 0; ok && i < doc.root->n; i++)
                ok = add_file(listing, doc.root->item[i], err);
            json_free(&doc);
        }
        free(url);
        url = next;
    }
    free(url);
    return ok;
}

void hub_listing_free(struct hub_listing *listing)
{
    for (size_t i = 0; i < listing->n; i++)
        free(listing->files[i].path);
    free(listing->files);
    *listing = (struct hub_listing){0};
}
