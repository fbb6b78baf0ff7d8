/*
 * rpc/reader.h: whole gRPC messages out of body slices, for calls that carry
 * messages and not streams of bytes.
 */
#ifndef RPC_READER_H
#define RPC_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* Compressed flag, length as 32 bits (gRPC over HTTP2, "Length-Prefixed-Message"). */
#define RPC_PREFIX_SIZE 5

struct rpc_reader {
	struct bufq queue;
	uint8_t prefix[RPC_PREFIX_SIZE]; /* of the message that comes next */
	size_t prefix_len;
	uint8_t *message; /* a message that lies in several slices is gathered here */
	size_t filled, cap;
	size_t max_message;
	struct slice current; /* keeps a message that lies in one slice alive */
};

void rpc_reader_init(struct rpc_reader *, size_t max_message);
void rpc_reader_free(struct rpc_reader *);

/* Takes the slice, always. RESOURCE_EXHAUSTED when more is queued than one message
 * and a stream window can hold. */
int rpc_reader_push(struct rpc_reader *, struct slice, struct err *);

/* 1: a message, borrowed until the next call on the reader. 0: not yet whole.
 * -1: UNIMPLEMENTED (compressed), RESOURCE_EXHAUSTED (larger than max_message; the
 * error says both sizes), INTERNAL (a flag byte that is neither 0 nor 1). */
int rpc_reader_next(struct rpc_reader *, const uint8_t **message, size_t *len, struct err *);

/* Part of a message is queued: an end of stream now means truncation. To be asked
 * after rpc_reader_next() has given 0. */
bool rpc_reader_is_partial(const struct rpc_reader *);

/* Moves what is queued and not yet read out, in order, into ${to}. -1: it does not
 * fit, or no memory; nothing has moved. */
int rpc_reader_rest(struct rpc_reader *, struct bufq *to);

#endif
