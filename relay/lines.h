/*
 * relay/lines.h: a supervisor's data connections, one on each loop of the gateway.
 *
 * The gateway deals connections out to its loops in turn and cannot be told where to
 * put one, so each new line asks where it has landed (relay/wire.h). One that doubles
 * another is replaced while some loop is without, as often as LINES_SPARE_ATTEMPTS
 * allows; after that it is kept as it is.
 */
#ifndef RELAY_LINES_H
#define RELAY_LINES_H

#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "rpc/client.h"
#include "rpc/meta.h"
#include "rpc/tls.h"

#define LINES_MAX            16 /* DIALER_CONNECTIONS_MAX */
#define LINES_SPARE_ATTEMPTS 2  /* a line, beyond the first */
#define LINES_PROBE_MS       10000
#define LINES_REDIAL_MS      1000 /* after one was lost */

struct lines;

struct lines_options {
	const struct address *address; /* looked up; borrowed, like meta, until all are closed */
	struct rpc_tls *tls;
	const struct rpc_meta *meta; /* for the probe's RelayStream */
	uint32_t count;              /* wanted; as many loops has the gateway */
	uint32_t probe_ms;           /* 0: LINES_PROBE_MS */
};

/* Starts dialling. NULL: no memory. */
struct lines *lines_create(struct loop *, const struct lines_options *, struct err *);

/* The line on the gateway's loop ${loop} (index + 1), else any, else NULL: none is
 * ready. */
struct rpc_client *lines_pick(struct lines *, uint32_t loop);

/* How many are ready. */
uint32_t lines_ready(const struct lines *);

/* Closes all, with the channels on them; ${done} runs once, last, from the loop. */
void lines_close(struct lines *, void (*done)(void *cookie), void *cookie);

#endif
