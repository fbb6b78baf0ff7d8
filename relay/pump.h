/*
 * relay/pump.h: one direction of a relay, from a source to a sink.
 *
 *	source --pump_push--> pump --write--> sink
 *	source <---credit---- pump <--pump_sent-- sink
 *
 * A byte the source pushes is written to the sink at once; the sink holds it until
 * it has left and then says so, and only then does the source get credit for
 * another. So what is under way never exceeds the source's window, and the pump
 * itself has no queue. The pump counts, keeps the order of the ending (end of
 * stream behind the last byte; failure at once, on both ends), and knows neither
 * sockets nor streams: a test drives it with arrays.
 *
 *	OPEN --eof--> DRAINING --the last byte has left--> DONE
 *	  |              |
 *	  +--------------+--fail, or write() returns -1--> FAILED
 */
#ifndef RELAY_PUMP_H
#define RELAY_PUMP_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/loop.h"

/* Where bytes come from. Credit is the only way to get more of them. */
struct pump_source {
	void (*credit)(void *self, size_t bytes);
	void (*stop)(void *self, const struct err *why); /* nobody will read more */
	void *self;
};

/* Where bytes go. write() takes the slice, or returns -1: nobody reads there any
 * more. finish() ends the stream behind what was written. */
struct pump_sink {
	int (*write)(void *self, struct slice);
	void (*finish)(void *self);
	void (*stop)(void *self, const struct err *why);
	void *self;
};

/* A source with so much under way has used up the window it was born with (RPC_WINDOW), and
 * waits unless that has grown. */
#define PUMP_STALL_BYTES ((size_t)1 << 20)

enum pump_state { PUMP_OPEN, PUMP_DRAINING, PUMP_DONE, PUMP_FAILED };

struct pump;

/* ${done} runs exactly once and last, from the loop, never from inside a call of
 * this header; after pump_free() never. ${why} has code GRPC_OK at PUMP_DONE.
 * NULL: no memory. */
struct pump *pump_create(struct loop *, struct pump_source, struct pump_sink,
    void (*done)(void *cookie, const struct err *why), void *cookie);

/* Tells neither end. Legal also inside the functions of either. NULL is legal. */
void pump_free(struct pump *);

/* Called by the source. Takes the slice, always: what comes after the end or a failure
 * is dropped, and no credit is given for it. */
void pump_push(struct pump *, struct slice);
void pump_eof(struct pump *);

/* Called when either end breaks; stops both. Of no effect when it is over. */
void pump_fail(struct pump *, const struct err *);

/* Called by the sink when ${bytes} have left for good; asserts that they were under way.
 * Legal also inside write(). */
void pump_sent(struct pump *, size_t bytes);

enum pump_state pump_state(const struct pump *);
const char *pump_state_name(enum pump_state);

struct pump_stats {
	uint64_t bytes;  /* pushed */
	uint64_t stalls; /* times PUMP_STALL_BYTES were under way */
	size_t under_way, peak;
};
void pump_stats(const struct pump *, struct pump_stats *);

#endif
