/* ckpt-merge: the pieces of parallel ranks -> the whole model. The exact inverse of ckpt-shard.
 *
 * The rule: the pieces of one tensor are joined along the dimension, or by the lists of heads, that
 * ckpt-shard cut them by; of what is replicated one is taken, after comparing. */
#include "heads.h"
#include "layout_options.h"
#include "materialize.h"
#include "memory.h"
#include "naming.h"
#include "progress.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long ull;

static bool allow_drift;

static const struct option_spec options[] = {
    {.name = "allow-replica-drift",
     .kind = OPTION_FLAG,
     .value = &allow_drift,
     .help = "go on, with a warning, when replicas differ; the one of\nthe lowest rank is taken"},
    {0},
};

static const struct program program = {
    .summary = "Join the pieces of parallel ranks into the whole model",
    .synopsis = "[OPTION]... <STREAM >STREAM",
    .tables = (const struct option_spec *const[]){options, layout_options, size_options, stream_options,
                                                  progress_options, NULL},
    .examples = "  ckpt-unpack nxdt/ | ckpt-split-qkv --config config.json |\n"
                "    ckpt-merge --hw-backend trn1 | ckpt-pack-pt checkpoint.pt\n",
};

/* The pieces of one tensor on one pipeline rank. */
struct group {
    char *name;
    uint32_t pp;
    struct tensor_rule rule;
    uint64_t n_pieces;
    struct tensor **pieces; /* by tensor rank; replicas share the first one's */
    bool *present;
};

/* A tensor that has been written. Those outside layers may come again on other pipeline ranks and must be
 * equal then. */
struct finished {
    char *name;
    uint32_t pp;
    struct tensor *tensor; /* by reference */
    char digest[65];       /* or inline */
};

struct merger {
    struct stream_info in;
    struct head_layout heads;
    struct materializer *materializer;
    void *groups; /* tsearch trees */
    void *finished;
    struct group **waiting; /* complete, but the multiplier is not known yet */
    size_t n_waiting, waiting_capacity;
    unsigned char *seen_layers;
};

static int compare_groups(const void *a, const void *b)
{
    const struct group *x = a, *y = b;
    int names = strcmp(x->name, y->name);
    return names ? names : (x->pp > y->pp) - (x->pp < y->pp);
}

static int compare_finished(const void *a, const void *b)
{
    return strcmp(((const struct finished *)a)->name, ((const struct finished *)b)->name);
}

static void group_free(struct group *group, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        tensor_free(group->pieces[i]);
    free(group->pieces);
    free(group->present);
    free(group->name);
    free(group);
}

/* Which ranks hold the same KV heads depends on the options; everything else is the same whatever they are.
 */
static void check_replica(struct merger *m, const char *name, enum split split, const struct tensor *a,
                          uint64_t rank_a, const struct tensor *b, uint64_t rank_b)
{
    struct error err;
    struct tensor *both[2] = {(struct tensor *)a, (struct tensor *)b};
    bool equal = a->dtype == b->dtype && a->n_dims == b->n_dims &&
                 memcmp(a->shape, b->shape, a->n_dims * sizeof *a->shape) == 0;
    if (equal && !materialize_equal(m->materializer, both[0], both[1], &equal, &err))
        die_error(&err);
    if (equal)
        return;
    if (!allow_drift)
        die(EXIT_DATA,
            "%s: tensor ranks %llu and %llu should hold the same and do not%s (--allow-replica-drift goes "
            "on)",
            name, (ull)rank_a, (ull)rank_b,
            split == SPLIT_KV ? "; probably --hw-backend or --kv-size-multiplier does not fit the checkpoint"
                              : "");
    warning("%s: tensor ranks %llu and %llu differ; rank %llu's is taken", name, (ull)rank_a, (ull)rank_b,
            (ull)rank_a);
}

/* The lowest other rank that is here and should hold the same as `rank`, or tp when there is none. */
static uint64_t replica_of(const struct merger *m, const struct group *group, uint64_t rank)
{
    for (uint64_t other = 0; other < m->in.tp_size; other++) {
        if (other == rank || !group->present[other])
            continue;
        if (group->rule.split == SPLIT_WHOLE ||
            (group->rule.split == SPLIT_KV &&
             head_layout_kv(&m->heads, other) == head_layout_kv(&m->heads, rank)))
            return other;
    }
    return m->in.tp_size;
}

/* Equal parts have equal sizes. */
static struct tensor *join_even(const struct group *group, uint64_t tp, struct error *err)
{
    unsigned dim = group->rule.dim;
    for (uint64_t i = 0; i < tp; i++)
        if (dim >= group->pieces[i]->n_dims || group->pieces[i]->shape[dim] != group->pieces[0]->shape[dim]) {
            fail(err, "its pieces on tensor ranks 0 and %llu differ in size, so they are not equal parts",
                 (ull)i);
            return NULL;
        }
    return tensor_concat(dim, group->pieces, (size_t)tp, err);
}

