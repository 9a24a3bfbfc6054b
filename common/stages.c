#include "stages.h"

#include "memory.h"
#include "naming.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull;

/* The layer in one cut: "model.layers.18", any prefix, or the bare number. */
static bool read_cut(const char *text, size_t length, uint64_t *layer)
{
    const char *digits = text + length;
    while (digits > text && digits[-1] >= '0' && digits[-1] <= '9')
        digits--;
    char number[24];
    if (digits > text && digits[-1] != '.')
        return false;
    snprintf(number, sizeof number, "%.*s", (int)(text + length - digits), digits);
    return parse_u64(number, layer);
}

static bool cut_stages(struct stages *s, const char *cuts, struct error *err)
{
    uint64_t stage = 0, previous = 0, layer;
    for (const char *at = cuts;; at++) {
        size_t n = strcspn(at, ",");
        if (!read_cut(at, n, &layer))
            return fail(err, "pipeline cut '%.*s' does not name a layer, as model.layers.18 does", (int)n,
                        at);
        if ((stage > 0 && layer <= previous) || layer >= s->layers - 1)
            return fail(err,
                        "pipeline cut '%.*s' leaves a stage without layers: cuts must rise and end before "
                        "the last of %llu layers",
                        (int)n, at, (ull)s->layers);
        if (stage + 1 >= s->stages)
            return fail(err, "pipeline cuts '%s' make more than %llu stages", cuts, (ull)s->stages);
        s->last[stage++] = previous = layer;
        at += n;
        if (!*at)
            break;
    }
    if (stage + 1 != s->stages)
        return fail(err, "pipeline cuts '%s' make %llu stages, but there are %llu", cuts, (ull)stage + 1,
                    (ull)s->stages);
    s->last[stage] = s->layers - 1;
    return true;
}

bool stages_make(struct stages *s, uint64_t layers, uint64_t pp, uint64_t virtual_pp, const char *cuts,
                 struct error *err)
{
    *s = (struct stages){.layers = layers, .pp = pp};
    if (!mul_u64(pp, virtual_pp, &s->stages) || layers < s->stages)
        return fail(err, "%llu layers are fewer than the %llu pipeline stages (pp %llu x virtual pp %llu)",
                    (ull)layers, (ull)s->stages, (ull)pp, (ull)virtual_pp);
    s->last = xcalloc((size_t)s->stages, sizeof *s->last);
    if (cuts) {
        if (cut_stages(s, cuts, err))
            return true;
        stages_free(s);
        return false;
    }
    uint64_t each = layers / s->stages, plain = s->stages - layers % s->stages, next = 0;
    for (uint64_t i = 0; i < s->stages; i++) {
        next += each + (i >= plain);
        s->last[i] = next - 1;
    }
    return true;
}

void stages_free(struct stages *s)
{
    free(s->last);
    s->last = NULL;
}

uint64_t stage_rank(const struct stages *s, uint64_t layer)
{
    uint64_t low = 0, high = s->stages - 1;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (s->last[middle] < layer)
            low = middle + 1;
        else
            high = middle;
    }
    return low % s->pp;
}
