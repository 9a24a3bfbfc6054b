#include "progress.h"

#include "fail.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static bool forced;
static const char *verb;
static uint64_t total_bytes;
static _Atomic uint64_t done_bytes;
static double begin_time, next_time;
static bool running, line_shown;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

const struct option_spec progress_options[] = {
    {.name = "progress",
     .kind = OPTION_FLAG,
     .value = &forced,
     .help = "show progress even if standard error is no terminal"},
    {.name = "quiet",
     .letter = 'q',
     .kind = OPTION_FLAG,
     .value = &fail_quiet,
     .help = "no progress, no warnings"},
    {0},
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void show(double time, bool last)
{
    double seconds = time - begin_time, rate = seconds > 0 ? (double)done_bytes / seconds : 0;
    double gib = 1024.0 * 1024.0 * 1024.0;
    fprintf(stderr, "\r%s: %s %.2f", fail_program(), verb, (double)done_bytes / gib);
    if (total_bytes)
        fprintf(stderr, " of %.2f GiB (%.0f%%)", (double)total_bytes / gib,
                100.0 * (double)done_bytes / (double)total_bytes);
    else
        fprintf(stderr, " GiB");
    fprintf(stderr, ", %.2f GiB/s", rate / gib);
    if (last)
        fprintf(stderr, ", %.1f s        \n", seconds);
    else if (total_bytes && rate > 0 && done_bytes <= total_bytes)
        fprintf(stderr, ", %.0f s left    ", (double)(total_bytes - done_bytes) / rate);
    fflush(stderr);
    line_shown = true;
}

static void break_line(void)
{
    if (running && line_shown)
        fputc('\n', stderr);
    running = false;
}

void progress_begin(const char *what, uint64_t total)
{
    static bool registered;
    if (fail_quiet || (!forced && !isatty(STDERR_FILENO)))
        return;
    if (!registered)
        fail_cleanup(break_line);
    registered = true;
    verb = what;
    total_bytes = total;
    done_bytes = 0;
    begin_time = now();
    next_time = begin_time + (forced ? 0.5 : 2);
    line_shown = false;
    running = true;
}

void progress_add(uint64_t bytes)
{
    done_bytes += bytes;
    if (!running || pthread_mutex_trylock(&lock) != 0)
        return;
    double time = now();
    if (running && time >= next_time) {
        show(time, false);
        next_time = time + 0.25;
    }
    pthread_mutex_unlock(&lock);
}

void progress_end(void)
{
    if (running && (line_shown || forced))
        show(now(), true);
    running = false;
}
