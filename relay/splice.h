/*
 * relay/splice.h: two calls joined into one relay.
 *
 *	client's call --pump--> tunnel's call	requests, half-close
 *	client's call <--pump-- tunnel's call	responses, status
 *
 * Body bytes pass verbatim. Where the two calls are on one loop, a pump leads from
 * each straight into the other; on two loops a handover lies between. Each direction
 * ends for itself. The end of the whole travels on its own path: a client that resets
 * or runs out of time has its tunnel stream reset at once, and a tunnel stream that
 * is lost ends the client's call with UNAVAILABLE. leg_abort() of the client's leg ends
 * both.
 */
#ifndef RELAY_SPLICE_H
#define RELAY_SPLICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "relay/leg.h"

struct splice;

struct splice_result {
	uint64_t bytes_up, bytes_down; /* up: towards the sandbox */
	uint64_t stalls_up, stalls_down;
	bool cross_loop;
	const struct err *status; /* what the client got */
};

/* ${done} runs once, on the loop of the leg that was the last to end, when both
 * calls are over; then splice_free(). */
typedef void splice_done(void *cookie, const struct splice_result *);

/*
 * Joins two held legs, on the tunnel leg's loop; takes both. ${needs_status}: see
 * leg_joint. NULL: no memory, and both are still the caller's.
 */
struct splice *splice_join(
    struct leg *client, struct leg *tunnel, bool needs_status, splice_done *done, void *cookie);

/* After done. Frees the legs too. Any thread. NULL is legal. */
void splice_free(struct splice *);

#endif
