/*
 * relay/registry.h: which supervisors are connected, and which channels they were
 * asked for. For the files behind relay/tunnel.h.
 *
 * All of it belongs to the first loop, but for what is marked otherwise. A session's
 * stream and a channel's two calls live on loops of their own; they and the registry
 * tell each other by posts that are part of the object they are about, and each post
 * under way holds a reference to it. Where both are on one loop, registry_run() makes
 * a plain call of it.
 */
#ifndef RELAY_REGISTRY_H
#define RELAY_REGISTRY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/map.h"
#include "relay/tunnel.h"

struct channel;
struct session;

TAILQ_HEAD(registry_channels, channel);

/* A sandbox that has a session or channels; the entry goes when it has neither. */
struct sandbox {
	char *id;
	struct session *session;            /* the newest; NULL: none at present */
	struct registry_channels unclaimed; /* offered, or waiting for a session */
	struct registry_channels claimed;
	uint32_t unclaimed_count, claimed_count;
	uint32_t pins; /* somebody is walking it */
};

struct tunnels {
	struct loop *first;
	size_t loop_count;
	struct tunnel_events events;
	uint32_t claim_ms, unclaimed_max, unclaimed_sandbox_max, channels_max, heartbeat_ms;

	struct map *sandboxes; /* by id */
	struct map *waiting;   /* channels to be claimed, by id */
	struct registry_channels by_age;
	struct timer *expiry;
	bool shut;

	/* Any thread. */
	atomic_uint sessions, unclaimed, channels;
	atomic_ullong opened, expired, refused, cross_loop;
};

/* Runs a post on the first loop: at once when that is where we are. */
void registry_run(struct tunnels *, struct post *);

/* The same for any loop. */
void registry_run_on(struct loop *, struct post *);

/* The sandbox's entry; NULL: there is none. registry_enter() makes one; NULL: no memory. */
struct sandbox *registry_find(const struct tunnels *, const char *sandbox_id);
struct sandbox *registry_enter(struct tunnels *, const char *sandbox_id);

/* Frees the entry if nothing keeps it. */
void registry_settle(struct tunnels *, struct sandbox *);

/* A session has said hello: it is accepted, and supersedes the one before, or it is
 * rejected. */
void registry_greet(struct tunnels *, struct session *);

/* A session has ended. Its claimed channels end with it; the others wait for the next. */
void registry_lost(struct tunnels *, struct session *, const struct err *why);

/* The gateway ends a sandbox's session and all its channels. Nobody is told of it
 * through the events. */
void registry_drop(struct tunnels *, struct sandbox *, const struct err *why);

#endif
