/* The options that describe a model and how its attention heads lie on ranks, which the sharding filters
 * share. */
#ifndef LAYOUT_OPTIONS_H
#define LAYOUT_OPTIONS_H

#include "naming.h"
#include "stream.h"

/* --config, --hw-backend, --kv-size-multiplier, --qkv-linear, --pad-attn-heads, --compat. */
extern const struct option_spec layout_options[];
/* --model-style, --fuse-qkv, --coalesce-qkv. */
extern const struct option_spec fusion_options[];

/* --tp-size, --pp-size, --virtual-pp-size, --n-layers, --pipeline-cuts for the filters whose stream answers
 * them. */
extern const struct option_spec size_options[];
/* Ends the program when one of them was given and the stream says otherwise. */
void size_options_check(const struct stream_info *info);

/* Completes info with what the options say. What a sharded stream already knows may be left out; an option
 * that contradicts it ends the program. */
void layout_options_apply(struct stream_info *info);
/* Whether --kv-size-multiplier stands on the command line or in the stream. */
bool layout_multiplier_known(const struct stream_info *info);

enum attention_style fusion_option_style(void);
bool fusion_option_fuse(void);

/* Reads the multiplier off the rows of a rank's k or v, when neither option nor stream tells it; checks it
 * otherwise. rows = KV heads on the rank x head_dim. name is the tensor's, for messages. */
void layout_settle_multiplier(struct stream_info *info, const char *name, uint64_t rows);

#endif
