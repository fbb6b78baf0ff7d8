/*
 * cli/local.h: the gateway that this user runs on this machine.
 *
 *	$XDG_STATE_HOME/openshell/gateways/NAME/data/        its --data-dir
 *	                                       /ready.json   while it serves
 *	                                       /gateway.log  what it says
 *
 * Whether it runs is asked of the lock it holds on its data, not of a process number.
 */
#ifndef CLI_LOCAL_H
#define CLI_LOCAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/config.h"
#include "base/err.h"
#include "cli/paths.h"

#define LOCAL_NAME_DEFAULT "local"
#define LOCAL_START_MS     30000
#define LOCAL_STOP_MS      15000 /* from SIGTERM on; it drains for a few seconds */

struct local_paths {
	char folder[PATHS_MAX], data[PATHS_MAX], ready[PATHS_MAX], log[PATHS_MAX];
};

int local_paths(const char *name, struct local_paths *, struct err *);

/* Its process, 0 if it does not run. */
pid_t local_pid(const struct local_paths *);

/* The endpoint it serves on, which the caller frees. NULL: it does not (yet). */
char *local_endpoint(const struct local_paths *, struct err *);

struct local_start {
	const struct config_list_value *listen;
	const char *driver, *log_level; /* NULL: the gateway's default */
	char *const *more;              /* words for the gateway; ends with NULL; may be NULL */
	bool foreground;                /* it has our standard error and our terminal */
};

/* Starts it and waits until it serves. The error has the last of its log. What does not serve
 * after LOCAL_START_MS is ended, by SIGKILL after LOCAL_STOP_MS more. */
int local_start(const struct local_paths *, const struct local_start *, pid_t *, struct err *);

/* Waits for the end of a gateway that local_start() gave us; its exit code. */
int local_wait(pid_t, struct err *);

/* Ends it, and waits until it is gone: LOCAL_STOP_MS, then DEADLINE_EXCEEDED. NOT_FOUND: it
 * does not run. */
int local_stop(const struct local_paths *, int ms, struct err *);

#endif
