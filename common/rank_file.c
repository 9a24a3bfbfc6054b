#include "rank_file.h"

void rank_file_name(char *name, size_t size, struct rank rank, uint64_t ep_size)
{
    if (ep_size > 1)
        snprintf(name, size, "dp_rank_00_ep_rank_%02u_tp_rank_%02u_pp_rank_%02u", rank.ep, rank.tp, rank.pp);
    else
        snprintf(name, size, "dp_rank_00_tp_rank_%02u_pp_rank_%02u", rank.tp, rank.pp);
}
