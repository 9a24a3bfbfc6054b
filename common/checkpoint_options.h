/* The options that say which tensors of a checkpoint are meant, and opening it by them. */
#ifndef CHECKPOINT_OPTIONS_H
#define CHECKPOINT_OPTIONS_H

#include "checkpoint.h"

/* The options --key and --model, for a program's list of option tables. */
extern const struct option_spec checkpoint_options[];

/* Opens the checkpoint and warns about values in it that are no tensors. Ends the program on failure. */
struct checkpoint *checkpoint_open_by_options(const char *path);

#endif
