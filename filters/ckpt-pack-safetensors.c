/* ckpt-pack-safetensors: a whole model -> model.safetensors, or shards with an index, as Hugging Face's tools
 * expect them.
 *
 * The rule: tensors go into a file until it would exceed the shard size; files are numbered when their number
 * is known. */
#include "memory.h"
#include "naming.h"
#include "output.h"
#include "progress.h"
#include "safetensors_write.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *max_shard_size = "5GB";

static const struct option_spec options[] = {
    {.name = "max-shard-size",
     .letter = 's',
     .kind = OPTION_STRING,
     .value = &max_shard_size,
     .argument = "SIZE",
     .help =
         "largest file, as 5GB or 500MiB (default 5GB); a tensor\nlarger than that gets a file of its own"},
    {0},
};

static const struct program program = {
    .summary = "Write a whole model as safetensors, with an index when it takes several files",
    .synopsis = "[OPTION]... DIR <STREAM",
    .tables = (const struct option_spec *const[]){options, output_options, progress_options, NULL},
    .examples = "  ckpt-unpack pytorch_model.bin | ckpt-pack-safetensors hf/\n"
                "  ckpt-unpack nxdt/ | ckpt-split-qkv -c config.json | ckpt-merge --hw-backend trn1 |\n"
                "    ckpt-pack-safetensors --max-shard-size 10GB hf/\n",
};

struct packer {
    struct stream_info info;
    struct copy_plan *plan;
    const char *staging;
    uint64_t limit;
    struct safetensors_file **files;
    size_t n, capacity;
    uint64_t bytes;
    char embedding_digest[65]; /* of tied embeddings, to see whether lm_head is the same */
    struct record lm_head;     /* a tied one that came before the embedding and waits for it; or all 0 */
    struct materializer *materializer;
};

/* "5GB", "500MiB", "1000000". */
static uint64_t parse_size(const char *text)
{
    static const struct {
        const char *unit;
        uint64_t factor;
    } units[] = {{"", 1},          {"B", 1},         {"KB", 1000},    {"MB", 1000000}, {"GB", 1000000000},
                 {"KIB", 1 << 10}, {"MIB", 1 << 20}, {"GIB", 1 << 30}};
    char number[24] = "", unit[8] = "";
    uint64_t value;
    size_t digits = strspn(text, "0123456789");
    if (digits < sizeof number && strlen(text + digits) < sizeof unit) {
        memcpy(number, text, digits);
        for (size_t i = 0; text[digits + i]; i++)
            unit[i] = (char)toupper((unsigned char)text[digits + i]);
        for (size_t i = 0; i < sizeof units / sizeof *units; i++)
            if (strcmp(unit, units[i].unit) == 0 && parse_u64(number, &value) && value > 0 &&
                mul_u64(value, units[i].factor, &value))
                return value;
    }
    usage_error("--max-shard-size takes a size such as 5GB or 500MiB, not '%s'", text);
}

static struct safetensors_file *new_file(struct packer *p, bool as_they_come)
{
    char *path = xasprintf("%s/shard-%zu", p->staging, p->n);
    GROW(p->files, p->n, p->capacity);
    p->files[p->n] = safetensors_file_new(path, as_they_come);
    copy_add_file(p->plan, &p->files[p->n]->file);
    free(path);
    return p->files[p->n++];
}

/* Tied embeddings are in a safetensors file once. An lm_head that has become another tensor stays. */
static bool is_tied_copy(struct packer *p, const struct record *record)
{
    struct error err;
    char digest[65];
    bool embedding = strcmp(record->name, EMBEDDING_NAME) == 0;
    if (!p->info.config.tie_word_embeddings || (!embedding && strcmp(record->name, LM_HEAD_NAME) != 0))
        return false;
    if (!materialize_sha256(p->materializer, record->tensor, embedding ? p->embedding_digest : digest, &err))
        die_error(&err);
    if (embedding)
        return false;
    bool same = strcmp(digest, p->embedding_digest) == 0;
    if (!same && *p->embedding_digest)
        warning("%s: the config ties it to the embedding, but it differs; it is written", record->name);
    return same;
}

static void add(struct packer *p, const struct record *record)
{
    struct error err;
    bool in_memory = tensor_in_memory(record->tensor);
    uint64_t bytes = tensor_bytes(record->tensor);
    struct safetensors_file *file = p->n ? p->files[p->n - 1] : NULL;
    if (is_tied_copy(p, record))
        return;
    if (!file || (file->n > 0 && file->bytes + bytes > p->limit) || file->as_they_come != in_memory ||
        !safetensors_file_fits(file, record))
        file = new_file(p, in_memory);
    if (!safetensors_file_add(file, p->plan, record, &err))
        die_error(&err);
    p->bytes += bytes;
}

static void add_waiting(struct packer *p)
{
    if (p->lm_head.tensor) {
        add(p, &p->lm_head);
        record_free(&p->lm_head);
    }
}

/* A tied lm_head can be judged when the embedding is known. */
static void take(struct packer *p, const struct record *record)
{
    if (p->info.config.tie_word_embeddings && !*p->embedding_digest && !p->lm_head.tensor &&
        strcmp(record->name, LM_HEAD_NAME) == 0) {
        p->lm_head = (struct record){xstrdup(record->name), record->rank, tensor_keep(record->tensor)};
        return;
    }
    add(p, record);
    if (*p->embedding_digest)
        add_waiting(p);
}

