#include "hub_store.h"

#include "hub_digest.h"
#include "hub_select.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* "models--ORG--NAME" */
static char *folder_name(const char *repo)
{
    const char *slash = strchr(repo, '/');
    if (!slash)
        return xasprintf("models--%s", repo);
    return xasprintf("models--%.*s--%s", (int)(slash - repo), repo, slash + 1);
}

void hub_store_open(struct hub_store *s, const char *cache, const char *local_dir, const char *repo,
                    const char *commit)
{
    *s = (struct hub_store){.local = local_dir != NULL};
    snprintf(s->commit, sizeof s->commit, "%s", commit);
    if (local_dir) {
        s->root = xasprintf("%s/.cache/huggingface", local_dir);
        s->partials = xasprintf("%s/download", s->root);
        s->locks = xstrdup(s->partials);
        s->files = xstrdup(local_dir);
        return;
    }
    char *folder = folder_name(repo);
    s->root = xasprintf("%s/%s", cache, folder);
    s->locks = xasprintf("%s/.locks/%s", cache, folder);
    s->partials = xasprintf("%s/blobs", s->root);
    s->files = xasprintf("%s/snapshots/%s", s->root, commit);
    free(folder);
}

void hub_store_close(struct hub_store *s)
{
    free(s->root);
    free(s->locks);
    free(s->partials);
    free(s->files);
    *s = (struct hub_store){0};
}

bool hub_make_directories(const char *path, struct error *err)
{
    if (!*path)
        return true;
    char *copy = xstrdup(path);
    bool ok = true;
    for (char *c = copy + 1; ok; c++) {
        char was = *c;
        if (was != '/' && was != '\0')
            continue;
        *c = '\0';
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            ok = fail_errno(err, "%s: cannot make the directory", copy);
        *c = was;
        if (was == '\0')
            break;
    }
    free(copy);
    return ok;
}

static bool make_parent(const char *path, struct error *err)
{
    char *parent = xstrndup(path, (size_t)(strrchr(path, '/') - path));
    bool ok = hub_make_directories(parent, err);
    free(parent);
    return ok;
}

/* Writes a small file so that it is there completely or not at all. */
static bool write_file(const char *path, const char *text, struct error *err)
{
    if (!make_parent(path, err))
        return false;
    char *temporary = xasprintf("%s.%ld.tmp", path, (long)getpid());
    FILE *file = fopen(temporary, "we");
    bool ok = file && fputs(text, file) >= 0;
    if (file && fclose(file) != 0)
        ok = false;
    ok = ok && rename(temporary, path) == 0;
    if (!ok) {
        fail_errno(err, "%s: cannot write", path);
        unlink(temporary);
    }
    free(temporary);
    return ok;
}

bool hub_store_make_directories(const struct hub_store *s, struct error *err)
{
    if (!hub_make_directories(s->partials, err) || !hub_make_directories(s->locks, err) ||
        !hub_make_directories(s->files, err))
        return false;
    if (!s->local)
        return true;
    char *ignore = xasprintf("%s/.gitignore", s->root); /* as huggingface_hub does */
    bool ok = access(ignore, F_OK) == 0 || write_file(ignore, "*", err);
    free(ignore);
    return ok;
}

char *hub_store_target(const struct hub_store *s, const struct hub_file *file)
{
    return s->local ? xasprintf("%s/%s", s->files, file->path)
                    : xasprintf("%s/%s", s->partials, file->digest);
}

char *hub_store_partial(const struct hub_store *s, const struct hub_file *file)
{
    return xasprintf("%s/%s.ranges.incomplete", s->partials, file->digest);
}

char *hub_store_foreign(const struct hub_store *s, const struct hub_file *file)
{
    return s->local ? NULL : xasprintf("%s/%s.incomplete", s->partials, file->digest);
}

char *hub_store_lock(const struct hub_store *s, const struct hub_file *file)
{
    return xasprintf("%s/%s.lock", s->locks, file->digest);
}

bool hub_store_prepare(const struct hub_store *s, const struct hub_file *file, struct error *err)
{
    char *target = hub_store_target(s, file);
    bool ok = make_parent(target, err);
    free(target);
    return ok;
}

