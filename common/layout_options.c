#include "layout_options.h"

typedef unsigned long long ull;

static const char *config_path;
static int backend_choice = -1, compat_choice = 1, style_choice;
static uint64_t multiplier;
static bool qkv_linear, pad_attn_heads, fuse_qkv, coalesce_qkv;
static bool backend_given, qkv_linear_given, pad_given, compat_given;

static const char *const backends[] = {"trn1", "trn2", NULL}; /* in the order of enum backend */
static const char *const compats[] = {"nxd", "none", NULL};
static const char *const styles[] = {"hf", "megatron", NULL};

const struct option_spec layout_options[] = {
    {.kind = OPTION_HEADING, .help = "Model and layout (what the stream already tells may be left out)"},
    {.name = "config",
     .letter = 'c',
     .kind = OPTION_STRING,
     .value = &config_path,
     .argument = "FILE",
     .help = "the model's config.json, or an NxDT training .yaml\n(default: config.json beside the "
             "checkpoint that\nckpt-unpack read)"},
    {.name = "hw-backend",
     .kind = OPTION_CHOICE,
     .value = &backend_choice,
     .choices = backends,
     .given = &backend_given,
     .argument = "trn1|trn2",
     .help = "where replicated KV heads lie; needed when the\nmultiplier is above 1"},
    {.name = "kv-size-multiplier",
     .letter = 'm',
     .kind = OPTION_NUMBER,
     .value = &multiplier,
     .argument = "M",
     .help = "how many times each KV head is there (default 1)"},
    {.name = "qkv-linear",
     .kind = OPTION_FLAG,
     .value = &qkv_linear,
     .given = &qkv_linear_given,
     .help = "NxDT's GQA layout (GQAQKVColumnParallelLinear)"},
    {.name = "pad-attn-heads",
     .kind = OPTION_FLAG,
     .value = &pad_attn_heads,
     .given = &pad_given,
     .help = "pad the query heads with zeros to a multiple of the\ntensor parallel size"},
    {.name = "compat",
     .kind = OPTION_CHOICE,
     .value = &compat_choice,
     .choices = compats,
     .given = &compat_given,
     .argument = "nxd",
     .help = "lay out as the NxD script does where it differs from\nwhat its model reads"},
    {0},
};

const struct option_spec fusion_options[] = {
    {.kind = OPTION_HEADING, .help = "Fused layout (names tell it where it is taken apart)"},
    {.name = "model-style",
     .kind = OPTION_CHOICE,
     .value = &style_choice,
     .choices = styles,
     .argument = "hf|megatron",
     .help = "whose fused attention layout (default hf)"},
    {.name = "fuse-qkv", .kind = OPTION_FLAG, .value = &fuse_qkv, .help = "one tensor for q, k and v"},
    {.name = "coalesce-qkv",
     .kind = OPTION_FLAG,
     .value = &coalesce_qkv,
     .help = "the same, by its older name"},
    {0},
};

static void check_against_stream(const char *option, uint64_t given, uint64_t in_stream)
{
    if (given && given != in_stream)
        die(EXIT_DATA, "%s %llu contradicts the stream, where it is %llu; leave it out or check the input",
            option, (ull)given, (ull)in_stream);
}

static uint64_t tp_size, pp_size, virtual_pp_size, n_layers;
static const char *pipeline_cuts;

const struct option_spec size_options[] = {
    {.kind = OPTION_HEADING, .help = "The stream knows these; they are checked when given"},
    {.name = "tp-size",
     .letter = 't',
     .kind = OPTION_NUMBER,
     .value = &tp_size,
     .argument = "N",
     .help = "tensor parallel size"},
    {.name = "pp-size",
     .letter = 'p',
     .kind = OPTION_NUMBER,
     .value = &pp_size,
     .argument = "N",
     .help = "pipeline parallel size"},
    {.name = "n-layers",
     .kind = OPTION_NUMBER,
     .value = &n_layers,
     .argument = "N",
     .help = "number of layers"},
    {.name = "virtual-pp-size",
     .kind = OPTION_NUMBER,
     .value = &virtual_pp_size,
     .argument = "N",
     .help = "stages a pipeline rank holds (any will do: names tell)"},
    {.name = "pipeline-cuts",
     .kind = OPTION_STRING,
     .value = &pipeline_cuts,
     .argument = "LAYER,...",
     .help = "the last layers of stages (any will do: names tell)"},
    {0},
};

