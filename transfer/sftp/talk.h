/*
 * transfer/sftp/talk.h: a protocol spoken over a call's bytes by a thread that may block, such as
 * SFTP. Private to the room.
 *
 *	call -> slices -> talk_need(), talk_copy(), talk_peek(), talk_drop()
 *	call <- slices <- talk_put() (gathered), talk_give()
 *
 * What comes is looked at where it was received, and only what the thread has done with is
 * credited; what goes waits while TALK_OUT_WINDOW bytes are under way. So whoever does not
 * read the answers is not asked for more requests, and no side's memory grows.
 */
#ifndef TRANSFER_SFTP_TALK_H
#define TRANSFER_SFTP_TALK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "relay/framed.h"
#include "transfer/transfers.h"

#define TALK_AHEAD_BYTES ((size_t)2 << 20)  /* credited before the thread has done with them */
#define TALK_OUT_WINDOW  ((size_t)2 << 20)  /* bytes under way to the client */
#define TALK_BATCH_BYTES ((size_t)16 << 10) /* of small answers, gathered while requests wait */
#define TALK_BLOCK_BYTES (((size_t)256 << 10) + ((size_t)4 << 10)) /* of one large answer */
#define TALK_BLOCKS_KEPT 10  /* blocks to be written anew while requests keep coming */
#define TALK_SLICES      512 /* held at once; more are copied into one */

/* How the thread reaches its client; all block. */
struct talk_link {
	/* 1: a slice, the thread's own. 0: no more comes, or without ${wait} none is there. */
	int (*take)(void *cookie, struct slice *, bool wait, struct err *);
	void (*used)(void *cookie, size_t bytes);              /* of slices taken */
	int (*give)(void *cookie, struct slice, struct err *); /* takes it on success */
	bool (*is_gone)(void *cookie); /* nobody waits for what the thread does */
};

struct talk {
	const struct talk_link *link;
	void *cookie;
	struct bufq in;
	struct text out;
	struct block *kept[TALK_BLOCKS_KEPT];
};

void talk_init(struct talk *, const struct talk_link *, void *cookie);
void talk_free(struct talk *);

/* Waits until ${n} bytes are there: 1; 0: the client ended before. Before it waits, all that
 * was put leaves. */
int talk_need(struct talk *, size_t n, struct err *);
size_t talk_there(const struct talk *);

/* Of what is there: copies the first ${n} bytes; describes up to ${max} of them where they
 * are; drops them. */
void talk_copy(const struct talk *, void *to, size_t n);
size_t talk_peek(const struct talk *, struct iovec iov[static TALK_SLICES], size_t max);
void talk_drop(struct talk *, size_t n);

/* Text to add small answers to, followed by talk_gathered(), which sends what is many. */
struct text *talk_out(struct talk *);
int talk_gathered(struct talk *, struct err *);
int talk_flush(struct talk *, struct err *);

/* A large answer goes in a block of its own: at least ${size} <= TALK_BLOCK_BYTES, with one
 * reference, the caller's. NULL: no memory. talk_give() takes the slice, always, and sends it
 * behind what was put. */
struct block *talk_block(struct talk *, size_t size);
int talk_give(struct talk *, struct slice, struct err *);

bool talk_is_gone(const struct talk *);

/* Serving one. */
struct talk_work {
	/* On the thread; speaks until the client ends. -1: it could not be understood. */
	int (*run)(void *arg, struct talk *, struct err *);
	/* On the loop, once, before the call's status: what is left to be said. NULL: nothing. */
	void (*last)(void *arg, struct framed *);
	void (*free)(void *arg); /* on the loop, at the very end */
};

/* Takes the call over, and ${arg}, on success. */
int talk_serve(struct transfers *, struct framed *, bool half_closed, const struct talk_work *,
    void *arg, struct err *);

#endif
