/*
 * rpc/outq.h: what a connection has framed and not yet written. Inside of rpc only.
 *
 * Control bytes (frame headers, whole control frames, tiny payloads) are gathered
 * in small blocks; larger payload is kept by reference. Bytes leave in the order
 * they were added. The queue does not limit itself: its user stops adding when
 * ${bytes} or ${count} say so.
 */
#ifndef RPC_OUTQ_H
#define RPC_OUTQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/buf.h"

#define OUTQ_CONTROL_SIZE ((size_t)4096) /* bytes of a block of gathered bytes */
#define OUTQ_COPY_MAX     ((size_t)512)  /* payload up to here is gathered: a vector costs more */

struct outq_entry {
	const uint8_t *data;
	size_t len;
	struct block *owner;
	void *tag;       /* whose payload it is; NULL: control bytes only */
	uint32_t head;   /* how many of the first bytes are not payload */
	bool is_settled; /* pins nothing but itself */
};

struct outq {
	struct outq_entry *ring;
	size_t head, count, cap;
	size_t bytes;
	struct block *control; /* being filled */
	size_t control_used;
};

/* Called for each entry bytes have left from: ${payload} bytes of ${tag}'s;
 * ${gone}: that was the last of the entry, which held ${tag}. */
typedef void outq_left(void *cookie, void *tag, size_t payload, bool gone);

void outq_init(struct outq *);

/* Drops what is queued, telling ${left} about each tag (0 bytes, gone). */
void outq_free(struct outq *, outq_left *left, void *cookie);

/* Makes room so that ${entries} more slices and one frame header cannot fail. -1:
 * no memory. */
int outq_reserve(struct outq *, size_t entries);

/* Copies control bytes. -1: no memory, nothing is queued. */
int outq_add_control(struct outq *, const uint8_t *, size_t);

/* The header of a frame, after outq_reserve(). */
void outq_add_head(struct outq *, const uint8_t *, size_t);

/* Payload of ${tag}; takes the slice. After outq_reserve(). */
void outq_add_payload(struct outq *, struct slice, void *tag);

/* Describes the head; returns how many vectors were filled. */
size_t outq_peek(const struct outq *, struct iovec *, size_t n);

/* ${bytes} of the head have left. */
void outq_drop(struct outq *, size_t bytes, outq_left *left, void *cookie);

/* Replaces payload kept by reference by private copies, so that output nobody takes
 * pins no receive block. */
void outq_settle(struct outq *);

/* Gives memory back that is kept for reuse. */
void outq_trim(struct outq *);

#endif
