/*
 * relay/rig.h: a gateway on loopback TCP, and supervisors and clients made by hand.
 *
 * The gateway is rpc_server and tunnels and nothing else; a caller's token is the name
 * of its sandbox. With one loop everything runs on the test's own thread; with more,
 * the gateway's loops have threads, and the test's calls a loop of their own.
 *
 * Allocations of the rig's own are held (support/alloc.h). What cannot be begun, or sent,
 * for want of memory ends the call in question with that status.
 */
#ifndef TESTS_RELAY_RIG_H
#define TESTS_RELAY_RIG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "openshell/v1/openshell.pb-c.h"
#include "relay/tunnel.h"
#include "rpc/client.h"
#include "rpc/reader.h"
#include "rpc/server.h"

#define RIG_LOOPS_MAX 4
#define RIG_WAIT_MS   30000
#define RIG_SHORT_MS  300              /* without memory; then it is back */
#define RIG_ECHO      "/test.Rig/Echo" /* routed to the sandbox that metadata "sandbox" names */

struct rig {
	struct loop *loop; /* of the test; also the gateway's if it has only one */
	struct loop *loops[RIG_LOOPS_MAX];
	void *threads[RIG_LOOPS_MAX];
	size_t loop_count;
	struct rpc_server *server;
	struct tunnels *tunnels;
	char url[256];
	atomic_uint ups, downs;
	atomic_bool drained;
	unsigned clients; /* connections of the test not closed yet */
};

/* For every test: nothing is left open when it ends. */
int rig_setup(void **state);
int rig_teardown(void **state);

/* ${limits} may be NULL; its loops and events are not looked at. */
struct rig *rig_create(size_t loops, const struct tunnel_options *limits);
void rig_free(struct rig *);

/* Runs the test's loop until ${is} says so, the first RIG_SHORT_MS with as little memory as
 * alloc_fail_at() leaves; false: it did not within RIG_WAIT_MS. */
bool rig_until(struct rig *, bool (*is)(void *cookie), void *cookie);

/* Runs it for so long. */
void rig_run(struct rig *, uint32_t ms);

/* Waits for the gateway's counts to be these. */
bool rig_settled(struct rig *, uint32_t sessions, uint32_t unclaimed, uint32_t channels);

/* A connection of the test's. Whoever closes it waits in rig_free() at the latest. */
struct rpc_client *rig_connect(struct rig *);

/* The same; ${client} is NULL if it cannot be made, and from when it is lost. */
void rig_connect_at(struct rig *, struct rpc_client **client);

/* A call, and what has come of it. */
struct rig_call {
	struct rig *rig;
	struct rpc_call *call; /* NULL: over */
	uint8_t *got;          /* body bytes */
	size_t len, cap;
	uint64_t total, sum; /* of body bytes, also when they are not kept */
	bool discard;        /* count only */
	bool stalled;        /* give no credit */
	size_t owed;         /* credit held back */
	bool headers, ended, closed;
	char loop[16]; /* the header "towline-loop" */
	struct err status, why;
	uint64_t sent;
	void (*on_data)(struct rig_call *, struct slice *); /* may take the slice */
	void (*on_end)(struct rig_call *);
	void *cookie;
};

/* Starts a call; ${c} has to live until it has closed. ${names} are pairs of metadata,
 * ends with NULL. ${client} NULL: lost, and so is the call. */
void rig_start(struct rig *, struct rig_call *c, struct rpc_client *, const char *path,
    const char *const *names, uint64_t timeout_ms);
void rig_resume(struct rig_call *);
void rig_cancel(struct rig_call *);
void rig_call_free(struct rig_call *);

bool rig_ended(struct rig_call *);
bool rig_closed(struct rig_call *);
bool rig_got(struct rig_call *, size_t bytes);

/* Body bytes as they are. Nothing if the call is over. */
void rig_write(struct rig_call *, const void *, size_t);

/* A client's call of RIG_ECHO to a sandbox, whose first message is ${first}. */
void rig_route(
    struct rig *, struct rig_call *c, struct rpc_client *, const char *sandbox, const char *first);

/* A supervisor's control stream. */
struct rig_supervisor {
	struct rig *rig;
	struct rpc_client *client;
	struct rig_call control;
	struct rpc_reader reader;
	const char *sandbox;
	char session_id[64];
	bool accepted, rejected;
	bool mute; /* send no heartbeats */
	bool deaf; /* give no credit */
	uint32_t data_connections, heartbeat_secs, heartbeats, closes;
	uint64_t heartbeat_ms;
	Openshell__V1__GatewayMessage **opens; /* RelayOpens in order */
	size_t open_count, open_next, open_cap;
};

struct rig_hello {
	const char *sandbox;  /* the token */
	const char *claims;   /* hello's sandbox_id; NULL: the same */
	const char *instance; /* NULL: "one" */
	uint64_t epoch;
	bool foreign; /* has no features */
};

void rig_greet(struct rig *, struct rig_supervisor *, const struct rig_hello *);
bool rig_accepted(struct rig_supervisor *);
void rig_send(struct rig_supervisor *, Openshell__V1__SupervisorMessage *);
void rig_supervisor_free(struct rig_supervisor *);

/* The next RelayOpen; NULL: none came in time. */
const Openshell__V1__RelayOpen *rig_next_open(struct rig_supervisor *);

/* RelayStream with its init; as whom is for the test to say. ${session} may be NULL. */
void rig_claim(struct rig *, struct rig_call *c, struct rpc_client *, const char *sandbox,
    const char *session, const char *channel_id);

/* The client's call and the claimed stream, joined. */
struct rig_pair {
	struct rig_call client, tunnel;
};
void rig_join_many(struct rig_supervisor *, struct rpc_client *, struct rig_pair *, size_t n);
void rig_join(struct rig_supervisor *, struct rpc_client *, struct rig_pair *);
void rig_pair_free(struct rig_pair *);

/* A gateway of one loop, a supervisor of sandbox "a", and a client's connection. */
struct rig_scene {
	struct rig *rig;
	struct rpc_client *client;
	struct rig_supervisor super;
};
void rig_begin(struct rig_scene *, const struct tunnel_options *limits);
void rig_end(struct rig_scene *);

/* Ends the own direction of a RelayStream with a status, as supervisors do. */
void rig_end_with(struct rig_call *, enum grpc_code, const char *text);

/* Waits for the end, and for bytes. ${part} is to be found in the status; may be NULL. */
void rig_assert_status(struct rig_call *, enum grpc_code, const char *part);
void rig_assert_got(struct rig_call *, const char *text);

#endif
