/*
 * transfer/lane.h: bytes between a loop and a thread that may block.
 *
 * libarchive wants to pull and to push bytes and to wait while there are none; that
 * needs a thread. A lane is the bounded way to it (inbound: loop to thread) or from
 * it (outbound). The side that goes first closes it, and the other finds out at its
 * next call: nobody waits for one who is gone.
 */
#ifndef TRANSFER_LANE_H
#define TRANSFER_LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/loop.h"

#define LANE_SLICES_MAX 65536 /* that wait; more are too small to be honest */

struct lane;

struct lane_ops {
	/* Inbound: the thread has used ${bytes} up. */
	void (*used)(void *cookie, size_t bytes);
	/* Outbound: bytes from the thread; the receiver owns the slice and gives
	 * lane_credit() back. NULL: the thread writes nothing. */
	void (*data)(void *cookie, struct slice);
	/* The thread's function has returned ${result}, with ${err} if it is -1. Last. */
	void (*ended)(void *cookie, int result, const struct err *err);
	size_t out_window; /* bounds what is outbound, if not as ${window} */
};

/* Starts a thread that runs ${work}; ${window} bounds what waits in it, each way. Callbacks
 * come from the loop. NULL: no thread to be had. */
struct lane *lane_start(struct loop *, size_t window,
    int (*work)(struct lane *, void *arg, struct err *), void *arg, const struct lane_ops *,
    void *cookie, struct err *);

/* On the loop. Inbound: takes the slice on success, -1 when the thread reads no more (and
 * used() will not tell of it). So it is from then on when there is no room for the slice, or
 * no memory: the thread's next call fails with RESOURCE_EXHAUSTED. */
int lane_push(struct lane *, struct slice);
void lane_eof(struct lane *);
void lane_credit(struct lane *, size_t bytes);

/* On the loop or the threads: nobody will push or take any more; the threads' next calls
 * fail with ${why}, which is what the first such call said. ended() still comes. */
void lane_abort(struct lane *, const struct err *why);

/* In ended() or after: joins the thread and frees. */
void lane_free(struct lane *);

/* On the thread; both block until the other side or lane_abort() moves. A thread that the
 * first has started may write while that reads. */
ssize_t lane_read(struct lane *, const void **bytes, struct err *);
int lane_write(struct lane *, const void *bytes, size_t, struct err *);

/* The same on the thread without a copy, for one that keeps what it reads for a while. A
 * slice that is taken is the thread's, which tells of its bytes with lane_release() when it has
 * done with them: 1. 0: no more comes, or without ${wait} none is there now. lane_give() takes
 * the slice on success. */
int lane_take(struct lane *, struct slice *, bool wait, struct err *);
void lane_release(struct lane *, size_t bytes);
int lane_give(struct lane *, struct slice, struct err *);
bool lane_is_aborted(struct lane *);

#endif
