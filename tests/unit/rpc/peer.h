/*
 * unit/rpc/peer.h: the other end of a connection, made by hand: it writes frames to a
 * socket, and notes what comes back. It acknowledges SETTINGS and PING, and opens its
 * windows as wide as they go, unless it is told not to.
 */
#ifndef TESTS_RPC_PEER_H
#define TESTS_RPC_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"

struct ssl_st;
struct nghttp2_hd_inflater;

#define PEER_STREAMS 64

enum peer_frame {
	PEER_DATA,
	PEER_HEADERS,
	PEER_PRIORITY,
	PEER_RST_STREAM,
	PEER_SETTINGS,
	PEER_PUSH_PROMISE,
	PEER_PING,
	PEER_GOAWAY,
	PEER_WINDOW_UPDATE,
	PEER_CONTINUATION,
	PEER_FRAMES
};

#define PEER_ACK         1u
#define PEER_END_STREAM  1u
#define PEER_END_HEADERS 4u
#define PEER_WINDOW_MAX  0x7fffffffu

struct peer_stream {
	char head[1024]; /* "name: value\n" of all its blocks */
	unsigned blocks;
	uint64_t data, sum; /* bytes of DATA, and their net_sum() */
	bool ended, was_reset;
	uint32_t reset; /* its code */
	int64_t window; /* what may be sent */
};

struct peer {
	struct loop *loop;
	struct timer *tick;
	int fd;             /* -1: closed */
	struct ssl_st *ssl; /* NULL: plain */
	bool silent;        /* acknowledges nothing */
	bool deaf;          /* does not read */
	size_t pace;        /* bytes read in a millisecond; 0: all there are */

	uint8_t *out, *in;
	size_t out_at, out_len, out_cap, in_len, in_cap;
	struct peer_stream streams[PEER_STREAMS];
	int64_t window;
	uint32_t stream_window;
	struct nghttp2_hd_inflater *inflater;

	unsigned frames
	    [PEER_FRAMES]; /* how many have come; no acknowledgements, nor PINGs that measure */
	unsigned acks;     /* of SETTINGS and PING */
	bool eof, broken;  /* the connection's end has come; by a reset */
	uint32_t goaway, goaway_last; /* of the last GOAWAY: its code and stream */
	uint32_t first_last;          /* of the first: its stream */
};

/* Connects to "127.0.0.1:port" or "unix:path"; takes ${ssl}, which may be NULL. */
void peer_connect(struct peer *, struct loop *, const char *bound, struct ssl_st *ssl);
/* Of a socket that is connected; takes it. */
void peer_open(struct peer *, struct loop *, int fd, struct ssl_st *ssl);
void peer_close(struct peer *); /* its socket; what it has noted stays */
void peer_free(struct peer *);

struct peer_stream *peer_stream(struct peer *, uint32_t id);

/* What is written from the next millisecond on. */
void peer_put(struct peer *, const void *, size_t);
void peer_frame(struct peer *, unsigned type, unsigned flags, uint32_t id, const void *, size_t);
void peer_u32(struct peer *, unsigned type, uint32_t id, uint32_t value);
/* What a client or a server begins with: SETTINGS with such a stream window. */
void peer_begin(struct peer *, bool is_client, uint32_t stream_window);

/* A header block of pairs of names and values, ended by NULL. */
void peer_headers(struct peer *, unsigned flags, uint32_t id, const char *const *fields);
/* A gRPC request; ${more} are further fields, or NULL. */
void peer_request(struct peer *, uint32_t id, const char *path, const char *const *more);
/* A message in one DATA frame. */
void peer_message(struct peer *, unsigned flags, uint32_t id, const char *text);

#endif
