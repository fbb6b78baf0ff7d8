/*
 * drivers/local/process.h: processes that are not our children any more, told apart
 * from others that got their number later.
 */
#ifndef DRIVERS_LOCAL_PROCESS_H
#define DRIVERS_LOCAL_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* Who runs: what supervisor.pid says. The start time (proc(5), /proc/PID/stat field
 * 22) makes the number unique until the next boot. */
struct process {
	pid_t pid;
	uint64_t start_time;
	unsigned isolation;
	int refused;
	char instance[64];
};

/* 0, or -1 when there is no such process. */
int process_start_time(pid_t, uint64_t *start_time);

/* supervisor.pid in ${dir}: written beside and renamed. Read: NOT_FOUND if missing. */
int process_save(int dir, const struct process *, struct err *);
int process_load(int dir, struct process *, struct err *);

/* A pidfd (CLOEXEC) of just that process; -1 if it is gone. */
int process_open(const struct process *);

/* Sends ${sig} to every process that descends from ${pid} (0: nobody does) or whose
 * environment says it belongs to the sandbox, but not to ${pid} itself; ${count} is how many
 * there were. -1: not all processes could be looked at, for want of memory or descriptors.
 * For sandboxes without a PID namespace. Blocks shortly (/proc). */
int process_signal_members(pid_t pid, const char *sandbox_id, int sig, size_t *count);

/* SIGKILL to those who belong to the sandbox by their environment, until none is left;
 * DEADLINE_EXCEEDED after ${ms}, also if that cannot be seen. Blocks: for a worker. */
int process_end_members(const char *sandbox_id, unsigned ms, struct err *);

#endif
