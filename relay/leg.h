/*
 * relay/leg.h: one of the two calls of a relay, as a pump's source and sink.
 *
 * Both are calls that the gateway serves: a client's, and the RelayStream with which
 * a supervisor claimed the channel opened for it. A leg is made before its other
 * half is there; until it is joined it keeps what arrives, and gives no credit, so
 * that the stream's window bounds it. All of this happens on the call's loop.
 *
 *	held --leg_attach, leg_start--> joined --the call ends--> over
 *	held --leg_refuse--> finished, and frees itself
 */
#ifndef RELAY_LEG_H
#define RELAY_LEG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/loop.h"
#include "relay/pump.h"
#include "rpc/call.h"

struct leg;

enum leg_side { LEG_CLIENT, LEG_TUNNEL };

/* Bytes and slices kept until a leg is joined. The stream's window ends it earlier. */
#define LEG_EARLY_BYTES  ((size_t)8 << 20)
#define LEG_EARLY_SLICES 16384

/*
 * Takes ${call} over, and moves out of ${early} (which may be NULL) what came before;
 * nobody has given credit for it. ${gone} runs, once, if the call ends while the leg
 * is held; the leg is then the caller's to free or, if it is too late for that, to
 * join. NULL: no memory; the call has been finished.
 */
struct leg *leg_create(enum leg_side, struct rpc_call *, struct bufq *early,
    void (*gone)(void *cookie, const struct err *why), void *cookie);

/* The peer's direction has ended already, before the call was ours. */
void leg_set_ended(struct leg *);

/* A held leg that nobody will join: finishes the call; the leg frees itself. No
 * callback comes any more. */
void leg_refuse(struct leg *, const struct err *status);

/* A leg that is over, or held and gone. Any thread. NULL is legal. */
void leg_free(struct leg *);

struct loop *leg_loop(const struct leg *);

/* What the pumps on either side of the call need. The sink may be used from when the
 * leg is attached. A write to a call that is over is swallowed: the other leg hears
 * of the end through its own sink's stop(). */
struct pump_source leg_source(struct leg *);
struct pump_sink leg_sink(struct leg *);

/* What a leg is joined to. */
struct leg_joint {
	struct pump *in;      /* from this call to the other; the leg frees it */
	struct pump_sink far; /* where it leads; stop() tells that this call is over */

	/* ${bytes} of the other call's have left through this one. */
	void (*sent)(void *cookie, size_t bytes);
	void *sent_cookie;

	/* The call is over and ${in} is gone. Runs once and last, from the loop. */
	void (*over)(void *cookie, struct leg *);
	void *over_cookie;

	/* LEG_TUNNEL: a supervisor that ends without a status has failed; else it is OK.
	 * LEG_CLIENT: how the tunnel's leg ended is the verdict, once finish() is called. */
	bool needs_status;
	const struct leg *other;
};

/* Attach both legs of a relay before starting either: starting passes on what came
 * early. */
void leg_attach(struct leg *, const struct leg_joint *);
void leg_start(struct leg *);

/* ${bytes} of what ${in} took have left through the other call. */
void leg_credit(struct leg *, size_t bytes);

/* Ends a client's leg, and through ${far} the other one when it is joined: the client is
 * told ${why}. Harmless when it is over. */
void leg_abort(struct leg *, const struct err *why);

/* Good when the leg is over (the numbers), or settled (the verdict): of a client what
 * it was told, of a tunnel's leg what the supervisor said. */
const struct pump_stats *leg_stats(const struct leg *);
const struct err *leg_verdict(const struct leg *);

#endif
