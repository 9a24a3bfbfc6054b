/* How NxDT names the file of a rank. */
#ifndef RANK_FILE_H
#define RANK_FILE_H

#include "stream.h"

/* dp_rank_00_tp_rank_TT_pp_rank_PP (with _ep_rank_EE in front of _tp when there is expert parallelism),
 * without ".pt". */
void rank_file_name(char *name, size_t size, struct rank rank, uint64_t ep_size);

#endif
