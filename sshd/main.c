/* towline-sshd: lets SSH clients into sandboxes, as a client of the gateway's API. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/random.h"
#include "rpc/address.h"
#include "rpc/tls.h"
#include "sshd/client.h"
#include "sshd/harden.h"
#include "sshd/admission.h"
#include "sshd/options.h"
#include "sshd/tunnel.h"

#define TOKEN_MAX 256  /* bytes of an endpoint's token */
#define STOP_MS   1500 /* for connections to be told and to close */

static const struct log_area area = { "sshd" };

enum { EXIT_USAGE = 2, EXIT_REJECTED = 3 };

struct process {
	struct sshd sshd;
	struct timer *tick, *stop;
	struct watch *parent;
	int parent_fd;
	char token[TOKEN_MAX];
	bool stopping, rejected;
};

/* The end of the process. */

static void gate_is_closed(void *cookie)
{
	struct process *p = cookie;

	p->sshd.gate = NULL;
	loop_stop(p->sshd.loop);
}

static void dialer_is_closed(void *cookie)
{
	struct process *p = cookie;

	gate_close(p->sshd.gate, gate_is_closed, p);
}

/* All have been told, or had the time to be. */
static void finish(void *cookie)
{
	struct process *p = cookie;

	timer_stop(p->stop);
	timer_stop(p->tick);
	while (p->sshd.oldest != NULL)
		client_drop(p->sshd.oldest, "the endpoint ends");
	if (p->sshd.dialer != NULL)
		dialer_close(p->sshd.dialer, dialer_is_closed, p);
	else
		dialer_is_closed(p);
	p->sshd.dialer = NULL;
}

static void end_all(struct sshd *s, const char *why)
{
	struct err err;

	err_set(&err, GRPC_UNAVAILABLE, "%s", why);
	for (struct client *c = s->oldest; c != NULL; c = client_newer(c))
		client_end(c, &err);
}

static void shut_down(struct process *p)
{
	if (p->stopping)
		return;
	p->stopping = true;
	admission_free(p->sshd.admission);
	p->sshd.admission = NULL;
	end_all(&p->sshd, "the SSH endpoint ends; connect again");
	timer_start(p->stop, STOP_MS);
}

static void on_signal(void *cookie)
{
	shut_down(cookie);
}

static void on_parent(void *cookie, unsigned events)
{
	struct process *p = cookie;
	char byte;

	(void)events;
	/* Nothing is ever written to it. */
	if (read(p->parent_fd, &byte, 1) < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	watch_want(p->parent, WATCH_NONE);
	shut_down(p);
}

/* What the gateway tells. */

static void on_up(void *app)
{
	struct process *p = app;

	for (struct client *c = p->sshd.oldest; c != NULL; c = client_newer(c))
		client_announce(c);
}

static void on_ended(void *app, const char *session_id, const char *reason)
{
	struct process *p = app;
	struct err err;

	err_set(
	    &err, GRPC_UNAUTHENTICATED, "%s", reason[0] != '\0' ? reason : "the session has ended");
	for (struct client *c = p->sshd.oldest; c != NULL; c = client_newer(c))
		if (client_is_of(c, session_id))
			client_end(c, &err);
}

static void on_lost(void *app)
{
	struct process *p = app;

	end_all(&p->sshd, "the gateway cannot be reached; try again later");
}

static void on_rejected(void *app, const struct err *why)
{
	struct process *p = app;

	log_fail(&area, "rejected", LOG_ERR(why));
	p->rejected = true;
	shut_down(p);
}

/* Now and then. */

static void on_tick(void *cookie)
{
	struct process *p = cookie;
	int64_t wall = (int64_t)time(NULL);

	timer_start(p->tick, SSHD_TICK_MS);
	for (struct client *c = p->sshd.oldest; c != NULL; c = client_newer(c))
		client_tick(c, wall);
	if (p->stopping && p->sshd.oldest == NULL)
		finish(p);
}

static void log_counters(void *cookie)
{
	const struct process *p = cookie;
	const struct sshd_counters *n = &p->sshd.counters;

	log_info(&area, "counters", LOG_U64("accepted", n->accepted),
	    LOG_U64("tunnelled", n->tunnelled), LOG_U64("opened", n->opened),
	    LOG_U64("now", p->sshd.clients), LOG_U64("unauthenticated", p->sshd.unauthenticated),
	    LOG_U64("refused_full", n->refused_full), LOG_U64("refused_early", n->refused_early),
	    LOG_U64("refused_source", n->refused_source), LOG_U64("evicted", n->evicted),
	    LOG_U64("auth_failed", n->auth_failed), LOG_U64("gated", n->gated),
	    LOG_U64("punished", penalties_count(p->sshd.penalties)));
}

/* The beginning. */

/* Reads a small file with a secret, which the caller wipes. */
static int read_secret(const char *path, char *out, size_t size, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n = 1;

	if (fd < 0)
		return err_sys(err, errno, "%s", path);
	/* A memfd that was written to is at its end. */
	lseek(fd, 0, SEEK_SET);
	while (n > 0 && len < size - 1) {
		n = read(fd, out + len, size - 1 - len);
		len += n > 0 ? (size_t)n : 0;
	}
	int saved = errno;
	close(fd);
	if (n < 0)
		return err_sys(err, saved, "%s", path);
	if (len == size - 1)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "%s is longer than %zu bytes", path, size - 2);
	out[len] = '\0';
	return 0;
}