/* Makes the link from the snapshot to the blob: relative, so that a cache can be moved. */
static bool place_link(const struct hub_store *s, const struct hub_file *file, struct error *err)
{
    struct strbuf link = {0};
    char *path = xasprintf("%s/%s", s->files, file->path);
    char *temporary = xasprintf("%s.%ld.tmp", path, (long)getpid());
    strbuf_puts(&link, "../../");
    for (const char *c = file->path; (c = strchr(c, '/')); c++)
        strbuf_puts(&link, "../");
    strbuf_printf(&link, "blobs/%s", file->digest);
    bool ok = make_parent(path, err);
    if (ok && (symlink(link.data, temporary) != 0 || rename(temporary, path) != 0)) {
        ok = fail_errno(err, "%s: cannot make a symbolic link (--local-dir needs none)", path);
        unlink(temporary);
    }
    free(temporary);
    free(path);
    strbuf_free(&link);
    return ok;
}

static char *metadata_path(const struct hub_store *s, const struct hub_file *file)
{
    return xasprintf("%s/download/%s.metadata", s->root, file->path);
}

static bool place_metadata(const struct hub_store *s, const struct hub_file *file, struct error *err)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char *path = metadata_path(s, file);
    char *text =
        xasprintf("%s\n%s\n%lld.%06ld\n", s->commit, file->digest, (long long)now.tv_sec, now.tv_nsec / 1000);
    bool ok = write_file(path, text, err);
    free(text);
    free(path);
    return ok;
}

bool hub_store_place(const struct hub_store *s, const struct hub_file *file, struct error *err)
{
    return s->local ? place_metadata(s, file, err) : place_link(s, file, err);
}

/* Whether the metadata says that the file, last changed at mtime, has this content. */
static bool metadata_agrees(const struct hub_store *s, const struct hub_file *file, time_t mtime)
{
    char commit[128], etag[128];
    double time = 0;
    char *path = metadata_path(s, file);
    FILE *in = fopen(path, "re");
    bool agrees = in && fscanf(in, "%127s %127s %lf", commit, etag, &time) == 3 &&
                  strcmp(etag, file->digest) == 0 && (double)mtime <= time + 1;
    if (in)
        fclose(in);
    free(path);
    return agrees;
}

/* A plain file of the right size whose metadata is old or missing may still have the right content. */
static bool find_local(const struct hub_store *s, const struct hub_file *file, const char *path,
                       const struct stat *st, bool *found, struct error *err)
{
    char hex[HUB_HEX_SIZE];
    if (metadata_agrees(s, file, st->st_mtime)) {
        *found = true;
        return true;
    }
    if (!hub_digest_file(path, file->kind, file->size, hex, err))
        return false;
    *found = strcmp(hex, file->digest) == 0;
    return !*found || s->look_only || place_metadata(s, file, err);
}

bool hub_store_find(const struct hub_store *s, const struct hub_file *file, bool *found, struct error *err)
{
    struct stat st;
    char *path = xasprintf("%s/%s", s->files, file->path), *blob = hub_store_target(s, file);
    bool ok = true;
    bool named = stat(path, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == file->size;
    *found = false;
    if (named && s->local) {
        ok = find_local(s, file, path, &st, found, err);
    } else if (named) {
        *found = true;
    } else if (!s->local && stat(blob, &st) == 0) {
        *found = S_ISREG(st.st_mode) && (uint64_t)st.st_size == file->size;
        if (*found && !s->look_only)
            ok = place_link(s, file, err);
        else if (!*found)
            warning("%s: it does not have the %llu bytes of %s; downloading it again", blob,
                    (unsigned long long)file->size, file->path);
    }
    free(path);
    free(blob);
    return ok;
}

bool hub_revision_is_valid(const char *revision)
{
    return hub_path_is_safe(revision);
}

bool hub_store_set_ref(const struct hub_store *s, const char *revision, struct error *err)
{
    if (s->local || strcmp(revision, s->commit) == 0)
        return true;
    char *path = xasprintf("%s/refs/%s", s->root, revision);
    bool ok = write_file(path, s->commit, err);
    free(path);
    return ok;
}
