/*
 * gateway/ssh_workers.h: the gateway's own SSH endpoints: starts them, watches them, and
 * starts one that died, or that hangs, again.
 *
 * All accept from one listening socket, so that who comes while one is being started again
 * waits for the others, or for it. Each start has a token of its own. First loop.
 */
#ifndef GATEWAY_SSH_WORKERS_H
#define GATEWAY_SSH_WORKERS_H

#include <stddef.h>

#include "base/err.h"
#include "base/loop.h"
#include "gateway/ssh_endpoints.h"

#define SSH_WORKERS_RETRY_MIN_MS 200 /* before one that died is started again; doubles */
#define SSH_WORKERS_RETRY_MAX_MS 30000
#define SSH_WORKERS_STEADY_MS    60000 /* one that lived so long begins at the shortest wait */
#define SSH_WORKERS_ATTEND_MS    15000 /* SIGKILL to one that runs and does not attend so long */
#define SSH_WORKERS_CHECK_MS     1000  /* from one look for such to the next */
#define SSH_WORKERS_STOP_MS      3000  /* SIGKILL to what has not ended on SIGTERM */

struct ssh_workers;

struct ssh_workers_options {
	struct loop *loop;
	struct ssh_endpoints *endpoints;
	unsigned count;
	const char *program;     /* absolute */
	const char *gateway_url; /* of the internal listener */
	const char *host_key;    /* path */
	const char *log_level, *log_format;
	int listener; /* taken on success */
};

/* Starts them all. A worker that cannot be started now is tried again. Strings are copied. */
struct ssh_workers *ssh_workers_create(const struct ssh_workers_options *, struct err *);

/* SIGTERM to all; none is started any more. Twice is harmless. */
void ssh_workers_stop(struct ssh_workers *);

/* Waits for their ends, and kills what does not. NULL is legal. */
void ssh_workers_free(struct ssh_workers *);

#endif