static int read_token(struct process *p, const char *path, struct err *err)
{
	if (read_secret(path, p->token, sizeof(p->token), err) != 0)
		return err_wrap(err, "--token-file");
	p->token[strcspn(p->token, "\r\n")] = '\0';
	if (p->token[0] == '\0')
		return err_set(err, GRPC_INVALID_ARGUMENT, "--token-file: %s is empty", path);
	return 0;
}

static int read_host_key(struct process *p, const struct options *o, struct err *err)
{
	char text[LIBRARY_HOST_KEY_MAX];

	if (read_secret(o->host_key, text, sizeof(text), err) != 0)
		return err_wrap(err, "--host-key");
	p->sshd.library = library_create(text, o->rekey_bytes, err);
	explicit_bzero(text, sizeof(text));
	return p->sshd.library != NULL ? 0 : -1;
}

static int listen_at(struct process *p, const struct options *o, struct err *err)
{
	struct address address;
	char bound[ADDRESS_TEXT_MAX] = "";
	int fd = (int)o->listen_fd;

	if (o->listen != NULL) {
		if (address_parse(o->listen, &address, err) != 0 ||
		    (!address.is_numeric && address_resolve(&address, err) != 0) ||
		    (fd = address_listen(&address, bound, err)) < 0)
			return err_wrap(err, "--listen");
	} else if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
		return err_sys(err, errno, "--listen-fd");
	}
	if ((p->sshd.admission = admission_create(&p->sshd, fd, err)) == NULL)
		return -1;
	log_info(&area, "listening", LOG_STR("address", bound[0] != '\0' ? bound : NULL),
	    LOG_STR("host_key", library_fingerprint(p->sshd.library)));
	return 0;
}

static int reach_gateway(struct process *p, const struct options *o, struct err *err)
{
	char instance[37];
	const struct rpc_tls_options tls_options = { .ca_file = o->ca_file };
	struct rpc_tls *tls = NULL;

	random_uuid(instance);
	if (strncmp(o->gateway, "https:", 6) == 0 &&
	    (tls = rpc_tls_client(&tls_options, err)) == NULL)
		return -1;
	const struct gate_options gate = { .url = o->gateway,
		.tls = tls,
		.endpoint_id = o->endpoint_id,
		.token = p->token,
		.instance_id = instance,
		.app = p,
		.up = on_up,
		.ended = on_ended,
		.lost = on_lost,
		.rejected = on_rejected };
	const struct dialer_options dialer = { .url = o->gateway,
		.tls = tls,
		.sandbox_id = o->endpoint_id,
		.token = p->token,
		.instance_id = instance,
		.methods = tunnel_methods,
		.features = (const char *const[]){ "call", "data-connections", NULL },
		.app = &p->sshd };
	if ((p->sshd.gate = gate_create(p->sshd.loop, &gate, err)) == NULL ||
	    (p->sshd.dialer = dialer_create(p->sshd.loop, &dialer, err)) == NULL)
		return -1;
	return 0;
}

