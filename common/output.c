#include "output.h"

#include "fail.h"
#include "memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const char *output_option;
static bool force;
static uint64_t jobs;

const struct option_spec output_options[] = {
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_STRING,
     .value = &output_option,
     .argument = "PATH",
     .help = "where to write, instead of the operand"},
    {.name = "force",
     .letter = 'f',
     .kind = OPTION_FLAG,
     .value = &force,
     .help = "replace a checkpoint that is there"},
    {.name = "jobs",
     .letter = 'j',
     .kind = OPTION_NUMBER,
     .value = &jobs,
     .argument = "N",
     .help = "threads that copy (default: one a processor, at most 16)"},
    {0},
};

/* What has been made and must go when the program fails. */
static struct {
    char *target, *staging;
    char **made; /* directories above the target that had to be made, topmost first */
    size_t n_made, made_capacity;
    const char *const *entries;
    bool in_place;    /* the target was there: staging is inside it */
    bool may_replace; /* a file that is there */
} output;
static _Atomic bool stopping;

bool output_is_stopping(void)
{
    return stopping;
}

const char *output_target(int argc, char **argv, int first)
{
    const char *target = output_option ? output_option : argv[first];
    if (argc - first > (output_option ? 0 : 1))
        usage_error("one output is all there can be, but got '%s' as well", argv[argc - 1]);
    if (!target || !*target)
        usage_error("where to write is missing");
    return target;
}

unsigned output_jobs(void)
{
    cpu_set_t set;
    if (jobs)
        return jobs > 256 ? 256 : (unsigned)jobs;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n > 16 ? 16 : n < 1 ? 1 : (unsigned)n;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    remove(path);
    return 0;
}

static void remove_tree(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Other threads may still be writing a moment into staging: it is removed until it is gone. */
static void remove_output(void)
{
    struct stat st;
    stopping = true;
    for (int tries = 0; output.staging && lstat(output.staging, &st) == 0 && tries < 200; tries++) {
        remove_tree(output.staging);
        if (lstat(output.staging, &st) == 0)
            usleep(10000);
    }
    /* Other programs may have put something there meanwhile, and then it stays. */
    while (output.n_made > 0 && rmdir(output.made[output.n_made - 1]) == 0)
        output.n_made--;
}

static void *wait_for_signal(void *context)
{
    int signal_number;
    const sigset_t *set = context;
    if (sigwait(set, &signal_number) != 0)
        return NULL;
    fail_hold(); /* for good */
    fail_run_cleanups();
    signal(signal_number, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, set, NULL);
    raise(signal_number);
    return NULL;
}

static void watch_signals(void)
{
    static sigset_t set;
    pthread_t thread;
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU, SIGALRM, SIGUSR1, SIGUSR2};
    signal(SIGPIPE, SIG_IGN); /* that nobody reads the messages is no reason to stop */
    signal(SIGXFSZ, SIG_IGN); /* write() fails then, with EFBIG */
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct sigaction old;
        if (sigaction(numbers[i], NULL, &old) == 0 &&
            old.sa_handler != SIG_IGN) /* as nohup(1) leaves SIGHUP */
            sigaddset(&set, numbers[i]);
    }
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (pthread_create(&thread, NULL, wait_for_signal, &set) != 0)
        die(EXIT_DATA, "cannot start a thread");
    pthread_detach(thread);
}

static char *parent_of(const char *path)
{
    char *copy = xstrdup(path), *parent = xstrdup(dirname(copy));
    free(copy);
    return parent;
}

static char *base_of(const char *path)
{
    char *copy = xstrdup(path), *base = xstrdup(basename(copy));
    free(copy);
    return base;
}

/* mkdir -p, remembering what it made. */
static void make_parents(const char *directory)
{
    struct stat st;
    if (stat(directory, &st) == 0) {
        if (!S_ISDIR(st.st_mode))
            die(EXIT_DATA, "%s: is not a directory", directory);
        return;
    }
    char *parent = parent_of(directory);
    make_parents(parent);
    free(parent);
    fail_hold();
    if (mkdir(directory, 0777) == 0) {
        GROW(output.made, output.n_made, output.made_capacity);
        output.made[output.n_made++] = xstrdup(directory);
    } else if (errno != EEXIST) {
        die(EXIT_DATA, "%s: cannot make the directory: %s", directory, strerror(errno));
    }
    fail_release();
}

