#include "hub_signal.h"

#include "fail.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t arrived;
static int wake_fd = -1;

static void on_signal(int number)
{
    int saved = errno;
    arrived = number;
    hub_wake();
    errno = saved;
}

void hub_catch_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_fd < 0)
        die(EXIT_DATA, "cannot make an event descriptor; close other programs or raise ulimit -n");
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction now, old;
        /* What was ignored from the start (nohup, a background job) stays ignored. */
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler == SIG_IGN)
            continue;
        now = (struct sigaction){.sa_handler = on_signal};
        sigaction(signals[i], &now, NULL);
    }
}

int hub_interrupted(void)
{
    return arrived;
}

_Noreturn void hub_die_of_signal(void)
{
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigaction(arrived, &plain, NULL);
    raise(arrived);
    _exit(128 + arrived);
}

int hub_wake_fd(void)
{
    return wake_fd;
}

void hub_wake(void)
{
    uint64_t one = 1;
    ssize_t written = write(wake_fd, &one, sizeof one);
    (void)written; /* it fails only when the counter is full, and then the loop wakes anyway */
}

void hub_wake_reset(void)
{
    uint64_t count;
    ssize_t n = read(wake_fd, &count, sizeof count);
    (void)n;
}

double hub_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void hub_pause(double seconds)
{
    double until = hub_now() + seconds;
    for (double left = seconds; left > 0 && !arrived; left = until - hub_now()) {
        struct pollfd wake = {.fd = wake_fd, .events = POLLIN};
        poll(&wake, 1, (int)(left * 1000) + 1);
        hub_wake_reset();
    }
}
