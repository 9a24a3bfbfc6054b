/* Interrupting and waking the download loop, which waits for many things at once. */
#ifndef HUB_SIGNAL_H
#define HUB_SIGNAL_H

#include <stdbool.h>

/* From now on SIGINT, SIGTERM and SIGHUP only set what hub_interrupted() returns, and wake the loop. */
void hub_catch_signals(void);

/* The signal that arrived, or 0. */
int hub_interrupted(void);

/* Ends the process by the signal that arrived, so that the shell sees it. */
_Noreturn void hub_die_of_signal(void);

/* Becomes readable when hub_wake() was called or a signal arrived. */
int hub_wake_fd(void);
void hub_wake(void);
void hub_wake_reset(void);

/* Sleeps. Returns early when a signal arrives. */
void hub_pause(double seconds);

/* Monotonic time in seconds. */
double hub_now(void);

#endif