/* A hidden name beside the target, for mkstemp() or mkdtemp(). Names have at most 255 bytes (NAME_MAX). */
static char *staging_name(const char *target)
{
    char *parent = parent_of(target), *base = base_of(target);
    char *name = xasprintf("%s/.%.200s.ckpt-XXXXXX", parent, base);
    free(parent);
    free(base);
    return name;
}

static bool is_empty_directory(const char *path)
{
    DIR *dir = opendir(path);
    bool empty = true;
    if (!dir)
        die(EXIT_DATA, "%s: cannot open the directory: %s", path, strerror(errno));
    for (struct dirent *entry; empty && (entry = readdir(dir));)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    closedir(dir);
    return empty;
}

static mode_t current_umask(void)
{
    mode_t mask = umask(0);
    umask(mask);
    return mask;
}

const char *output_begin_directory(const char *target, const char *const *entries)
{
    struct stat st;
    fail_cleanup(remove_output);
    watch_signals();
    output.target = xstrdup(target);
    output.entries = entries;
    output.in_place = lstat(target, &st) == 0;
    if (output.in_place && stat(target, &st) == 0 && !S_ISDIR(st.st_mode))
        die(EXIT_DATA, "%s: is there and is not a directory; give another output", target);
    if (output.in_place && !force && !is_empty_directory(target))
        die(EXIT_DATA,
            "%s: is there and is not empty; remove it, or replace the checkpoint in it with --force", target);
    if (!output.in_place) {
        char *parent = parent_of(target);
        make_parents(parent);
        free(parent);
    }
    char *name = output.in_place ? xasprintf("%s/.ckpt-XXXXXX", target) : staging_name(target);
    fail_hold(); /* a signal finds it made and known, or neither */
    if (!mkdtemp(name))
        die(EXIT_DATA, "%s: cannot make a directory for the output: %s", target, strerror(errno));
    output.staging = name;
    fail_release();
    chmod(name, 0777 & ~current_umask());
    return output.staging;
}

void output_set_entries(const char *const *entries)
{
    output.entries = entries;
}

const char *output_begin_file(const char *target)
{
    struct stat st;
    fail_cleanup(remove_output);
    watch_signals();
    output.target = xstrdup(target);
    output.may_replace = force;
    if (lstat(target, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            die(EXIT_DATA, "%s: is a directory; give a file", target);
        if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
            die(EXIT_DATA, "%s: is not a regular file, and a checkpoint needs one", target);
        if (!force && st.st_size > 0)
            die(EXIT_DATA, "%s: is there already; remove it, or replace it with --force", target);
        output.may_replace = true;
    }
    char *parent = parent_of(target), *name = staging_name(target);
    make_parents(parent);
    free(parent);
    fail_hold();
    int fd = mkstemp(name);
    if (fd < 0)
        die(EXIT_DATA, "%s: cannot make a file for the output: %s", target, strerror(errno));
    output.staging = name;
    fail_release();
    fchmod(fd, 0666 & ~current_umask());
    close(fd);
    return output.staging;
}

void output_need_space(uint64_t bytes, uint64_t files)
{
    struct statvfs fs;
    if (statvfs(output.staging, &fs) != 0)
        return;
    uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    uint64_t needed = bytes + files * fs.f_frsize; /* the last block of a file is not full */
    if (free_bytes < needed)
        die(EXIT_DATA, "%s: no room: %llu bytes are needed and %llu are free", output.target,
            (unsigned long long)needed, (unsigned long long)free_bytes);
    if (fs.f_files > 0 && fs.f_favail < files)
        die(EXIT_DATA, "%s: no room: %llu files are needed and %llu are free (inodes)", output.target,
            (unsigned long long)files, (unsigned long long)fs.f_favail);
}

static void flush_to_disk(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || syncfs(fd) != 0 || close(fd) != 0)
        die(EXIT_DATA, "%s: cannot write to the disk: %s", output.target, strerror(errno));
}

/* Something that is replaced in a target that was there. */
struct replacement {
    char *there, *made, *aside; /* in the target; the new one and the old one in the staging directory */
    bool is_aside, is_placed;
};

