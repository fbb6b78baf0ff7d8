#include "relay/tunnel.h"

#include <assert.h>
#include <stdlib.h>

#include "relay/channel.h"
#include "relay/claim.h"
#include "relay/registry.h"
#include "relay/session.h"

static void tunnels_expire(void *cookie)
{
	channel_expire(cookie);
}

static uint32_t tunnels_default(uint32_t value, uint32_t otherwise)
{
	return value != 0 ? value : otherwise;
}

struct tunnels *tunnels_create(const struct tunnel_options *options, struct err *e)
{
	struct tunnels *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		err_set(e, GRPC_RESOURCE_EXHAUSTED, "tunnels: out of memory");
		return NULL;
	}
	t->first = options->loops[0];
	t->loop_count = options->loop_count;
	t->events = options->events;
	t->claim_ms = tunnels_default(options->claim_ms, TUNNEL_CLAIM_MS);
	t->unclaimed_max = tunnels_default(options->unclaimed_max, TUNNEL_UNCLAIMED_MAX);
	t->channels_max = tunnels_default(options->channels_max, TUNNEL_CHANNELS_MAX);
	t->unclaimed_sandbox_max =
	    tunnels_default(options->unclaimed_sandbox_max, TUNNEL_UNCLAIMED_SANDBOX_MAX);
	t->heartbeat_ms = tunnels_default(options->heartbeat_ms, TUNNEL_HEARTBEAT_MS);
	TAILQ_INIT(&t->by_age);
	t->sandboxes = map_create();
	t->waiting = map_create();
	t->expiry = timer_create_on(t->first, tunnels_expire, t);
	if (t->sandboxes == NULL || t->waiting == NULL || t->expiry == NULL) {
		tunnels_free(t);
		err_set(e, GRPC_RESOURCE_EXHAUSTED, "tunnels: out of memory");
		return NULL;
	}
	return t;
}

void tunnels_free(struct tunnels *t)
{
	if (t == NULL)
		return;
	assert(t->sandboxes == NULL || map_count(t->sandboxes) == 0);
	timer_free(t->expiry);
	map_free(t->sandboxes);
	map_free(t->waiting);
	free(t);
}

void tunnels_connect(struct tunnels *t, struct rpc_call *call, const char *sandbox_id)
{
	session_serve(t, call, sandbox_id);
}

void tunnels_relay(struct tunnels *t, struct rpc_call *call, const char *sandbox_id)
{
	claim_serve(t, call, sandbox_id);
}

void tunnels_route(struct tunnels *t, struct rpc_call *call, const struct tunnel_request *request,
    struct bufq *rest)
{
	channel_route(t, call, request, rest);
}

void tunnels_drop(struct tunnels *t, const char *sandbox_id, const struct err *why)
{
	struct sandbox *sandbox = registry_find(t, sandbox_id);

	if (sandbox != NULL)
		registry_drop(t, sandbox, why);
}

struct tunnels_shutting {
	struct tunnels *tunnels;
	const struct err *why;
};

static bool tunnels_shut_one(void *cookie, const char *key, void *value)
{
	struct tunnels_shutting *s = cookie;

	(void)key;
	registry_drop(s->tunnels, value, s->why);
	return true;
}

void tunnels_shut(struct tunnels *t, const struct err *why)
{
	struct tunnels_shutting s = { t, why };

	t->shut = true;
	map_each(t->sandboxes, tunnels_shut_one, &s);
}

bool tunnels_is_up(struct tunnels *t, const char *sandbox_id)
{
	const struct sandbox *sandbox = registry_find(t, sandbox_id);

	return sandbox != NULL && sandbox->session != NULL;
}

void tunnels_stats(struct tunnels *t, struct tunnel_stats *stats)
{
	*stats = (struct tunnel_stats){
		.sessions = atomic_load(&t->sessions),
		.unclaimed = atomic_load(&t->unclaimed),
		.channels = atomic_load(&t->channels),
		.opened = atomic_load(&t->opened),
		.expired = atomic_load(&t->expired),
		.refused = atomic_load(&t->refused),
		.cross_loop = atomic_load(&t->cross_loop),
	};
}