static int watch_parent(struct process *p, const struct options *o, struct err *err)
{
	int fd = (int)o->parent_fd;

	if (fd == 0)
		return 0;
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
		return err_sys(err, errno, "--parent-fd");
	p->parent_fd = fd;
	if ((p->parent = watch_create(p->sshd.loop, fd, on_parent, p, err)) == NULL)
		return -1;
	watch_want(p->parent, WATCH_READ);
	return 0;
}

static int make_timers(struct process *p, struct err *err)
{
	struct loop *loop = p->sshd.loop;

	if ((p->tick = timer_create_on(loop, on_tick, p)) == NULL ||
	    (p->stop = timer_create_on(loop, finish, p)) == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	if (signal_watch_create(loop, SIGTERM, on_signal, p, err) == NULL ||
	    signal_watch_create(loop, SIGINT, on_signal, p, err) == NULL ||
	    signal_watch_create(loop, SIGUSR1, log_counters, p, err) == NULL)
		return -1;
	timer_start(p->tick, SSHD_TICK_MS);
	return 0;
}

/* Clients of this machine share its address, and so does whoever comes through a proxy. */
static int exempt(struct penalties *p, const struct config_list_value *list, struct err *err)
{
	if (list->count == 0)
		return penalties_exempt(p, "127.0.0.1", err) == 0 &&
			penalties_exempt(p, "::1", err) == 0
		    ? 0
		    : -1;
	for (size_t i = 0; i < list->count; i++)
		if (penalties_exempt(p, list->item[i], err) != 0)
			return err_wrap(err, "--penalty-exempt");
	return 0;
}

static int make_penalties(struct process *p, const struct options *o, struct err *err)
{
	int fd = o->penalties_fd != 0 ? (int)o->penalties_fd : -1;

	if ((p->sshd.penalties = penalties_create(fd, err)) == NULL)
		return o->penalties_fd != 0 ? err_wrap(err, "--penalties-fd") : -1;
	if (fd >= 0)
		close(fd);
	return exempt(p->sshd.penalties, &o->exempt, err);
}

/* Nothing more is opened from here. What looks names up loads its parts when it is first
 * asked, so that is done before. */
static int harden(const char *gateway, struct err *err)
{
	struct address address;

	if (address_parse(gateway, &address, err) != 0)
		return -1;
	bool is_name = !address.is_unix && !address.is_numeric;
	if (is_name)
		address_resolve(&address, NULL); /* it may be known later */
	return harden_late(is_name, err);
}

static int start(struct process *p, const struct options *o, struct err *err)
{
	const int kept[] = { (int)o->listen_fd, (int)o->parent_fd, (int)o->penalties_fd, -1 };

	/* The files may be named by inherited descriptors, which are closed after. */
	if (read_token(p, o->token_file, err) != 0 || read_host_key(p, o, err) != 0)
		return -1;
	harden_early(kept);
	if ((p->sshd.loop = loop_create(0, err)) == NULL || make_timers(p, err) != 0 ||
	    make_penalties(p, o, err) != 0)
		return -1;
	if (watch_parent(p, o, err) != 0 || reach_gateway(p, o, err) != 0 ||
	    listen_at(p, o, err) != 0)
		return -1;
	return harden(o->gateway, err);
}

static int serve(const struct options *o)
{
	/* Static: what is not freed at the end stays reachable for a leak checker. */
	static struct process p;
	struct err err = { 0 };

	log_setup(2, o->log_format, o->log_level);
	loop_ignore_sigpipe();
	p.sshd.limits = o->limits;
	int r = start(&p, o, &err);
	explicit_bzero(p.token, sizeof(p.token));
	if (r == 0)
		loop_run(p.sshd.loop);
	else
		log_fail(&area, "failed", LOG_ERR(&err));
	return r != 0 ? EXIT_FAILURE : p.rejected ? EXIT_REJECTED : EXIT_SUCCESS;
}

int main(int argc, char *argv[])
{
	struct options o = { 0 };
	struct config config;
	struct err err = { 0 };
	int code = EXIT_SUCCESS;

	if (options_parse(&config, argc, argv, &o, &err) != 0) {
		fprintf(stderr, "towline-sshd: %s\n", err.text);
		code = EXIT_USAGE;
	} else if (o.help) {
		options_help();
	} else if (o.man) {
		options_man();
	} else if (o.version) {
		printf("towline-sshd " TOWLINE_VERSION "\n");
	} else {
		code = serve(&o);
	}
	config_free(&config);
	return code;
}
