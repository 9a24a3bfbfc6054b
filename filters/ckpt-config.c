/* ckpt-config: what a config.json or an NxDT training configuration says that conversions need, as NAME=VALUE
 * lines with the option names of checkpoint_converter.sh, for scripts. */
#include "nxdt_yaml.h"
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct program program = {
    .summary = "Print what a config.json or NxDT training .yaml says of a conversion, as NAME=VALUE lines",
    .synopsis = "FILE",
    .tables = (const struct option_spec *const[]){NULL},
    .examples = "  ckpt-config config.json\n"
                "  ckpt-config hf_llama3_8B_config.yaml | grep tp_size\n",
};

static void print_number(const char *name, uint64_t value)
{
    if (value)
        printf("%s=%llu\n", name, (unsigned long long)value);
}

static void print_flag(const char *name, int value)
{
    if (value >= 0)
        printf("%s=%s\n", name, value ? "true" : "false");
}

static void print_model(const struct model_config *config)
{
    print_number("hidden_size", config->hidden_size);
    print_number("num_attention_heads", config->attention_heads);
    print_number("num_key_value_heads", config->kv_heads);
    print_number("head_dim", config->head_dim);
    print_number("n_layers", config->layers);
    if (config->tie_word_embeddings)
        print_flag("tie_word_embeddings", 1);
}

int main(int argc, char **argv)
{
    struct error err;
    struct nxdt_settings s = {.qkv_linear = -1, .fuse_qkv = -1};
    int first = options_parse(&program, argc, argv);
    if (argc - first != 1)
        usage_error("takes one file");
    const char *path = argv[first];
    if (config_is_yaml(path) ? !nxdt_yaml_read(path, &s, &err) : !config_read_json(path, &s.config, &err))
        die_error(&err);
    print_model(&s.config);
    print_number("num_experts", s.experts);
    print_number("tp_size", s.tp_size);
    print_number("pp_size", s.pp_size);
    print_number("virtual_pp_size", s.virtual_pp_size);
    print_number("kv_size_multiplier", s.kv_size_multiplier);
    print_flag("qkv_linear", s.qkv_linear);
    print_flag("fuse_qkv", s.fuse_qkv);
    if (s.pipeline_cuts)
        printf("pipeline_cuts=%s\n", s.pipeline_cuts);
    nxdt_settings_free(&s);
    if (fclose(stdout) != 0)
        die(EXIT_DATA, "cannot write to standard output: %s", strerror(errno));
    return 0;
}
