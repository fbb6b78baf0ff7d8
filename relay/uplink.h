/*
 * relay/uplink.h: one session of a supervisor with the gateway, its own end.
 *
 * A connection, ConnectSupervisor on it, and the heartbeats. It is made once and ends
 * once; the dialer makes the next. Everything on one loop; callbacks come from it.
 */
#ifndef RELAY_UPLINK_H
#define RELAY_UPLINK_H

#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "rpc/client.h"
#include "rpc/meta.h"
#include "rpc/tls.h"

#define UPLINK_ANSWER_MS         15000 /* to connect and have hello answered */
#define UPLINK_HEARTBEAT_MS      15000 /* when the gateway names no interval */
#define UPLINK_HEARTBEAT_MIN_MS  10
#define UPLINK_HEARTBEAT_MAX_MS  300000
#define UPLINK_HEARTBEATS_MISSED 3

struct uplink;

struct uplink_terms {
	const char *session_id;
	uint32_t data_connections;
	uint32_t loop; /* of the gateway, plus 1; 0: it does not say */
};

struct uplink_options {
	const struct address *address; /* looked up */
	struct rpc_tls *tls;
	const struct rpc_meta *meta; /* sent along with the call */
	const Openshell__V1__SupervisorHello *hello;
	uint32_t answer_ms; /* 0: UPLINK_ANSWER_MS */

	/* All borrowed. ended() runs once and last, when every call on the connection
	 * is over; ${why} has the code that the gateway ended the session with. */
	void (*accepted)(void *cookie, const struct uplink_terms *);
	void (*open)(void *cookie, const Openshell__V1__RelayOpen *);
	void (*close)(void *cookie, const char *channel_id, const char *reason);
	void (*ended)(void *cookie, const struct err *why);
	void *cookie;
};

/* Options are needed during the call only, but for what the callbacks need. */
struct uplink *uplink_create(struct loop *, const struct uplink_options *, struct err *);

/* ended() will run. Twice is harmless. */
void uplink_close(struct uplink *, const struct err *why);

/* A message to the gateway, if the session is still there. */
void uplink_send(struct uplink *, const ProtobufCMessage *);

/* How often we speak, and the gateway should; good once it is accepted. */
uint64_t uplink_period_ms(const struct uplink *);

/* The connection, for channels while there is no other. */
struct rpc_client *uplink_client(struct uplink *);

#endif
