/*
 * supervisor/supervisor.h: what the parts of a supervisor share.
 */
#ifndef SUPERVISOR_SUPERVISOR_H
#define SUPERVISOR_SUPERVISOR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/loop.h"
#include "base/worker.h"
#include "relay/dialer.h"
#include "supervisor/reaper.h"
#include "transfer/serve.h"

struct exec;
struct ports;

#define SUPERVISOR_EXECS_MAX    1024 /* commands at once; more: RESOURCE_EXHAUSTED */
#define SUPERVISOR_FORWARDS_MAX 4096 /* connections at once; likewise */

/* Made by main; lives as long as the process. All on one loop. */
struct supervisor {
	struct loop *loop;
	struct workers *workers;
	struct reaper *reaper;
	struct transfers *transfers;
	struct dialer *dialer;
	struct ports *ports;
	const char *workdir;            /* absolute */
	char *const *environment;       /* of every command, before the request's own */
	char *const *login_environment; /* the same after a login shell has seen it */
	size_t execs, forwards;
	unsigned forward_connect_ms, forward_drain_ms; /* as supervisor/forward.h has them */
	bool rejected;                                 /* the gateway will never take us */
	struct exec *exec_list; /* commands that run, whether or not their client is still there */
};

/* A row of the channel table; ${app} is the supervisor. */
void exec_open(struct framed *, const struct channel_request *, void *app);

/* Ends every command's process group now; for the end of the supervisor. */
void exec_end_all(struct supervisor *);

#endif
