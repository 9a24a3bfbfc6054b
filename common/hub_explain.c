#include "hub_api.h"

#include <stdlib.h>
#include <string.h>

/* The values of X-Error-Code that huggingface_hub's hf_raise_for_status knows, what they mean, and what to
 * do. %s in the advice is the model's page. */
static const struct {
    const char *code, *meaning, *advice;
} explanations[] = {
    {"GatedRepo", "access to this model is restricted",
     "ask for access at %s, then use a token of that account (HF_TOKEN)"},
    {"RepoNotFound", "there is no such model, or it is private",
     "check the name at %s, or give a token (HF_TOKEN)"},
    {"RevisionNotFound", "there is no such revision",
     "see the branches and tags at %s/tree/main, and --revision"},
    {"EntryNotFound", "there is no such file in this revision", "see the files at %s/tree/main"},
    {"DisabledRepo", "access to this model was disabled by the Hub", "see %s"},
};

static size_t find_explanation(const char *code)
{
    size_t n = sizeof explanations / sizeof *explanations, i = 0;
    while (i < n && strcmp(explanations[i].code, code) != 0)
        i++;
    return i;
}

/* The Hub answers 401 instead of 404 about a name it does not know, so that private models stay secret. */
static const char *error_code(const struct hub_http *http, const struct hub_response *response)
{
    bool token = hub_http_settings(http)->token != NULL;
    if (response->error_code[0])
        return response->error_code;
    if (response->status == 404 || (response->status == 401 && !token))
        return "RepoNotFound";
    return "";
}

bool hub_explain(const struct hub_http *http, const char *repo, const char *what,
                 const struct hub_transfer *transfer, struct error *err)
{
    const struct hub_response *response = &transfer->response;
    size_t i = find_explanation(error_code(http, response));
    const char *detail = response->error_message;
    char *page = xasprintf("%s/%s", hub_http_settings(http)->endpoint, repo);
    struct strbuf text = {0};
    if (i < sizeof explanations / sizeof *explanations) {
        strbuf_printf(&text, "%s: %s (%ld%s%s%s%s); ", what, explanations[i].meaning, response->status,
                      response->error_code[0] ? " " : "", response->error_code, detail[0] ? ": " : "",
                      detail);
        const char *advice = explanations[i].advice, *mark = strstr(advice, "%s");
        strbuf_printf(&text, "%.*s%s%s", (int)(mark - advice), advice, page, mark + 2);
    } else if (response->status == 401 || response->status == 403) {
        strbuf_printf(&text, "%s: the Hub refused %s (%ld%s%s); check HF_TOKEN or --token, and access at %s",
                      what, hub_http_settings(http)->token ? "this token" : "access without a token",
                      response->status, detail[0] ? ": " : "", detail, page);
    } else {
        hub_transfer_fail(transfer, what, err);
        goto out;
    }
    fail(err, "%s", text.data);
out:
    strbuf_free(&text);
    free(page);
    return false;
}
