/* Which pipeline rank holds a layer. */
#ifndef STAGES_H
#define STAGES_H

#include "fail.h"

#include <stdint.h>

struct stages {
    uint64_t layers, pp, stages; /* stages = pp * virtual pp */
    uint64_t *last;              /* the last layer of each stage */
};

/* Layers divide evenly, the remainder goes one each to the last stages; or cuts,
 * "model.layers.18,model.layers.39", names the last layer of every stage but the last. Stage s is on pipeline
 * rank s mod pp. The caller ends with stages_free(). */
bool stages_make(struct stages *stages, uint64_t layers, uint64_t pp, uint64_t virtual_pp, const char *cuts,
                 struct error *err);
void stages_free(struct stages *stages);
uint64_t stage_rank(const struct stages *stages, uint64_t layer);

#endif