struct located_name {
    const char *name;
    size_t file;
};

static int compare_places(const void *a, const void *b)
{
    return strcmp(((const struct located_name *)a)->name, ((const struct located_name *)b)->name);
}

/* All names in order; ends the program when one is there twice. */
static struct located_name *sorted_names(const struct packer *p, size_t *n)
{
    struct located_name *places = NULL;
    size_t capacity = 0;
    *n = 0;
    for (size_t f = 0; f < p->n; f++)
        for (size_t i = 0; i < p->files[f]->n; i++) {
            GROW(places, *n, capacity);
            places[(*n)++] = (struct located_name){p->files[f]->members[i].name, f};
        }
    if (*n)
        qsort(places, *n, sizeof *places, compare_places);
    for (size_t i = 1; i < *n; i++)
        if (strcmp(places[i - 1].name, places[i].name) == 0)
            die(EXIT_DATA, "%s: is in the stream twice; a model has a name once", places[i].name);
    return places;
}

static void shard_name(const struct packer *p, size_t i, char name[64])
{
    if (p->n == 1)
        strcpy(name, "model.safetensors");
    else
        snprintf(name, 64, "model-%05zu-of-%05zu.safetensors", i + 1, p->n);
}

static void write_index(const struct packer *p, const struct located_name *places, size_t n)
{
    struct strbuf json = {0};
    char name[64], *path = xasprintf("%s/model.safetensors.index.json", p->staging);
    strbuf_printf(&json, "{\n  \"metadata\": {\n    \"total_size\": %llu\n  },\n  \"weight_map\": {",
                  (unsigned long long)p->bytes);
    for (size_t i = 0; i < n; i++) {
        shard_name(p, places[i].file, name);
        strbuf_puts(&json, i ? ",\n    " : "\n    ");
        json_write_string(&json, places[i].name);
        strbuf_printf(&json, ": \"%s\"", name);
    }
    strbuf_puts(&json, "\n  }\n}\n");
    output_small_file(path, json.data);
    strbuf_free(&json);
    free(path);
}

struct entry_list {
    const char **items; /* NULL-ended */
    size_t n, capacity;
};

static void add_entry(struct entry_list *list, const char *name)
{
    GROW(list->items, list->n, list->capacity);
    list->items[list->n++] = name ? xstrdup(name) : NULL;
}

/* Weights of an earlier checkpoint in the target, which must not stay beside the new ones. */
static void add_old_weights(struct entry_list *list, const char *target)
{
    static const char *const patterns[] = {"model.safetensors", "model-*-of-*.safetensors",
                                           "model.safetensors.index.json"};
    DIR *dir = opendir(target);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
            if (fnmatch(patterns[i], entry->d_name, 0) == 0)
                add_entry(list, entry->d_name);
    if (dir)
        closedir(dir);
}

/* Gives the files their names, and says what appears in the target: the index comes last. */
static struct entry_list name_files(const struct packer *p, const char *target)
{
    struct entry_list list = {0};
    add_old_weights(&list, target);
    for (size_t i = 0; i < p->n; i++) {
        char name[64];
        shard_name(p, i, name);
        char *to = xasprintf("%s/%s", p->staging, name);
        if (rename(p->files[i]->path, to) != 0)
            die(EXIT_DATA, "%s: cannot rename: %s", to, strerror(errno));
        free(to);
        add_entry(&list, name);
    }
    add_entry(&list, "model.safetensors.index.json");
    add_entry(&list, NULL);
    return list;
}

int main(int argc, char **argv)
{
    struct packer p = {0};
    struct record record;
    struct error err;
    size_t n;
    const char *target = output_target(argc, argv, options_parse(&program, argc, argv));
    p.limit = parse_size(max_shard_size);
    struct stream_reader *in = stream_reader_open(STDIN_FILENO, &p.info);
    if (p.info.sharded)
        die(EXIT_DATA,
            "the stream is sharded; put ckpt-split-qkv and ckpt-merge before ckpt-pack-safetensors");
    p.staging = output_begin_directory(target, NULL);
    p.plan = copy_plan_new(output_jobs());
    p.materializer = materializer_new(2);
    while (stream_read(in, &record)) {
        take(&p, &record);
        record_free(&record);
    }
    add_waiting(&p);
    if (p.n == 0)
        die(EXIT_DATA, "the stream has no tensors");
    struct located_name *places = sorted_names(&p, &n);
    for (size_t i = 0; i < p.n; i++)
        safetensors_file_close(p.files[i], p.plan);
    output_need_space(copy_pending_bytes(p.plan), p.n + 1);
    progress_begin("copying", copy_pending_bytes(p.plan));
    copy_run(p.plan);
    if (!materializer_finish(p.materializer, &err))
        die_error(&err);
    if (p.n > 1)
        write_index(&p, places, n);
    struct entry_list entries = name_files(&p, target);
    output_set_entries(entries.items);
    output_publish();
    progress_end();

    for (size_t i = 0; i < entries.n; i++)
        free((char *)entries.items[i]);
    free(entries.items);
    free(places);
    for (size_t i = 0; i < p.n; i++)
        safetensors_file_free(p.files[i]);
    free(p.files);
    stream_reader_close(in);
    return 0;
}
