/*
 * supervisor/reaper.h: who ends, and how. The supervisor is the reaper of its sandbox
 * (process 1 of a PID namespace, or a subreaper), so it collects children it made and
 * orphans it never knew, in one place.
 */
#ifndef SUPERVISOR_REAPER_H
#define SUPERVISOR_REAPER_H

#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/loop.h"

struct reaper;
struct child;

/* One a process; watches SIGCHLD on ${loop}. */
struct reaper *reaper_create(struct loop *, struct err *);
void reaper_free(struct reaper *); /* asserts that no child is left; NULL is legal */

/* ${ended} runs once, from the loop, with the status of wait(2); then the child is
 * gone. To be called in the same turn in which the process was made. NULL: no memory. */
struct child *reaper_add(
    struct reaper *, pid_t, void (*ended)(void *cookie, int status), void *cookie);

/* The number is valid as long as the child has not ended. */
pid_t child_pid(const struct child *);

/* Its end is nobody's business any more: reaped in silence. NULL is legal. */
void child_forget(struct child *);

/* SIGKILL to every process the reaper could inherit, until none is left or ${ms}
 * have passed. Blocks: for the end of the supervisor. */
void reaper_kill_all(unsigned ms);

#endif
