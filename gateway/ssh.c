#include "gateway/ssh.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "gateway/gateway.h"
#include "rpc/address.h"

static const struct log_area area = { "gateway.ssh" };

/* Those who have a connection by it, or may have. */
static void on_ended(void *cookie, const char *id, enum ssh_end why)
{
	struct ssh *ssh = cookie;

	if (ssh->attends != NULL)
		ssh_attends_tell(ssh->attends, id, why);
}

int ssh_open(struct ssh *ssh, struct gateway *g, struct err *err)
{
	struct ssh_sessions_options opt = {
		.loop = g->loops[0],
		.store = g->store,
		.connections_max = g->options->ssh.session_connections,
		.connections_sandbox_max = g->options->ssh.sandbox_connections,
		.ended = on_ended,
		.cookie = ssh,
	};

	if ((ssh->sessions = ssh_sessions_create(&opt, err)) == NULL ||
	    (ssh->endpoints = ssh_endpoints_create(err)) == NULL)
		return -1;
	ssh->attends = ssh_attends_create(ssh->sessions, ssh->endpoints, err);
	return ssh->attends != NULL ? 0 : -1;
}

static bool is_wanted(void *cookie, const char *sandbox_id)
{
	struct gateway *g = cookie;
	const struct sandbox *s = sandboxes_find_id(g->sandboxes, sandbox_id);

	return s != NULL && sandbox_phase(s) != PHASE_DELETING;
}

int ssh_load(struct ssh *ssh, struct gateway *g, struct err *err)
{
	return ssh_sessions_load(ssh->sessions, is_wanted, g, err);
}

/* What clients are told of the gateway itself, for upstream's way of ForwardTcp. */
static void describe_gateway(struct ssh *ssh, const struct gateway *g)
{
	struct address a;
	struct err err;

	if (address_parse(g->endpoint, &a, &err) != 0)
		return;
	snprintf(ssh->gateway_scheme, sizeof(ssh->gateway_scheme), "%s",
	    a.is_unix   ? "unix"
		: a.tls ? "https"
			: "http");
	snprintf(ssh->gateway_host, sizeof(ssh->gateway_host), "%s", a.host);
	ssh->gateway_port = a.port;
}

static int open_host_key(struct ssh *ssh, const struct gateway *g, struct err *err)
{
	char path[PATH_MAX + 32];

	snprintf(path, sizeof(path), "%s/ssh_host_ed25519_key", g->private_dir);
	return ssh_host_open(
	    &ssh->key, g->options->ssh.host_key != NULL ? g->options->ssh.host_key : path, err);
}

/* Clients need not know where the gateway keeps what. */
static int unable(struct err *err)
{
	log_fail(&area, "ssh_failed", LOG_ERR(err));
	return err_set(
	    err, GRPC_FAILED_PRECONDITION, "something failed; its log says what (ssh_failed)");
}

static int offer(struct ssh *ssh, struct gateway *g, struct err *err)
{
	const struct ssh_options *o = &g->options->ssh;

	if (o->endpoints == NULL)
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "it was started with --ssh-workers 0 and without --ssh-endpoints");
	snprintf(ssh->host, sizeof(ssh->host), "%s", o->host);
	ssh->port = (uint16_t)o->port;
	if (ssh_endpoints_read(ssh->endpoints, o->endpoints, err) != 0 ||
	    open_host_key(ssh, g, err) != 0)
		return unable(err);
	return 0;
}

int ssh_listen(struct ssh *ssh, struct gateway *g, struct err *err)
{
	(void)err;
	describe_gateway(ssh, g);
	if (offer(ssh, g, &ssh->off) == 0) {
		err_clear(&ssh->off);
		return 0;
	}
	log_warn(&area, "ssh_off", LOG_ERR(&ssh->off));
	return 0;
}

bool ssh_tunnel_changed(struct ssh *ssh, const char *id, bool up)
{
	if (!ssh_endpoints_is_one(id))
		return false;
	ssh_endpoints_set_up(ssh->endpoints, id, up);
	return true;
}

void ssh_end(struct ssh *ssh, const struct err *why)
{
	ssh_attends_end(ssh->attends, why);
}

struct drop {
	struct tunnels *tunnels;
	const struct err *why;
};

static void drop_one(void *cookie, const char *id)
{
	const struct drop *d = cookie;

	tunnels_drop(d->tunnels, id, d->why);
}

void ssh_drop(struct ssh *ssh, struct gateway *g, const struct err *why)
{
	struct drop d = { g->tunnels, why };

	ssh_endpoints_each(ssh->endpoints, drop_one, &d);
}

void ssh_close(struct ssh *ssh)
{
	ssh_attends_free(ssh->attends);
	ssh->attends = NULL;
	ssh_endpoints_free(ssh->endpoints);
	ssh->endpoints = NULL;
	ssh_sessions_free(ssh->sessions);
	ssh->sessions = NULL;
}