void size_options_check(const struct stream_info *info)
{
    check_against_stream("--tp-size", tp_size, info->sharded ? info->tp_size : 1);
    check_against_stream("--pp-size", pp_size, info->sharded ? info->pp_size : 1);
    if (info->layers)
        check_against_stream("--n-layers", n_layers, info->layers);
}

static void check_flag(const char *option, bool was_given, bool given, bool in_stream)
{
    if (was_given && given != in_stream)
        die(EXIT_DATA, "%s=%s contradicts the stream, which was sharded %s it", option,
            given ? "true" : "false", in_stream ? "with" : "without");
}

static enum backend backend(void)
{
    return (enum backend)(backend_choice + BACKEND_TRN1);
}

bool layout_multiplier_known(const struct stream_info *info)
{
    return info->layout.kv_size_multiplier > 0;
}

void layout_options_apply(struct stream_info *info)
{
    struct error err;
    struct layout *layout = &info->layout;
    if (config_path && !config_read(config_path, &info->config, &err))
        die_error(&err);
    if (info->sharded && layout_multiplier_known(info)) {
        check_against_stream("--kv-size-multiplier", multiplier, layout->kv_size_multiplier);
        check_flag("--qkv-linear", qkv_linear_given, qkv_linear, layout->qkv_linear);
        check_flag("--pad-attn-heads", pad_given, pad_attn_heads, layout->pad_attn_heads);
        check_flag("--compat", compat_given, compat_choice == 0, layout->compat_nxd);
        if (backend_given && layout->backend && layout->backend != backend())
            die(EXIT_DATA, "--hw-backend %s contradicts the stream, which was sharded for %s",
                backends[backend_choice], backends[layout->backend - BACKEND_TRN1]);
        if (backend_given)
            layout->backend = backend();
        return;
    }
    layout->backend = backend();
    layout->kv_size_multiplier = multiplier;
    layout->qkv_linear = qkv_linear;
    layout->pad_attn_heads = pad_attn_heads;
    layout->compat_nxd = compat_choice == 0;
}

enum attention_style fusion_option_style(void)
{
    return style_choice == 1 ? ATTENTION_MEGATRON : ATTENTION_HF;
}

bool fusion_option_fuse(void)
{
    return fuse_qkv || coalesce_qkv;
}

void layout_settle_multiplier(struct stream_info *info, const char *name, uint64_t rows)
{
    const struct model_config *config = &info->config;
    uint64_t all = rows * info->tp_size, each = config->kv_heads * config->head_dim;
    if (!config_is_known(config))
        die(EXIT_DATA,
            "%s: the number of attention heads is not known; give the model's config.json with --config",
            name);
    if (rows > UINT64_MAX / info->tp_size || rows % config->head_dim || all % each || all == 0)
        die(EXIT_DATA,
            "%s: %llu rows on each of %llu tensor ranks do not make a multiple of the %llu KV heads of %llu "
            "that "
            "the config has; is it the model's config?",
            name, (ull)rows, (ull)info->tp_size, (ull)config->kv_heads, (ull)config->head_dim);
    if (layout_multiplier_known(info) && info->layout.kv_size_multiplier != all / each)
        die(EXIT_DATA,
            "%s: %llu rows on each of %llu tensor ranks mean a kv_size_multiplier of %llu, not %llu", name,
            (ull)rows, (ull)info->tp_size, (ull)(all / each), (ull)info->layout.kv_size_multiplier);
    info->layout.kv_size_multiplier = all / each;
}
