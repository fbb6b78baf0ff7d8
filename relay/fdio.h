/*
 * relay/fdio.h: a descriptor as two pump ends.
 *
 * Reads a socket, pipe or terminal into the loop's blocks while there is credit;
 * writes a bounded queue with writev(), once a turn. Half-close is kept: end of file
 * on reading is eof, and finish() ends the writing side behind the last byte. Not for
 * regular files.
 *
 * What the end of writing is depends on the descriptor: one of its own is closed; a
 * socket that is also read is shut down; and to the master of a pseudo-terminal, which
 * cannot be closed one way, goes what ends input there (VEOF, Ctrl-D).
 *
 * The program ignores SIGPIPE (loop_ignore_sigpipe()). O_NONBLOCK belongs to what a
 * descriptor refers to: who shares that with another process shares this too.
 */
#ifndef RELAY_FDIO_H
#define RELAY_FDIO_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/loop.h"
#include "relay/pump.h"

#define FDIO_WINDOW     ((size_t)1 << 20)  /* bytes read and not yet sent on */
#define FDIO_QUEUE_MAX  ((size_t)72 << 20) /* bytes waiting: more than a window of any call */
#define FDIO_SLICES_MAX 4096               /* waiting; more are gathered into one */

struct fdio;

struct fdio_ops {
	/* Bytes read; the receiver owns the slice, and gives fdio_credit() back when
	 * they have left. */
	void (*data)(void *cookie, struct slice);
	void (*eof)(void *cookie);

	/* ${bytes} more of what was written are off the queue: with the kernel, or
	 * dropped, and then failed() follows. NULL if of no interest. */
	void (*sent)(void *cookie, size_t bytes);

	/* Reading or writing failed (ECONNRESET, EPIPE...). Writing fails alone: with
	 * ${reading} false, data() goes on. A terminal whose other end closed is eof. */
	void (*failed)(void *cookie, bool reading, const struct err *);
};

struct fdio_options {
	int read_fd;   /* -1: nothing to read */
	int write_fd;  /* -1: nothing to write; may equal read_fd (sockets, terminals) */
	size_t window; /* 0: FDIO_WINDOW */
	const struct fdio_ops *ops;
	void *cookie;
};

/* Takes both descriptors (on success), sets them non-blocking. Reading starts
 * with the first turn. Callbacks come from the loop. */
struct fdio *fdio_create(struct loop *, const struct fdio_options *, struct err *);

void fdio_credit(struct fdio *, size_t bytes);

/* Takes on success. -1: writing has ended or failed; what could not be queued
 * (FDIO_QUEUE_MAX, no memory) fails it. */
int fdio_write(struct fdio *, struct slice);
void fdio_finish(struct fdio *); /* end of writing behind the queue */
size_t fdio_queued(const struct fdio *);
int fdio_fd(const struct fdio *); /* the one read from, for ioctl(2); still the fdio's */

/* Stops, releases the queue, closes what is open. No callback after; legal inside one.
 * NULL is legal. */
void fdio_free(struct fdio *);

/* The same object seen by a pump. */
struct pump_source fdio_source(struct fdio *);
struct pump_sink fdio_sink(struct fdio *);

#endif
