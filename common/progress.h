/* One line on standard error that says how far a long job is.
 *
 * It is shown when standard error is a terminal and the job takes longer than two seconds; --progress shows
 * it always, --quiet never (and no warnings either). Threads may call progress_add() at the same time. */
#ifndef PROGRESS_H
#define PROGRESS_H

#include "options.h"

#include <stdint.h>

/* The options --progress and --quiet, for a program's list of option tables. */
extern const struct option_spec progress_options[];

/* Begins a job of total bytes (0: not known). what is a verb: "copying". It must outlive the job. */
void progress_begin(const char *what, uint64_t total);
void progress_add(uint64_t bytes);
/* Completes the line. Also called by itself when the program fails, so that messages start on a new line. */
void progress_end(void);

#endif
