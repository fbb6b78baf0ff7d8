/*
 * supervisor/served.h: calls over a real connection, and at its other end what serves them in
 * a supervisor. One loop.
 */
#ifndef TESTS_SUPERVISOR_SERVED_H
#define TESTS_SUPERVISOR_SERVED_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "rpc/server.h"
#include "supervisor/supervisor.h"

struct served {
	struct supervisor supervisor; /* on the loop; the rest of it is the test's */
	struct rpc_server *server;
	struct rpc_client *client;
	const struct channel_method *method;
	uint8_t *first; /* message of the next call */
	size_t first_len;
	struct framed *call; /* the client's; NULL: over */
	bool ended;
	struct err status;
	bool drained, disconnected;
};

/* Ends the test program if it cannot be had. */
void served_open(struct served *, const struct channel_method *);
void served_close(struct served *);

/* Begins a call. One at a time; what comes of it is credited and dropped. */
void served_call(struct served *, const ProtobufCMessage *first);

/* Runs the loop until it is so; ends the test if that takes ten seconds. */
void served_until(struct served *, bool (*is)(struct served *));
bool served_is_over(struct served *); /* the call */

#endif
