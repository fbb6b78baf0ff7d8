/*
 * cli/forwarder.h: a listening socket on this machine whose connections lead to a port of
 * a sandbox, each by a ForwardTcp call of its own.
 *
 * What goes wrong with one connection, or with the way to the gateway, ends that
 * connection (with a reset, so that nobody takes it for an end of data) and is told;
 * the listener goes on, and connects to the gateway again when the next one comes.
 */
#ifndef CLI_FORWARDER_H
#define CLI_FORWARDER_H

#include <stdint.h>

#include "base/err.h"
#include "cli/forward_spec.h"
#include "cli/session.h"

struct forwarder;

#define FORWARDER_CONNECTIONS_MAX 1024 /* at once; more wait in the socket's backlog */

struct forwarder_options {
	const char *sandbox;
	const char *target_host; /* on the sandbox's loopback */
	uint16_t target_port;
	struct forward_spec spec;
	/* A connection has failed. May be NULL. */
	void (*failed)(void *cookie, const struct err *);
	void *cookie;
};

/* Listens. The strings are lent. */
struct forwarder *forwarder_create(
    struct session *, const struct forwarder_options *, struct err *);
void forwarder_free(struct forwarder *); /* resets what is open; NULL is legal */

uint16_t forwarder_port(const struct forwarder *); /* the real one */

#endif
