/* hf-fetch: downloads what a conversion needs of a model from the Hugging Face Hub, and prints the directory
 * it is in. */
#include "fail.h"
#include "hub_api.h"
#include "hub_download.h"
#include "hub_select.h"
#include "hub_signal.h"
#include "hub_store.h"
#include "hub_token.h"
#include "options.h"
#include "progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *revision = "main", *local_dir, *cache_dir, *endpoint, *token_option;
static uint64_t connections = 8, retries = 5;
static struct hub_selection selection;
static bool dry_run;

static const struct option_spec options[] = {
    {.name = "revision",
     .letter = 'r',
     .kind = OPTION_STRING,
     .value = &revision,
     .argument = "NAME",
     .help = "branch, tag or commit (default: main)"},
    {.name = "include",
     .kind = OPTION_LIST,
     .value = &selection.include,
     .argument = "GLOB",
     .help = "files to fetch instead of configuration, tokenizer and weights;\nmay be repeated, '*' also "
             "matches '/'"},
    {.name = "exclude",
     .kind = OPTION_LIST,
     .value = &selection.exclude,
     .argument = "GLOB",
     .help = "files not to fetch; may be repeated"},
    {.name = "all", .letter = 'a', .kind = OPTION_FLAG, .value = &selection.all, .help = "fetch all files"},
    {.name = "local-dir",
     .kind = OPTION_STRING,
     .value = &local_dir,
     .argument = "DIR",
     .help = "put plain files there instead of into the Hub cache"},
    {.name = "cache-dir",
     .kind = OPTION_STRING,
     .value = &cache_dir,
     .argument = "DIR",
     .help = "the Hub cache (default: $HF_HUB_CACHE, or $HF_HOME/hub,\nor ~/.cache/huggingface/hub)"},
    {.name = "token",
     .kind = OPTION_STRING,
     .value = &token_option,
     .argument = "TOKEN",
     .help = "access token; better in HF_TOKEN, which other users cannot see"},
    {.name = "endpoint",
     .kind = OPTION_STRING,
     .value = &endpoint,
     .argument = "URL",
     .help = "the Hub (default: $HF_ENDPOINT, or https://huggingface.co)"},
    {.name = "jobs",
     .letter = 'j',
     .kind = OPTION_NUMBER,
     .value = &connections,
     .argument = "N",
     .help = "connections at once, for several files and several ranges of\na large file (default: 8, at "
             "most 64)"},
    {.name = "retries",
     .kind = OPTION_NUMBER,
     .value = &retries,
     .argument = "N",
     .zero_allowed = true,
     .help = "how often to try again what failed without any progress\n(default: 5)"},
    {.name = "dry-run",
     .letter = 'n',
     .kind = OPTION_FLAG,
     .value = &dry_run,
     .help = "print size, state and name of each file; fetch nothing"},
    {0},
};

static const struct option_spec *const tables[] = {options, progress_options, NULL};

static const struct program program = {
    .summary = "Downloads a model from the Hugging Face Hub and prints the directory it is in",
    .synopsis = "[options] ORG/NAME",
    .tables = tables,
    .examples = "  ckpt-unpack \"$(hf-fetch meta-llama/Llama-2-7b-hf)\" | ckpt-ls\n"
                "  hf-fetch --local-dir llama --exclude '*.json' meta-llama/Llama-2-7b-hf\n"
                "  HF_HUB_OFFLINE=1 hf-fetch meta-llama/Llama-2-7b-hf\n",
};

static struct hub_settings settings;

/* Says what went wrong with the model, in one line and without the token; ends the program. */
static _Noreturn void give_up(const char *repo, const struct error *err)
{
    char text[sizeof err->message + 128];
    snprintf(text, sizeof text, "%s: %s", repo, err->message);
    hub_token_redact(&settings, text);
    if (!hub_interrupted())
        die(EXIT_DATA, "%s", text);
    fail_run_cleanups();
    fprintf(stderr, "%s: %s\n", fail_program(), text);
    hub_die_of_signal();
}

static void print_plan(const struct hub_plan *plan, const struct hub_need *need)
{
    for (size_t i = 0; i < plan->n; i++)
        printf("%llu\t%s\t%s\n", (unsigned long long)plan->files[i].size,
               need->is_missing[i] ? "missing" : "present", plan->files[i].path);
}