static struct tensor *join(const struct merger *m, const struct group *group)
{
    struct error err;
    struct tensor *whole = NULL;
    switch (group->rule.split) {
    case SPLIT_WHOLE:
        return tensor_keep(group->pieces[0]);
    case SPLIT_EVEN:
        whole = join_even(group, m->in.tp_size, &err);
        break;
    case SPLIT_Q:
        whole = heads_join_q(&m->heads, group->pieces, group->rule.dim, &err);
        break;
    case SPLIT_KV:
        whole = heads_join_kv(&m->heads, group->pieces, group->rule.dim, &err);
        break;
    }
    if (!whole)
        die(EXIT_DATA, "%s: %s", group->name, err.message);
    return whole;
}

/* The tensor is there a second time, from another pipeline rank. */
static void check_again(struct merger *m, const struct group *group, struct tensor *whole,
                        const struct finished *first)
{
    struct error err;
    char digest[65];
    bool equal;
    if (group->pp == first->pp)
        die(EXIT_DATA, "%s: is there twice on pipeline rank %u", group->name, group->pp);
    if (group->rule.place == PLACE_LAYER)
        die(EXIT_DATA, "%s: is on pipeline ranks %u and %u, but a layer has one", group->name, first->pp,
            group->pp);
    bool ok = first->tensor ? materialize_equal(m->materializer, first->tensor, whole, &equal, &err)
                            : materialize_sha256(m->materializer, whole, digest, &err);
    if (!ok)
        die_error(&err);
    if (!first->tensor)
        equal = strcmp(digest, first->digest) == 0;
    if (!equal && !allow_drift)
        die(EXIT_DATA,
            "%s: pipeline ranks %u and %u hold different ones (--allow-replica-drift takes rank %u's)",
            group->name, first->pp, group->pp, first->pp);
    if (!equal)
        warning("%s: pipeline ranks %u and %u differ; rank %u's is taken", group->name, first->pp, group->pp,
                first->pp);
}

static struct finished *remember(struct merger *m, struct group *group, struct tensor *whole)
{
    struct error err;
    struct finished *first = xcalloc(1, sizeof *first);
    first->name = group->name;
    first->pp = group->pp;
    group->name = NULL;
    if (group->rule.place == PLACE_LAYER || m->in.pp_size == 1)
        return first;
    if (!tensor_in_memory(whole))
        first->tensor = tensor_keep(whole);
    else if (!materialize_sha256(m->materializer, whole, first->digest, &err))
        die_error(&err);
    return first;
}

static void finish_group(struct merger *m, struct group *group)
{
    struct tensor *whole = join(m, group);
    struct finished **found = tfind(&(struct finished){.name = group->name}, &m->finished, compare_finished);
    if (found) {
        check_again(m, group, whole, *found);
    } else {
        struct record record = {.name = group->name, .tensor = whole};
        stream_write(&record);
        if (!tsearch(remember(m, group, whole), &m->finished, compare_finished))
            die(EXIT_DATA, "out of memory");
    }
    tensor_free(whole);
    group_free(group, m->in.tp_size);
}

/* Query heads lie by the multiplier, which the first k or v tells when the user did not. */
static void settle_heads(struct merger *m, const struct record *kv)
{
    struct error err;
    if (kv->tensor->n_dims == 0)
        die(EXIT_DATA, "%s: has no dimension to join along", kv->name);
    layout_settle_multiplier(&m->in, kv->name, kv->tensor->shape[0]);
    if (m->heads.tp)
        return;
    m->in.layout.qkv_linear = true; /* any layout that ckpt-shard makes can be joined */
    if (!head_layout_make(&m->heads, &m->in.config, m->in.tp_size, &m->in.layout, &err))
        die_error(&err);
    for (size_t i = 0; i < m->n_waiting; i++)
        finish_group(m, m->waiting[i]);
    m->n_waiting = 0;
}

static struct group *group_for(struct merger *m, const struct record *record, struct tensor_rule rule)
{
    struct group key = {.name = record->name, .pp = record->rank.pp};
    struct group **found = tfind(&key, &m->groups, compare_groups);
    if (found)
        return *found;
    struct group *group = xcalloc(1, sizeof *group);
    group->name = xstrdup(record->name);
    group->pp = record->rank.pp;
    group->rule = rule;
    group->pieces = xcalloc((size_t)m->in.tp_size, sizeof *group->pieces);
    group->present = xcalloc((size_t)m->in.tp_size, sizeof *group->present);
    if (!tsearch(group, &m->groups, compare_groups))
        die(EXIT_DATA, "out of memory");
    return group;
}