/* The last entry says that the rest is complete, so the old one goes first and the new one comes last. */
static bool replace(struct replacement *r, size_t n, struct error *err)
{
    struct stat st;
    for (size_t i = n; i-- > 0;) {
        if (lstat(r[i].there, &st) != 0)
            continue;
        if (!force)
            return fail(err, "%s: has come meanwhile; remove it, or replace it with --force", r[i].there);
        if (rename(r[i].there, r[i].aside) != 0)
            return fail_errno(err, "%s: cannot be replaced", r[i].there);
        r[i].is_aside = true;
    }
    for (size_t i = 0; i < n; i++) {
        if (lstat(r[i].made, &st) != 0) /* it was only to be removed */
            continue;
        if (rename(r[i].made, r[i].there) != 0)
            return fail_errno(err, "%s: cannot rename %s to it", r[i].there, r[i].made);
        r[i].is_placed = true;
    }
    return true;
}

static bool put_back(const struct replacement *r, size_t n)
{
    bool ok = true;
    for (size_t i = n; i-- > 0;)
        if (r[i].is_placed)
            ok = rename(r[i].there, r[i].made) == 0 && ok;
    for (size_t i = 0; i < n; i++)
        if (r[i].is_aside)
            ok = rename(r[i].aside, r[i].there) == 0 && ok;
    return ok;
}

/* Replaces the entries of a target that was there, all of them or none. */
static void publish_in_place(void)
{
    struct error err;
    size_t n = 0;
    while (output.entries[n])
        n++;
    struct replacement *r = xcalloc(n, sizeof *r);
    char *old = xasprintf("%s/old", output.staging);
    output_directory(old);
    for (size_t i = 0; i < n; i++) {
        r[i].there = xasprintf("%s/%s", output.target, output.entries[i]);
        r[i].made = xasprintf("%s/%s", output.staging, output.entries[i]);
        r[i].aside = xasprintf("%s/%s", old, output.entries[i]);
    }
    if (!replace(r, n, &err)) {
        if (!put_back(r, n)) {
            output.staging = NULL; /* it stays */
            die(EXIT_DATA, "%s; what was replaced is in %s", err.message, old);
        }
        die_error(&err);
    }
    for (size_t i = 0; i < n; i++) {
        free(r[i].there);
        free(r[i].made);
        free(r[i].aside);
    }
    free(r);
    free(old);
    remove_tree(output.staging);
}

/* Gives the staging file or directory its name. A directory that is not empty is never replaced by rename(2).
 */
static void publish_new(void)
{
    unsigned flags = output.may_replace ? 0 : RENAME_NOREPLACE;
    int failed = renameat2(AT_FDCWD, output.staging, AT_FDCWD, output.target, flags);
    if (failed && flags && (errno == EINVAL || errno == ENOSYS)) /* some file systems cannot tell */
        failed = rename(output.staging, output.target);
    if (failed && (errno == EEXIST || errno == ENOTEMPTY))
        die(EXIT_DATA, "%s: has come meanwhile; remove it, or replace it with --force", output.target);
    if (failed)
        die(EXIT_DATA, "%s: cannot rename %s to it: %s", output.target, output.staging, strerror(errno));
}

void output_publish(void)
{
    flush_to_disk(output.staging);
    fail_hold(); /* a signal comes before all this or after it */
    if (output.in_place)
        publish_in_place();
    else
        publish_new();
    char *parent = output.in_place ? xstrdup(output.target) : parent_of(output.target);
    int fd = open(parent, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd); /* the rename itself */
        close(fd);
    }
    free(parent);
    free(output.staging);
    free(output.target);
    output.staging = output.target = NULL;
    while (output.n_made > 0)
        free(output.made[--output.n_made]);
    fail_release();
}

void output_small_file(const char *path, const char *content)
{
    FILE *file = fopen(path, "we");
    bool ok = file && fputs(content, file) >= 0;
    if (file && fclose(file) != 0)
        ok = false;
    if (!ok)
        die(EXIT_DATA, "%s: cannot write: %s", path, strerror(errno));
}

void output_directory(const char *path)
{
    if (mkdir(path, 0777) != 0)
        die(EXIT_DATA, "%s: cannot make the directory: %s", path, strerror(errno));
}
