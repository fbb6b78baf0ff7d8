/*
 * relay/framed_rig.h: a framed call in one of its roles, and a raw call opposite that
 * sends and gets bytes as they are; or two framed calls. One loop, one connection.
 */
#ifndef TESTS_RELAY_FRAMED_RIG_H
#define TESTS_RELAY_FRAMED_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "relay/framed.h"
#include "rpc/client.h"
#include "rpc/server.h"

#define FRAMED_RIG_MARKS 256

enum side { SIDE_CLIENT, SIDE_SERVER, SIDE_CHANNEL };

/* Where something happens to a party's call, from inside. */
enum place { PLACE_NONE, PLACE_PAYLOAD, PLACE_MESSAGE, PLACE_END, PLACE_SENT };

struct bytes {
	uint8_t *data;
	size_t len, cap;
};

void bytes_add(struct bytes *, const void *, size_t len);
void bytes_free(struct bytes *);

/* What a framed call has said. */
struct party {
	struct framed *framed; /* NULL: over, or not begun */
	struct bytes payload;
	struct bytes messages;          /* each behind its length, which is one byte */
	size_t marks[FRAMED_RIG_MARKS]; /* how much payload was before it */
	size_t mark_count;
	bool hold; /* give no credit */
	size_t owed;
	uint64_t wrote, sent;
	unsigned ends, closeds, overs;
	bool has_status;
	struct err status, why;
	enum place place; /* cancels itself there, */
	bool finishes;    /* or finishes */
};

/* What a raw call has said. */
struct raw {
	struct rpc_call *call; /* NULL: over, or not begun */
	struct bytes body;
	uint64_t sent;
	bool ended, closed, has_status;
	struct err status, why;
};

struct framed_rig {
	struct loop *loop;
	struct rpc_server *server;
	struct rpc_client *client;
	struct party party; /* of the side in question; of two it is the client */
	struct party other; /* the server of two */
	struct raw raw;
	struct framed_options options;
	bool two, drained, disconnected;
};

/* The options go to every framed call. */
void framed_rig_open(struct framed_rig *, const struct framed_options *);

/* Checks that all is over that was begun. */
void framed_rig_close(struct framed_rig *);

/* Starts a call. Its server hears of it when the loop runs. */
void framed_rig_pair(struct framed_rig *, enum side);
void framed_rig_two(struct framed_rig *);

extern const struct framed_ops party_ops;

/* Runs the loop until it is so, or until there is nothing that could make it so. */
void framed_rig_until(struct framed_rig *, bool (*is)(struct framed_rig *));
void framed_rig_run(struct framed_rig *, uint32_t ms);
bool is_closed(struct framed_rig *);     /* the framed call, or both */
bool is_raw_closed(struct framed_rig *); /* that too */
bool is_begun(struct framed_rig *);      /* on both sides */

/* Sends bytes of a raw call, ends it (of a server: with OK), waits for both. */
void raw_send(struct framed_rig *, const void *, size_t len);

/* Sends payload: ${len} bytes of the pattern of ends.h. */
void party_write(struct party *, struct framed_field, size_t len);

#endif
