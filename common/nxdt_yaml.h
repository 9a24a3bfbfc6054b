/* NxDT's training configuration (YAML), as far as a conversion needs it. */
#ifndef NXDT_YAML_H
#define NXDT_YAML_H

#include "config.h"

/* Numbers are 0, flags -1 and text NULL where the file says nothing. */
struct nxdt_settings {
    struct model_config config; /* attention_heads 0 when the file has no model */
    uint64_t tp_size, pp_size, virtual_pp_size, kv_size_multiplier, experts;
    int qkv_linear, fuse_qkv;
    char *pipeline_cuts; /* "model.layers.18,model.layers.39" */
};

/* Values that are expressions ("${…}") are an error where a value is needed, and nothing elsewhere. On
 * success the caller ends with nxdt_settings_free(). */
bool nxdt_yaml_read(const char *path, struct nxdt_settings *settings, struct error *err);
void nxdt_settings_free(struct nxdt_settings *settings);

#endif
