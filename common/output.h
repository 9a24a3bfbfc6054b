/* Output that appears only when it is complete.
 *
 * What a packer writes goes to a staging place beside or inside its target: a hidden name with ".ckpt-" in
 * it. output_publish() flushes it to the disk and renames it into place; when the program fails or is
 * interrupted before, everything it made is removed. One output a program. The functions end the program on
 * failure. */
#ifndef OUTPUT_H
#define OUTPUT_H

#include "options.h"

#include <stdint.h>

/* --output, --force, --jobs, for a packer's list of option tables. */
extern const struct option_spec output_options[];

/* The target: --output or the only operand (argv[first]); usage errors otherwise. */
const char *output_target(int argc, char **argv, int first);

/* Begins a directory; entries is the NULL-ended list of what will be put into it, in order of appearance. A
 * target that is there and not empty is refused without --force; with it, only these entries are replaced.
 * Returns the staging directory. */
const char *output_begin_directory(const char *target, const char *const *entries);
/* For entries whose names are known only at the end (output_begin_directory() was given NULL). Those that are
 * not in the staging directory are removed from the target. */
void output_set_entries(const char *const *entries);
/* Begins a file; returns its staging name. */
const char *output_begin_file(const char *target);
/* Dies when bytes in so many files do not fit the file system. */
void output_need_space(uint64_t bytes, uint64_t files);
void output_publish(void);
/* Whether the program is being ended, so that threads should not begin to write anything more. */
bool output_is_stopping(void);

/* How many threads to use: --jobs, or one a processor, at most 16. */
unsigned output_jobs(void);

/* Writes a small file, or makes a directory. */
void output_small_file(const char *path, const char *content);
void output_directory(const char *path);

#endif
