/*
 * relay/tunnel.h: the gateway's end of the tunnels.
 *
 * Knows which supervisor is connected, opens channels to it, matches the RelayStream
 * that claims a channel with the client's call that waits for it, and splices the
 * two. The registry belongs to the first loop; its functions may be called on any
 * loop and go there by message when need be. Streams stay on their own loops.
 */
#ifndef RELAY_TUNNEL_H
#define RELAY_TUNNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/loop.h"
#include "rpc/call.h"

#define TUNNEL_CLAIM_MS              10000 /* for a channel to be claimed */
#define TUNNEL_UNCLAIMED_MAX         256   /* channels waiting, in all */
#define TUNNEL_UNCLAIMED_SANDBOX_MAX 32    /* and of one sandbox */
#define TUNNEL_CHANNELS_MAX          65536 /* spliced, in all */
#define TUNNEL_CHANNELS_SANDBOX_MAX  4096
#define TUNNEL_HEARTBEAT_MS          15000
#define TUNNEL_HEARTBEATS_MISSED     3

struct tunnels;

/* On the first loop, from the loop. Strings are borrowed. A session that is superseded is
 * followed by another up(), without a down(); one that the gateway ends itself has no
 * down() either. */
struct tunnel_events {
	void (*up)(
	    void *cookie, const char *sandbox_id, const char *instance_id, const char *version);
	void (*down)(void *cookie, const char *sandbox_id, const struct err *why);
	void *cookie;
};

struct tunnel_options {
	struct loop **loops;
	size_t loop_count;
	struct tunnel_events events;
	/* 0: the default above. */
	uint32_t claim_ms, unclaimed_max, unclaimed_sandbox_max, channels_max, heartbeat_ms;
};

struct tunnels *tunnels_create(const struct tunnel_options *, struct err *);

/* After the server has drained; asserts that no channel is left. */
void tunnels_free(struct tunnels *);

/* ConnectSupervisor and RelayStream: the gateway has found out that the caller is
 * the supervisor of ${sandbox_id}. Both take the call over. Any loop. A hello that
 * names another sandbox is PERMISSION_DENIED; a RelayStream that claims a channel of
 * another sandbox or session likewise, and the channel stays claimable; an unknown
 * or expired channel is NOT_FOUND. */
void tunnels_connect(struct tunnels *, struct rpc_call *, const char *sandbox_id);
void tunnels_relay(struct tunnels *, struct rpc_call *, const char *sandbox_id);

/* Ends a sandbox's session and its channels (stopped, deleted). First loop. */
void tunnels_drop(struct tunnels *, const char *sandbox_id, const struct err *why);
bool tunnels_is_up(struct tunnels *, const char *sandbox_id); /* first loop */

/* The gateway is going: ends every session and channel with ${why}, and takes no more.
 * First loop, before rpc_server_drain(), which else waits for supervisors. */
void tunnels_shut(struct tunnels *, const struct err *why);

enum tunnel_target { TUNNEL_TARGET_CALL, TUNNEL_TARGET_TCP };

struct tunnel_request {
	const char *sandbox_id;
	const char *method; /* rpc_call_path() of the client's call */
	const char *subject;
	const uint8_t *first_message; /* packed, as the supervisor is to see it; copied */
	size_t first_len;
	bool half_closed; /* the client has ended its direction, and the call's owner knows */
	/* For supervisors that do not know call targets: the same as a TCP target; host
	 * NULL: there is no such form, and the call is UNIMPLEMENTED there. */
	const char *tcp_host;
	uint32_t tcp_port;
};

/*
 * Joins a client's call to a channel of its sandbox's tunnel; takes the call over
 * (it must be bound to nobody's later use) and ${rest}, body bytes that came behind
 * the first message (moved out; may be empty or NULL). Called on the call's loop.
 * Whatever happens, the client gets exactly one status: of the supervisor, or
 * UNAVAILABLE (no session, tunnel lost), DEADLINE_EXCEEDED (not claimed in time),
 * RESOURCE_EXHAUSTED (limits). One line is logged when it ends.
 */
void tunnels_route(
    struct tunnels *, struct rpc_call *, const struct tunnel_request *, struct bufq *rest);

struct tunnel_stats {
	uint32_t sessions, unclaimed, channels;
	uint64_t opened, expired, refused, cross_loop;
};
void tunnels_stats(struct tunnels *, struct tunnel_stats *); /* any thread */

#endif
