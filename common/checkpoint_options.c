#include "checkpoint_options.h"

#include "memory.h"

#include <stdlib.h>

static const char *key;
static bool model_only;

const struct option_spec checkpoint_options[] = {
    {.name = "key",
     .letter = 'k',
     .kind = OPTION_STRING,
     .value = &key,
     .argument = "KEY",
     .help = "take only this part of a torch.save file: the key of a\ndictionary, or a dotted path "
             "(model.module)"},
    {.name = "model",
     .letter = 'm',
     .kind = OPTION_FLAG,
     .value = &model_only,
     .help = "take only the model of a training checkpoint: find its\nstate dict, and strip what trainers "
             "put before "
             "names\n(state_dict., module., …)"},
    {0},
};

static void warn_left_out(const struct checkpoint *checkpoint)
{
    const char *names[LEFT_OUT_NAMES];
    const char *of_what = model_only ? " of the model" : "";
    struct strbuf list = {0};
    uint64_t n = checkpoint_left_out(checkpoint, names);
    for (int i = 0; i < LEFT_OUT_NAMES && names[i]; i++)
        strbuf_printf(&list, "%s%.200s", i ? ", " : "", names[i]);
    if (n == 1)
        warning("1 value is not a tensor%s and is left out: %s", of_what, list.data);
    else if (n > 1)
        warning("%llu values are not tensors%s and are left out: %s%s", (unsigned long long)n, of_what,
                list.data, n > LEFT_OUT_NAMES ? ", …" : "");
    strbuf_free(&list);
}

struct checkpoint *checkpoint_open_by_options(const char *path)
{
    struct error err;
    setenv("TZ", "UTC0",
           0); /* libarchive asks for local time; without TZ that looks for files, for each of them */
    struct checkpoint *checkpoint = checkpoint_open(path, key, &err);
    if (!checkpoint)
        die_error(&err);
    if (model_only && !checkpoint_pick_model(checkpoint, path, &err))
        die_error(&err);
    warn_left_out(checkpoint);
    return checkpoint;
}
