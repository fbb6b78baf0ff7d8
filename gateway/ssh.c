#include "gateway/ssh.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "gateway/gateway.h"
#include "gateway/ssh_workers.h"
#include "rpc/address.h"

static const struct log_area area = { "gateway.ssh" };

#define LISTEN_WAIT_MS  500 /* for a port that was in use a moment ago */
#define LISTEN_PAUSE_MS 25
#define INTERNAL_SOCKET "/sshd.sock"

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

	ssh->listener = -1;
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
	const char *named = g->options->ssh.host_key;

	if (named != NULL)
		snprintf(ssh->key_path, sizeof(ssh->key_path), "%s", named);
	else
		snprintf(ssh->key_path, sizeof(ssh->key_path), "%s/ssh_host_ed25519_key",
		    g->private_dir);
	return ssh_host_open(&ssh->key, ssh->key_path, err);
}

/* Clients need not know where the gateway keeps what. */
static int unable(struct err *err)
{
	log_fail(&area, "ssh_failed", LOG_ERR(err));
	return err_set(
	    err, GRPC_FAILED_PRECONDITION, "something failed; its log says what (ssh_failed)");
}

/* Listening. */

/* A killed gateway's workers are killed too, and let go of the port a moment later. */
static int listen_patiently(
    const struct address *a, char bound[static ADDRESS_TEXT_MAX], struct err *err)
{
	const struct timespec pause = { .tv_nsec = LISTEN_PAUSE_MS * 1000000L };

	for (int waited = 0;; waited += LISTEN_PAUSE_MS) {
		int fd = address_listen(a, bound, err);

		if (fd >= 0 || err->sys != EADDRINUSE || waited >= LISTEN_WAIT_MS)
			return fd;
		nanosleep(&pause, NULL);
	}
}

static int listen_on(const char *text, char bound[static ADDRESS_TEXT_MAX], struct err *err)
{
	struct address a;

	if (address_parse(text, &a, err) != 0 || (!a.is_numeric && address_resolve(&a, err) != 0))
		return -1;
	return listen_patiently(&a, bound, err);
}

/* The port that a gateway chose when it was told to choose one is in clients' files. */
static int listen_as_before(struct gateway *g, const char *setting, struct err *err)
{
	char bound[ADDRESS_TEXT_MAX], *before = NULL;
	int fd = -1;

	if (store_setting_get(g->store, setting, &before, err) != 0 || before == NULL)
		return -1;
	if ((fd = listen_on(before, bound, err)) < 0)
		log_warn(&area, "address_lost", LOG_STR("address", before), LOG_ERR(err));
	free(before);
	return fd;
}

/* What clients are told to dial, unless the operator knows better. */
static void describe(struct ssh *ssh, const struct ssh_options *o, const struct address *bound)
{
	bool is_any = strcmp(bound->host, "0.0.0.0") == 0 || strcmp(bound->host, "::") == 0;

	if (o->host != NULL)
		snprintf(ssh->host, sizeof(ssh->host), "%s", o->host);
	else if (!is_any || gethostname(ssh->host, sizeof(ssh->host) - 1) != 0)
		snprintf(ssh->host, sizeof(ssh->host), "%s", bound->host);
	ssh->port = o->port != 0 ? (uint16_t)o->port : bound->port;
}

static int listen_for_clients(struct ssh *ssh, struct gateway *g, struct err *err)
{
	const struct ssh_options *o = &g->options->ssh;
	char setting[ADDRESS_TEXT_MAX + 16], bound[ADDRESS_TEXT_MAX] = "";
	struct address a;
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	if (address_parse(o->listen, &a, err) != 0)
		return -1;
	snprintf(setting, sizeof(setting), "ssh listen %s", o->listen);
	ssh->listener = a.port == 0 ? listen_as_before(g, setting, err) : -1;
	if (ssh->listener < 0 && (ssh->listener = listen_on(o->listen, bound, err)) < 0)
		return -1;
	if (getsockname(ssh->listener, (struct sockaddr *)&sa, &len) != 0)
		return err_sys(err, errno, "the listener for SSH");
	address_text((const struct sockaddr *)&sa, len, bound);
	log_info(&area, "listening", LOG_STR("address", bound));
	if (address_parse(bound, &a, err) != 0)
		return -1;
	describe(ssh, o, &a);
	return a.port != 0 ? store_setting_set(g->store, setting, bound, err) : 0;
}