static bool fetch_files(const struct hub_plan *plan, struct error *err)
{
    struct hub_need need;
    if (!dry_run && !hub_store_make_directories(plan->store, err))
        return false;
    if (!hub_plan_measure(plan, &need, err))
        return false;
    bool ok = true;
    if (dry_run)
        print_plan(plan, &need);
    else if (need.missing > 0)
        ok = hub_plan_check_space(plan, &need, err) && hub_download(plan, &need, err);
    free(need.is_missing);
    return ok && (dry_run || hub_store_set_ref(plan->store, revision, err));
}

/* Asks the Hub what there is, and fetches what is missing. *directory is the caller's. */
static bool fetch(struct hub_http *http, const char *repo, char **directory, struct error *err)
{
    char commit[HUB_HEX_SIZE];
    struct hub_listing listing = {0};
    struct hub_store store = {0};
    size_t n;
    bool ok = hub_find_commit(http, repo, revision, commit, err) &&
              hub_list_files(http, repo, commit, &listing, err) && hub_select(&listing, &selection, &n, err);
    if (ok) {
        hub_store_open(&store, settings.cache, local_dir, repo, commit);
        store.look_only = dry_run;
        struct hub_plan plan = {.http = http,
                                .store = &store,
                                .repo = repo,
                                .files = listing.files,
                                .n = n,
                                .connections = (unsigned)connections,
                                .show_progress = !settings.no_progress};
        ok = fetch_files(&plan, err);
    }
    if (ok)
        *directory = xstrdup(store.files);
    hub_store_close(&store);
    hub_listing_free(&listing);
    return ok;
}

static void warn_of_plain_http(void)
{
    const char *url = settings.endpoint;
    if (settings.token && has_prefix(url, "http://") && !has_prefix(url, "http://127.") &&
        !has_prefix(url, "http://localhost") && !has_prefix(url, "http://[::1]"))
        warning("%s is not encrypted: anybody on the way can read the token", url);
}

/* Fetches with the token there is; asks for one only when the server wants one. */
static bool fetch_online(const char *repo, char **directory, struct error *err)
{
    if (!hub_token_find(&settings, (char *)token_option, err))
        return false;
    warn_of_plain_http();
    struct hub_http *http = hub_http_open(&settings, err);
    if (!http)
        return false;
    bool ok = fetch(http, repo, directory, err);
    if (!ok && !hub_interrupted() && hub_http_wants_token(http) && hub_token_can_ask()) {
        struct error unasked;
        fprintf(stderr, "%s: %s: %s\n", fail_program(), repo, err->message);
        if (hub_token_ask(&settings, &unasked)) {
            warn_of_plain_http();
            hub_http_use_token(http);
            ok = fetch(http, repo, directory, err);
        }
    }
    hub_http_close(http);
    return ok;
}

int main(int argc, char **argv)
{
    struct error error;
    char *directory = NULL;
    int first = options_parse(&program, argc, argv);
    if (first == argc)
        usage_error("which model? ORG/NAME is missing");
    if (argc - first > 1)
        usage_error("one model at a time, not also '%s'", argv[first + 1]);
    const char *repo = argv[first];
    if (!hub_repo_is_valid(repo))
        usage_error("'%s' is not the name of a model on the Hub, like meta-llama/Llama-2-7b-hf", repo);
    if (!hub_revision_is_valid(revision))
        usage_error("--revision takes a branch, tag or commit, not '%s'", revision);
    if (connections > HUB_MAX_CONNECTIONS)
        usage_error("--jobs takes a number up to %d, not %llu", HUB_MAX_CONNECTIONS,
                    (unsigned long long)connections);
    if (selection.all && selection.include.n > 0)
        usage_error("--all and --include exclude each other");
    if (local_dir && !*local_dir)
        usage_error("--local-dir needs a directory");
    if (!hub_settings_read(&settings, endpoint, cache_dir, &error))
        usage_error("%s", error.message);
    settings.retries = (unsigned)(retries > 1000 ? 1000 : retries);
    hub_catch_signals();
    if (settings.offline && dry_run)
        usage_error("--dry-run asks the Hub, which HF_HUB_OFFLINE forbids");
    bool need_weights = !selection.all && selection.include.n == 0;
    bool ok = settings.offline ? hub_store_find_offline(settings.cache, local_dir, repo, revision,
                                                        need_weights, &directory, &error)
                               : fetch_online(repo, &directory, &error);
    if (!ok)
        give_up(repo, &error);
    if (!dry_run)
        puts(directory);
    if (fflush(stdout) != 0 || ferror(stdout))
        die(EXIT_DATA, "cannot write to standard output");
    free(directory);
    free(selection.include.items);
    free(selection.exclude.items);
    hub_settings_free(&settings);
    return 0;
}
