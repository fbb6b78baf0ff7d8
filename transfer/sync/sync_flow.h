/*
 * transfer/sync/sync_flow.h: either end of a sync on a call: its thread, and the loop's part.
 * Called on the loop. ended() runs exactly once, last, and the owner frees the flow, maybe
 * inside. Private to the room.
 */
#ifndef TRANSFER_SYNC_SYNC_FLOW_H
#define TRANSFER_SYNC_SYNC_FLOW_H

#include "base/buf.h"
#include "base/loop.h"
#include "relay/framed.h"
#include "transfer/sync/sync_peer.h"

struct sync_flow;

struct sync_flow_env {
	struct loop *loop;
	struct framed *call;
	bool source;
	struct sync_team *team;      /* held as long as the flow is; may be NULL */
	bool joins;                  /* it, and does what its leader's options say */
	struct sync_options options; /* but for excluded(), team and cookie, which are the flow's */
	const char *const *exclude;  /* patterns; ends with NULL; may be NULL */
	size_t preface;              /* bytes sent before, which sync_flow_sent() will be told of */

	/* On the flow's thread: the root, which the flow closes. -1 without ${err}: it is
	 * missing, and this is the target of a dry run. NULL: it joins. */
	int (*open)(void *cookie, struct err *);
	void (*note)(void *cookie, const char *text); /* any thread; these may be NULL */
	void (*item)(void *cookie, enum sync_act, const struct sync_entry *);
	void (*spread)(void *cookie);
	void (*ended)(void *cookie, const struct sync_counts *, const struct err *);
	void *cookie;
};

struct sync_flow *sync_flow_start(const struct sync_flow_env *, struct err *);
void sync_flow_push(struct sync_flow *, struct slice); /* takes it, always */
void sync_flow_sent(struct sync_flow *, size_t bytes);
void sync_flow_eof(struct sync_flow *);
uint64_t sync_flow_moved(const struct sync_flow *); /* bytes, both ways */

/* The thread's next call fails with ${why}. */
void sync_flow_abort(struct sync_flow *, const struct err *why);

/* The call is gone, and is not touched any more. If its end had come before, what came is
 * still worked through; else ended() comes with ${why}. */
void sync_flow_stop(struct sync_flow *, const struct err *why);
void sync_flow_free(struct sync_flow *); /* in ended() or after. NULL is legal */

#endif