/* In the private directory, where nobody else can reach it. */
static int listen_for_workers(struct ssh *ssh, struct gateway *g, bool *fatal, struct err *err)
{
	const size_t max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
	const size_t len = strlen(g->private_dir) + sizeof(INTERNAL_SOCKET) - 1;
	char address[sizeof(ssh->internal)], bound[ADDRESS_TEXT_MAX];

	if (len > max) {
		*fatal = g->options->ssh.listen_given;
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "the path of --data-dir is %zu bytes too long for the socket that SSH needs in it, "
		    "whose path can have %zu; use a shorter one, or --ssh-workers 0",
		    len - max, max);
	}
	snprintf(address, sizeof(address), "unix:%s" INTERNAL_SOCKET, g->private_dir);
	if (rpc_server_listen(g->server, address, NULL, bound, sizeof(bound), err) != 0)
		return unable(err);
	snprintf(ssh->internal, sizeof(ssh->internal), "%s", address);
	return 0;
}

/* Whether SSH can be offered, and all that needs for it. */

static int offer_own(struct ssh *ssh, struct gateway *g, bool *fatal, struct err *err)
{
	const struct ssh_options *o = &g->options->ssh;

	if (o->program == NULL)
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "towline-sshd was not found beside towline-gateway; install it there, or name it "
		    "with --sshd");
	if (listen_for_clients(ssh, g, err) != 0) {
		*fatal = o->listen_given;
		log_warn(&area, "ssh_failed", LOG_ERR(err));
		err_wrap(err, "--ssh-listen %s", o->listen);
		err->code = GRPC_FAILED_PRECONDITION;
		return -1;
	}
	return listen_for_workers(ssh, g, fatal, err);
}

static int offer(struct ssh *ssh, struct gateway *g, bool *fatal, struct err *err)
{
	const struct ssh_options *o = &g->options->ssh;

	if (o->workers == 0 && o->endpoints == NULL)
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "it was started with --ssh-workers 0 and without --ssh-endpoints");
	if (o->workers > 0 && offer_own(ssh, g, fatal, err) != 0)
		return -1;
	if (o->workers == 0) {
		snprintf(ssh->host, sizeof(ssh->host), "%s", o->host);
		ssh->port = (uint16_t)o->port;
	}
	if ((o->endpoints != NULL && ssh_endpoints_read(ssh->endpoints, o->endpoints, err) != 0) ||
	    open_host_key(ssh, g, err) != 0)
		return unable(err);
	return 0;
}

int ssh_listen(struct ssh *ssh, struct gateway *g, struct err *err)
{
	bool fatal = false;

	describe_gateway(ssh, g);
	if (offer(ssh, g, &fatal, &ssh->off) == 0) {
		err_clear(&ssh->off);
		return 0;
	}
	if (fatal) {
		*err = ssh->off;
		return -1;
	}
	log_warn(&area, "ssh_off", LOG_ERR(&ssh->off));
	return 0;
}

void ssh_start(struct ssh *ssh, struct gateway *g)
{
	struct ssh_workers_options opt = {
		.loop = g->loops[0],
		.endpoints = ssh->endpoints,
		.count = g->options->ssh.workers,
		.program = g->options->ssh.program,
		.gateway_url = ssh->internal,
		.host_key = ssh->key_path,
		.log_level = g->options->log_level_text,
		.log_format = g->options->log_format_text,
		.listener = ssh->listener,
	};
	struct err err;

	if (ssh->off.code != GRPC_OK || opt.count == 0)
		return;
	if ((ssh->workers = ssh_workers_create(&opt, &err)) != NULL)
		ssh->listener = -1;
	else
		log_fail(&area, "ssh_failed", LOG_ERR(&err));
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
	if (ssh->workers != NULL)
		ssh_workers_stop(ssh->workers);
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
	ssh_workers_free(ssh->workers);
	ssh->workers = NULL;
	if (ssh->sessions != NULL && ssh->listener >= 0)
		close(ssh->listener);
	ssh_attends_free(ssh->attends);
	ssh->attends = NULL;
	ssh_endpoints_free(ssh->endpoints);
	ssh->endpoints = NULL;
	ssh_sessions_free(ssh->sessions);
	ssh->sessions = NULL;
}
