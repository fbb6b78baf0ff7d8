/*
 * gateway/ssh.h: SSH as a gateway offers it: where clients dial, the host key, and the
 * sessions. The endpoints themselves are processes, towline-sshd.
 *
 * When SSH cannot be offered (no such program, the port is taken) the gateway runs all the
 * same, says so in its log once, and tells those who ask for a session. First loop, but for
 * what is said otherwise; constant once the gateway serves.
 */
#ifndef GATEWAY_SSH_H
#define GATEWAY_SSH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "gateway/options.h"
#include "gateway/ssh_access.h"
#include "gateway/ssh_attend.h"
#include "gateway/ssh_endpoints.h"
#include "gateway/ssh_host.h"
#include "gateway/ssh_sessions.h"

struct gateway;

struct ssh {
	struct err off; /* why there is none; GRPC_OK: there is */
	struct ssh_host key;
	char host[256]; /* for clients */
	uint16_t port;
	char gateway_host[256], gateway_scheme[8];
	uint16_t gateway_port;
	struct ssh_sessions *sessions;
	struct ssh_endpoints *endpoints;
	struct ssh_attends *attends;
	struct ssh_workers *workers; /* NULL: none of our own */
	int listener;                /* theirs; -1: none */
	char internal[4200];         /* where they reach the gateway */
	char key_path[4200];
};

/* The sessions, before the sandboxes are read; ssh_load() behind that. */
int ssh_open(struct ssh *, struct gateway *, struct err *);
int ssh_load(struct ssh *, struct gateway *, struct err *);

/* The host key, and what is listened on; behind the gateway's own listeners. Fails only for
 * what was asked for by name. */
int ssh_listen(struct ssh *, struct gateway *, struct err *);

/* Starts the endpoints; on the thread of the first loop. */
void ssh_start(struct ssh *, struct gateway *);

/* A tunnel has come or gone: true if it is an endpoint's, and no sandbox's. */
bool ssh_tunnel_changed(struct ssh *, const char *id, bool up);

/* The gateway ends: endpoints are told, and their tunnels end. ssh_drop() again while it
 * drains. */
void ssh_end(struct ssh *, const struct err *why);
void ssh_drop(struct ssh *, struct gateway *, const struct err *why);

void ssh_close(struct ssh *);

#endif
