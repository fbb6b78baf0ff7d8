/*
 * unit/rpc/pair.h: two HTTP/2 sessions joined in memory, or one against frames made by
 * hand. Bytes move in pieces that a seeded generator chooses.
 *
 * An end is driven as a connection drives its session: it frames when it was woken or
 * when there was more, so a wake() that is missing shows as a transfer that stops.
 *
 * What a session tells is counted a stream and checked for order as it comes; bodies are
 * a pattern of direction, stream and offset, checked on arrival. Failed checks end the
 * test.
 */
#ifndef TESTS_RPC_PAIR_H
#define TESTS_RPC_PAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rpc/h2.h"

struct pair_end;

/* A stream as its user at one end sees it. Lives as long as the pair. */
struct pair_stream {
	struct pair_end *end;
	struct pair_stream *next;
	struct h2_stream *h2; /* NULL: released */
	int32_t id;
	bool stalled; /* data() gives no credit back; set by hooks or from the start */
	bool let_go;  /* detached or reset: nothing may be told */
	unsigned heads, ends, trailers, closes, releases;
	uint32_t code;                    /* of closed() */
	uint64_t written, sent;           /* bytes taken of us, bytes told to have left */
	uint64_t received, credited;      /* bytes told to us, credit given back */
	struct slice last;                /* what data() brought last, if the end keeps it */
	char head[512], last_head[512];   /* "name: value\n", of the first and last block */
	const struct meta_field *trailer; /* what trailers() submits instead of a status */
	void *cookie;                     /* the test's */
};

/* What a test does as it is told something. All may be NULL. */
struct pair_hooks {
	void (*head)(struct pair_stream *);
	void (*data)(struct pair_stream *, size_t);
	void (*end)(struct pair_stream *);
	void (*sent)(struct pair_stream *, size_t);
	void (*closed)(struct pair_stream *);
};

struct pair_bytes {
	uint8_t *data;
	size_t at, len, cap;
};

struct pair_end {
	struct pair *pair;
	struct pair_end *peer;
	struct h2 *h2; /* NULL: by hand */
	struct rpc_options options;
	struct pair_hooks hooks;
	bool is_server, keeps, refuses; /* keeps: pair_stream.last; refuses: accept() fails */
	bool woken, blocked;
	bool shut;   /* takes no output away: the socket is full */
	bool failed; /* h2_feed() or h2_frame() said so, as ${err} has it */
	bool busy;   /* inside of the session: nothing may be told */
	struct err err;
	struct outq out;
	struct pair_bytes in;        /* on the way to this end */
	size_t out_peak;             /* bytes framed and not moved */
	unsigned turns;              /* that were over before the input was */
	struct pair_stream *streams; /* the newest first */
	void *cookie;                /* the test's */
};

struct pair {
	struct pair_end client, server;
	uint64_t seed, random;
	uint64_t now_ms;
	size_t piece_max; /* bytes moved at once */
};

void pair_bytes_add(struct pair_bytes *, const void *, size_t);

/* Options of a small session: windows that a test can fill. */
struct rpc_options pair_options(uint32_t stream_window, uint32_t conn_window);

/* NULL for an end's options: it is by hand. */
void pair_open(struct pair *, uint64_t seed, const struct rpc_options *client,
    const struct rpc_options *server);

/* Frees all, and checks that every stream was released, once. */
void pair_close(struct pair *);

uint64_t pair_random(struct pair *, uint64_t below);

/* Moves one piece. False: there was none. */
bool pair_step(struct pair *);

/* Moves until all is quiet, and checks that nobody wants to say more. */
void pair_run(struct pair *);

/* One end alone: frames what is ready (false: nothing), moves up to ${max} bytes of it. */
bool pair_output(struct pair_end *, size_t max);
/* Feeds up to ${max} bytes, all of one block. */
bool pair_input(struct pair_end *, size_t max);

/* Streams: a request of a client; the newest at an end, or by its id. */
struct pair_stream *pair_request(struct pair *);
struct pair_stream *pair_find(struct pair_end *, int32_t id);

/* Response headers; ${only}: they end the stream. */
void pair_respond(struct pair_stream *, bool only);

/* ${len} bytes of the pattern, by one write. -1: not taken. */
int pair_write(struct pair_stream *, size_t len);

void pair_credit(struct pair_stream *, size_t);
void pair_detach(struct pair_stream *);
void pair_reset(struct pair_stream *, uint32_t code);

/* The connection is lost: h2_stop() at this end. */
void pair_stop(struct pair_end *);

/* By hand. Numbers as RFC 9113 has them. */
enum pair_frame_type {
	PAIR_DATA,
	PAIR_HEADERS,
	PAIR_PRIORITY,
	PAIR_RST_STREAM,
	PAIR_SETTINGS,
	PAIR_PUSH_PROMISE,
	PAIR_PING,
	PAIR_GOAWAY,
	PAIR_WINDOW_UPDATE,
	PAIR_CONTINUATION
};

#define PAIR_END_STREAM  1u
#define PAIR_ACK         1u
#define PAIR_END_HEADERS 4u
#define PAIR_PADDED      8u

struct pair_frame {
	size_t len;
	uint8_t type, flags;
	int32_t id;
	const uint8_t *payload; /* good until the session frames again */
};

/* Puts bytes, a frame, or a frame with a number in it, on the way to the session. */
void pair_put(struct pair *, const void *, size_t);
void pair_put_frame(
    struct pair *, unsigned type, unsigned flags, int32_t id, const void *payload, size_t);
void pair_put_u32(struct pair *, unsigned type, int32_t id, uint32_t value);
/* SETTINGS of one entry. */
void pair_put_settings(struct pair *, uint16_t name, uint32_t value);
/* What a client begins with; nothing if the session is a client. SETTINGS come next. */
void pair_put_preface(struct pair *);
/* A POST's header block, whole; ${to} has room for 512 bytes. Returns its length. */
size_t pair_request_block(uint8_t *to);
void pair_put_request(struct pair *, int32_t id, bool end_stream);
void pair_put_response(struct pair *, int32_t id, bool end_stream);

/* A literal field that is not indexed. Returns how many bytes of ${to} it took. */
size_t pair_field(uint8_t *to, const char *name, const char *value);

/* The next whole frame of what the session has moved. False: none. */
bool pair_take(struct pair *, struct pair_frame *);
/* Takes until such a frame comes; false: none does. */
bool pair_take_type(struct pair *, unsigned type, struct pair_frame *);
/* The number at an offset of the payload. */
uint32_t pair_u32(const struct pair_frame *, size_t offset);

#endif
