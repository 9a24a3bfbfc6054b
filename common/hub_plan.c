#include "hub_download.h"
#include "hub_partial.h"

#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

/* Whether an earlier missing file has the same content: the cache stores it once. */
static bool is_repeated(const struct hub_plan *plan, const struct hub_need *need, size_t index)
{
    for (size_t i = 0; i < index && !plan->store->local; i++)
        if (need->is_missing[i] && strcmp(plan->files[i].digest, plan->files[index].digest) == 0)
            return true;
    return false;
}

bool hub_plan_measure(const struct hub_plan *plan, struct hub_need *need, struct error *err)
{
    *need = (struct hub_need){.is_missing = xcalloc(plan->n + 1, sizeof *need->is_missing)};
    for (size_t i = 0; i < plan->n; i++) {
        const struct hub_file *file = &plan->files[i];
        bool found;
        if (!hub_store_find(plan->store, file, &found, err)) {
            free(need->is_missing);
            return false;
        }
        if (found)
            continue;
        need->is_missing[i] = true;
        need->missing++;
        if (is_repeated(plan, need, i))
            continue;
        char *path = hub_store_partial(plan->store, file);
        if (!add_u64(need->bytes, file->size - hub_partial_peek(path, file->size), &need->bytes))
            need->bytes = UINT64_MAX;
        free(path);
    }
    return true;
}

bool hub_plan_check_space(const struct hub_plan *plan, const struct hub_need *need, struct error *err)
{
    struct statvfs fs;
    uint64_t room;
    if (statvfs(plan->store->partials, &fs) != 0)
        return fail_errno(err, "%s: cannot find out how much room there is", plan->store->partials);
    if (!mul_u64(fs.f_bavail, fs.f_frsize, &room) || need->bytes <= room)
        return true;
    return fail(err, "%s has room for %.2f GB, but %.2f GB are needed; free some or choose another directory",
                plan->store->partials, (double)room / 1e9, (double)need->bytes / 1e9);
}
