/* ckpt-shard: a whole model -> the pieces of its tensor and pipeline parallel ranks.
 *
 * The rule: a tensor goes to the pipeline rank of its stage (naming.c, stages.c), cut among the tensor ranks
 * into equal parts, or by attention heads (heads.c), or not at all. */
#include "heads.h"
#include "layout_options.h"
#include "memory.h"
#include "naming.h"
#include "progress.h"
#include "stages.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long ull;

static uint64_t tp_size, pp_size = 1, virtual_pp_size = 1, n_layers;
static const char *pipeline_cuts;

static const struct option_spec options[] = {
    {.name = "tp-size",
     .letter = 't',
     .kind = OPTION_NUMBER,
     .value = &tp_size,
     .argument = "N",
     .help = "tensor parallel size (required)"},
    {.name = "pp-size",
     .letter = 'p',
     .kind = OPTION_NUMBER,
     .value = &pp_size,
     .argument = "N",
     .help = "pipeline parallel size (default 1)"},
    {.name = "virtual-pp-size",
     .kind = OPTION_NUMBER,
     .value = &virtual_pp_size,
     .argument = "N",
     .help = "stages a pipeline rank holds (default 1)"},
    {.name = "pipeline-cuts",
     .kind = OPTION_STRING,
     .value = &pipeline_cuts,
     .argument = "LAYER,...",
     .help = "the last layer of every stage but the last, as\nmodel.layers.18,model.layers.39"},
    {.name = "n-layers",
     .kind = OPTION_NUMBER,
     .value = &n_layers,
     .argument = "N",
     .help = "the number of layers there must be"},
    {0},
};

static const struct program program = {
    .summary = "Cut a whole model into the pieces of its parallel ranks",
    .synopsis = "--tp-size N [OPTION]... <STREAM >STREAM",
    .tables =
        (const struct option_spec *const[]){options, layout_options, stream_options, progress_options, NULL},
    .examples = "  ckpt-unpack hf/ | ckpt-shard --tp-size 8 --pp-size 4 --qkv-linear |\n"
                "    ckpt-fuse-qkv --fuse-qkv | ckpt-pack-xser out/\n",
};

struct sharder {
    struct stream_info in;
    struct head_layout heads;
    struct stages stages;
    unsigned char *seen_layers;
    bool has_lm_head;
    struct tensor *embedding; /* kept while it may have to be lm_head as well */
    struct strbuf unknown;    /* names already warned about */
};

static void cannot_divide(const char *name, uint64_t size, uint64_t parts)
{
    die(EXIT_DATA,
        "%s: its dimension of %llu cannot be divided among %llu tensor ranks; choose another --tp-size", name,
        (ull)size, (ull)parts);
}

/* The piece of a tensor that a tensor rank holds. */
static struct tensor *piece_of(const struct sharder *s, const struct record *record, struct tensor_rule rule,
                               uint64_t rank)
{
    const struct head_layout *h = &s->heads;
    uint64_t part = rule.split == SPLIT_EVEN ? record->tensor->shape[rule.dim] / tp_size : 0;
    switch (rule.split) {
    case SPLIT_EVEN:
        return tensor_narrow(record->tensor, rule.dim, rank * part, part);
    case SPLIT_Q:
        return heads_cut_q(h, record->tensor, rule.dim, rank);
    case SPLIT_KV:
        return heads_cut_kv(h, record->tensor, rule.dim, rank);
    case SPLIT_WHOLE:
        break;
    }
    return tensor_keep(record->tensor);
}

/* Makes sure that the tensor can be cut as its rule says. */
static void check_tensor(struct sharder *s, const struct record *record, struct tensor_rule rule)
{
    const struct tensor *t = record->tensor;
    struct error err;
    if (rule.split == SPLIT_WHOLE)
        return;
    if (rule.dim >= t->n_dims)
        die(EXIT_DATA, "%s: has %u dimensions, but must have at least %u to be divided", record->name,
            t->n_dims, rule.dim + 1);
    if (rule.split == SPLIT_EVEN) {
        if (t->shape[rule.dim] % tp_size)
            cannot_divide(record->name, t->shape[rule.dim], tp_size);
        return;
    }
    if (!s->heads.tp && !head_layout_make(&s->heads, &s->in.config, tp_size, &s->in.layout, &err))
        die_error(&err);
    uint64_t heads = rule.split == SPLIT_Q ? s->heads.q_heads : s->heads.kv_heads;
    if (t->shape[rule.dim] != heads * s->heads.head_dim)
        die(EXIT_DATA,
            "%s: its dimension %u is %llu, but the config says %llu heads of %llu = %llu; is it the model's "
            "config?",
            record->name, rule.dim, (ull)t->shape[rule.dim], (ull)heads, (ull)s->heads.head_dim,
            (ull)(heads * s->heads.head_dim));
}

/* A matrix that the table does not know is copied whole to every rank, as the rules say; but it may be one
 * that its model expects divided. */
static void warn_unknown(struct sharder *s, const struct record *record)
{
    uint64_t layer;
    const char *rest = record->name;
    name_layer(record->name, &layer, &rest);
    char *entry = xasprintf("\n%s\n", rest);
    if (record->tensor->n_dims >= 2 && (!s->unknown.data || !strstr(s->unknown.data, entry))) {
        strbuf_puts(&s->unknown, entry);
        warning("%s: not a tensor of the Llama family by its name; every tensor rank gets all of it",
                record->name);
    }
    free(entry);
}

static void refuse_fused(const char *name)
{
    uint64_t layer;
    const char *rest;
    if (name_layer(name, &layer, &rest) && fusion_of_fused_name(rest))
        die(EXIT_DATA, "%s: is fused; put ckpt-split-qkv before ckpt-shard", name);
}