static void check_record(struct merger *m, const struct record *record, const struct tensor_rule *rule,
                         uint64_t layer)
{
    uint64_t n;
    const char *rest;
    if (name_layer(record->name, &n, &rest) && fusion_of_fused_name(rest))
        die(EXIT_DATA, "%s: is fused; put ckpt-split-qkv before ckpt-merge", record->name);
    if (record->rank.tp >= m->in.tp_size || record->rank.pp >= m->in.pp_size)
        die(EXIT_DATA, "%s: is on tensor rank %u, pipeline rank %u, but the stream has %llu and %llu of them",
            record->name, record->rank.tp, record->rank.pp, (ull)m->in.tp_size, (ull)m->in.pp_size);
    if (rule->place == PLACE_LAYER && layer >= m->in.layers)
        die(EXIT_DATA, "%s: there is a layer %llu, but the stream has %llu layers", record->name, (ull)layer,
            (ull)m->in.layers);
    if (rule->place == PLACE_LAYER)
        m->seen_layers[layer] = 1;
}

static void take(struct merger *m, struct record *record)
{
    uint64_t layer = 0, rank = record->rank.tp, other;
    bool known;
    struct tensor_rule rule = rule_of_tensor(record->name, &layer, &known);
    check_record(m, record, &rule, layer);
    if (rule.split == SPLIT_KV)
        settle_heads(m, record);
    struct group *group = group_for(m, record, rule);
    if (group->present[rank])
        die(EXIT_DATA, "%s: is there twice on tensor rank %llu, pipeline rank %u", record->name, (ull)rank,
            record->rank.pp);
    group->present[rank] = true;
    group->n_pieces++;
    if ((other = replica_of(m, group, rank)) < m->in.tp_size) {
        check_replica(m, record->name, group->rule.split, group->pieces[other], other, record->tensor, rank);
        group->pieces[rank] = tensor_keep(group->pieces[other]);
    } else {
        group->pieces[rank] = tensor_keep(record->tensor);
    }
    if (group->n_pieces < m->in.tp_size)
        return;
    tdelete(group, &m->groups, compare_groups);
    if (rule.split == SPLIT_Q && !m->heads.tp) {
        GROW(m->waiting, m->n_waiting, m->waiting_capacity);
        m->waiting[m->n_waiting++] = group;
        return;
    }
    finish_group(m, group);
}

static const struct merger *the_merger; /* for twalk(), which passes no context */

static void report_incomplete(const void *node, VISIT visit, int depth)
{
    const struct group *group = *(struct group *const *)node;
    uint64_t missing = 0, total = the_merger->in.tp_size;
    (void)depth;
    if (visit != preorder && visit != leaf)
        return;
    while (group->present[missing])
        missing++;
    die(EXIT_DATA, "%s: tensor rank %llu has none, nor have %llu others of %llu (pipeline rank %u)",
        group->name, (ull)missing, (ull)(total - group->n_pieces - 1), (ull)total, group->pp);
}

static void check_complete(struct merger *m)
{
    the_merger = m;
    twalk(m->groups, report_incomplete);
    if (m->n_waiting)
        die(EXIT_DATA, "%s: there are query heads but no KV heads in the checkpoint", m->waiting[0]->name);
    for (uint64_t i = 0; i < m->in.layers; i++)
        if (!m->seen_layers[i])
            die(EXIT_DATA, "layer %llu of %llu is missing in the checkpoint", (ull)i, (ull)m->in.layers);
}

static void finished_free(void *node)
{
    struct finished *f = node;
    tensor_free(f->tensor);
    free(f->name);
    free(f);
}

static void settle_options(struct merger *m, struct stream_info *out)
{
    struct error err;
    if (!m->in.sharded)
        die(EXIT_DATA, "the stream is not sharded, so there is nothing to merge");
    if (m->in.ep_size > 1)
        die(EXIT_DATA, "the checkpoint has expert parallel size %llu; merging experts is not available yet",
            (ull)m->in.ep_size);
    layout_options_apply(&m->in);
    size_options_check(&m->in);
    if (config_is_known(&m->in.config) && layout_multiplier_known(&m->in)) {
        m->in.layout.qkv_linear = true;
        if (!head_layout_make(&m->heads, &m->in.config, m->in.tp_size, &m->in.layout, &err))
            die_error(&err);
    }
    m->seen_layers = xcalloc((size_t)m->in.layers + 1, 1);
    *out = m->in;
    out->sharded = false;
    out->layout = (struct layout){0};
    out->tensors = out->bytes = 0;
}

int main(int argc, char **argv)
{
    struct merger m = {0};
    struct stream_info out;
    struct record record;
    struct error err;
    stream_writer_declare();
    if (options_parse(&program, argc, argv) < argc)
        usage_error("takes no operand, but got '%s'", argv[argc - 1]);
    struct stream_reader *in = stream_reader_open(STDIN_FILENO, &m.in);
    settle_options(&m, &out);
    m.materializer = materializer_new(2); /* the stream's writer has the other */
    stream_writer_begin(&out);
    while (stream_read(in, &record)) {
        take(&m, &record);
        record_free(&record);
    }
    check_complete(&m);
    if (!materializer_finish(m.materializer, &err))
        die_error(&err);
    stream_writer_end();

    tdestroy(m.finished, finished_free);
    free(m.waiting);
    free(m.seen_layers);
    stream_reader_close(in);
    return 0;
}
