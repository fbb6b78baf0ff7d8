#include "gateway/ssh.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "gateway/gateway.h"
#include "rpc/address.h"

static const struct log_area area = { "gateway.ssh" };

int ssh_open(struct ssh *ssh, struct gateway *g, struct err *err)
{
	struct ssh_sessions_options opt = {
		.loop = g->loops[0],
		.store = g->store,
		.connections_max = g->options->ssh.session_connections,
		.connections_sandbox_max = g->options->ssh.sandbox_connections,
	};

	ssh->sessions = ssh_sessions_create(&opt, err);
	return ssh->sessions != NULL ? 0 : -1;
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

static int offer(struct ssh *ssh, struct gateway *g, struct err *err)
{
	const struct ssh_options *o = &g->options->ssh;

	if (o->endpoints == NULL)
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "it was started with --ssh-workers 0 and without --ssh-endpoints");
	snprintf(ssh->host, sizeof(ssh->host), "%s", o->host);
	ssh->port = (uint16_t)o->port;
	return open_host_key(ssh, g, err);
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

void ssh_close(struct ssh *ssh)
{
	ssh_sessions_free(ssh->sessions);
	ssh->sessions = NULL;
}
