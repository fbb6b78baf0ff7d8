/*
 * relay/fdio.h: a descriptor as two pump ends.
 *
 * Reads a socket, pipe or terminal into the loop's blocks while there is credit;
 * writes a bounded queue with writev(). Half-close is kept: end of file on reading
 * is eof, and finish() shuts a socket's writing side down, closes a pipe, or types a
 * terminal's end-of-file character, behind the last byte. Not for regular files.
 */
#ifndef RELAY_FDIO_H
#define RELAY_FDIO_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/loop.h"
#include "relay/pump.h"

#define FDIO_WINDOW ((size_t)1 << 20) /* bytes read and not yet sent on */

struct fdio;

struct fdio_ops {
	/* Bytes read; the receiver owns the slice, and gives fdio_credit() back when
	 * they have left. */
	void (*data)(void *cookie, struct slice);
	void (*eof)(void *cookie);
	void (*sent)(void *cookie, size_t bytes);
	/* Reading or writing failed (ECONNRESET, EPIPE...). Writing fails alone: with
	 * ${reading} false, data() goes on. A terminal whose other end closed is eof. */
	void (*failed)(void *cookie, bool reading, const struct err *);
};

struct fdio_options {
	int read_fd;	 /* -1: nothing to read */
	int write_fd;	 /* -1: nothing to write; may equal read_fd (sockets, terminals) */
	size_t window;	 /* 0: FDIO_WINDOW */
	const struct fdio_ops *ops;
	void *cookie;
};

/* Takes both descriptors (on success), sets them non-blocking. Reading starts
 * with the first turn. Callbacks come from the loop. */
struct fdio *fdio_create(struct loop *, const struct fdio_options *, struct err *);

void fdio_credit(struct fdio *, size_t bytes);
int fdio_write(struct fdio *, struct slice); /* takes on success; -1: ended or failed */
void fdio_finish(struct fdio *);	     /* end of writing behind the queue */
size_t fdio_queued(const struct fdio *);
int fdio_fd(const struct fdio *); /* the one read from, for ioctl(2); still the fdio's */

/* Stops, releases the queue, closes what is open. No callback after. NULL is legal. */
void fdio_free(struct fdio *);

/* The same object seen by a pump. */
struct pump_source fdio_source(struct fdio *);
struct pump_sink fdio_sink(struct fdio *);

#endif
