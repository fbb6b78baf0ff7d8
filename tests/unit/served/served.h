/*
 * served/served.h: calls over a real connection, and at its other end what serves them in a
 * supervisor. One loop.
 */
#ifndef TESTS_SERVED_SERVED_H
#define TESTS_SERVED_SERVED_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "relay/dialer.h"
#include "relay/framed.h"
#include "rpc/server.h"

struct served {
	struct loop *loop;
	struct rpc_server *server;
	struct rpc_method served;
	struct rpc_client *client;
	const struct channel_method *method;
	void *app;      /* of the method */
	uint8_t *first; /* message of the next call */
	size_t first_len;
	struct framed *call; /* the client's; NULL: over */
	bool hold;           /* what comes is not credited */
	size_t received;     /* bytes of payload */
	size_t owed;         /* of it, not credited */
	bool ended;
	struct err status;
	bool drained, disconnected;
};

/* Ends the test program if it cannot be had. */
void served_open(struct served *, const struct channel_method *, void *app);
void served_close(struct served *);

/* Begins a call. One at a time; what comes of it is dropped. */
void served_call(struct served *, const ProtobufCMessage *first);
void served_take(struct served *); /* it is credited from now on */

/* Runs the loop until it is so; ends the test if that takes ten seconds. */
void served_until(struct served *, bool (*is)(struct served *));
bool served_is_over(struct served *); /* the call */

#endif