static void shard(struct sharder *s, const struct record *record)
{
    uint64_t layer = 0, first = 0, last = pp_size - 1;
    bool known;
    struct tensor_rule rule = rule_of_tensor(record->name, &layer, &known);
    refuse_fused(record->name);
    if (!known)
        warn_unknown(s, record);
    check_tensor(s, record, rule);
    if (rule.place == PLACE_LAYER) {
        if (layer >= s->stages.layers)
            die(EXIT_DATA, "%s: there is a layer %llu, but the model has %llu layers", record->name,
                (ull)layer, (ull)s->stages.layers);
        s->seen_layers[layer] = 1;
        first = last = stage_rank(&s->stages, layer);
    } else if (rule.place == PLACE_FIRST_STAGE) {
        last = 0;
    } else if (rule.place == PLACE_LAST_STAGE) {
        first = pp_size - 1;
    }
    for (uint64_t pp = first; pp <= last; pp++)
        for (uint64_t tp = 0; tp < tp_size; tp++) {
            struct record piece = {
                record->name, {(uint32_t)tp, (uint32_t)pp, 0}, piece_of(s, record, rule, tp)};
            stream_write(&piece);
            tensor_free(piece.tensor);
        }
}

static void shard_embedding_as_lm_head(struct sharder *s, struct tensor *embedding)
{
    struct record tied = {.name = xstrdup(LM_HEAD_NAME), .tensor = tensor_keep(embedding)};
    shard(s, &tied);
    record_free(&tied);
    s->has_lm_head = true;
}

/* One record of the whole model; with tied embeddings and no lm_head of its own, the embedding is lm_head
 * too. Where the stream does not tell whether an lm_head comes, the embedding is kept until that is known. */
static void take(struct sharder *s, const struct record *record)
{
    bool tied = s->in.config.tie_word_embeddings;
    shard(s, record);
    if (strcmp(record->name, LM_HEAD_NAME) == 0)
        s->has_lm_head = true;
    if (!tied || strcmp(record->name, EMBEDDING_NAME) != 0)
        return;
    if (s->in.lm_head == 0)
        shard_embedding_as_lm_head(s, record->tensor);
    else if (s->in.lm_head < 0 && !s->has_lm_head)
        s->embedding = tensor_keep(record->tensor);
}

static void check_layers(const struct sharder *s)
{
    for (uint64_t i = 0; i < s->stages.layers; i++)
        if (!s->seen_layers[i])
            die(EXIT_DATA, "layer %llu of %llu is missing in the checkpoint", (ull)i, (ull)s->stages.layers);
}

static void settle_layers(struct sharder *s)
{
    struct error err;
    uint64_t layers = s->in.layers ? s->in.layers : n_layers ? n_layers : s->in.config.layers;
    if (!layers)
        die(EXIT_DATA, "the number of layers is not known: the stream has none; give --n-layers");
    if (n_layers && n_layers != layers)
        die(EXIT_DATA, "--n-layers %llu is wrong: the checkpoint has %llu layers", (ull)n_layers,
            (ull)layers);
    if (!stages_make(&s->stages, layers, pp_size, virtual_pp_size, pipeline_cuts, &err))
        die_error(&err);
    s->seen_layers = xcalloc((size_t)layers, 1);
}

static void settle_options(struct sharder *s, struct stream_info *out)
{
    struct error err;
    if (s->in.sharded)
        die(EXIT_DATA,
            "the stream is sharded already (tp %llu, pp %llu); put ckpt-split-qkv and ckpt-merge before "
            "ckpt-shard",
            (ull)s->in.tp_size, (ull)s->in.pp_size);
    layout_options_apply(&s->in);
    if (s->in.layout.kv_size_multiplier == 0)
        s->in.layout.kv_size_multiplier = 1;
    s->in.layout.virtual_pp_size = virtual_pp_size;
    if (config_is_known(&s->in.config) &&
        !head_layout_make(&s->heads, &s->in.config, tp_size, &s->in.layout, &err))
        die_error(&err);
    settle_layers(s);
    *out = s->in;
    out->sharded = true;
    out->tp_size = tp_size;
    out->pp_size = pp_size;
    out->ep_size = 1;
    out->tensors = out->bytes = 0;
    out->lm_head = s->in.lm_head == 0 && s->in.config.tie_word_embeddings ? 1 : s->in.lm_head;
}

int main(int argc, char **argv)
{
    struct sharder s = {0};
    struct stream_info out;
    struct record record;
    stream_writer_declare();
    if (options_parse(&program, argc, argv) < argc)
        usage_error("takes no operand, but got '%s'", argv[argc - 1]);
    if (!tp_size)
        usage_error("--tp-size is missing");
    if (tp_size > UINT32_MAX || pp_size > UINT32_MAX || virtual_pp_size > UINT32_MAX)
        usage_error("--tp-size, --pp-size and --virtual-pp-size must be below 2^32");
    struct stream_reader *in = stream_reader_open(STDIN_FILENO, &s.in);
    settle_options(&s, &out);
    stream_writer_begin(&out);
    while (stream_read(in, &record)) {
        take(&s, &record);
        record_free(&record);
    }
    if (s.embedding && !s.has_lm_head)
        shard_embedding_as_lm_head(&s, s.embedding);
    check_layers(&s);
    stream_writer_end();

    tensor_free(s.embedding);
    stages_free(&s.stages);
    free(s.seen_layers);
    strbuf_free(&s.unknown);
    stream_reader_close(in);
    return 0;
}
