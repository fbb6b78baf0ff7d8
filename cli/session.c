#include "cli/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/registry.h"
#include "proto/codec.h"
#include "proto/scope.h"
#include "rpc/tls.h"

#define METHOD_PREFIX "/openshell.v1.OpenShell/"
#define METHOD_MAX    128
#define WORKERS       2
#define WORKERS_QUEUE 64
#define CLOSE_MS      2000

/* One connection. */
struct line {
	struct session *session;
	struct rpc_client *client; /* NULL: not connected */
};

struct session {
	const struct cli *cli;
	struct loop *loop;
	struct registry_gateway gateway; /* its name is NULL if known by its address only */
	struct rpc_tls *tls;
	struct line lines[SESSION_CLIENTS_MAX];
	struct session_wait closing;
	struct workers *workers;
	Openshell__Datamodel__V1__WorkspaceSelector scope;
};

/* Which gateway. */

static int choose_gateway(const struct cli *cli, struct registry_gateway *g, struct err *err)
{
	char *active = NULL;
	int r;

	if (cli->endpoint != NULL && (cli->gateway == NULL || cli->prefers_endpoint)) {
		*g = (struct registry_gateway){ .endpoint = strdup(cli->endpoint) };
		return g->endpoint != NULL ? 0
					   : err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	}
	if (cli->gateway == NULL && (active = registry_active(err)) == NULL)
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "there is no gateway yet: start one with 'towline gateway start', or name one "
		    "with --gateway or --gateway-endpoint");
	r = registry_load(cli->gateway != NULL ? cli->gateway : active, g, err);
	free(active);
	return r;
}

/* Only for https: making ready for TLS takes longer than a whole call without it. */
static int prepare_tls(struct session *s, struct err *err)
{
	struct rpc_tls_options o = {
		.ca_file = s->gateway.ca_file,
		.cert_file = s->gateway.cert_file,
		.key_file = s->gateway.key_file,
	};

	if (s->gateway.endpoint == NULL || strncmp(s->gateway.endpoint, "https:", 6) != 0)
		return 0;
	s->tls = rpc_tls_client(&o, err);
	return s->tls != NULL ? 0 : -1;
}

/* The connection. */

static bool is_connected(const struct session *s)
{
	for (size_t i = 0; i < SESSION_CLIENTS_MAX; i++)
		if (s->lines[i].client != NULL)
			return true;
	return false;
}

static void on_closed(void *cookie, const struct err *why)
{
	struct line *line = cookie;
	struct session *s = line->session;

	(void)why; /* each call has been told */
	line->client = NULL;
	if (s->closing.session != NULL && !is_connected(s))
		session_done(&s->closing, NULL);
}

struct rpc_client *session_client_at(struct session *s, size_t number, struct err *err)
{
	struct line *line = &s->lines[number % SESSION_CLIENTS_MAX];
	struct rpc_client_options o = { .tls = s->tls, .closed = on_closed, .cookie = line };

	line->session = s;
	if (line->client == NULL)
		line->client = rpc_client_connect(s->loop, s->gateway.endpoint, &o, err);
	return line->client;
}

struct rpc_client *session_client(struct session *s, struct err *err)
{
	return session_client_at(s, 0, err);
}

struct session *session_open(const struct cli *cli, struct err *err)
{
	struct session *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	s->cli = cli;
	if (choose_gateway(cli, &s->gateway, err) == 0 && prepare_tls(s, err) == 0 &&
	    (s->loop = loop_create(0, err)) != NULL && session_client(s, err) != NULL)
		return s;
	session_close(s);
	return NULL;
}

void session_close(struct session *s)
{
	struct err err;

	if (s == NULL)
		return;
	if (is_connected(s)) {
		s->closing.session = s;
		for (size_t i = 0; i < SESSION_CLIENTS_MAX; i++)
			if (s->lines[i].client != NULL)
				rpc_client_close(s->lines[i].client);
		session_wait(s, &s->closing, CLOSE_MS, &err);
	}
	workers_free(s->workers);
	loop_free(s->loop);
	rpc_tls_free(s->tls);
	registry_free(&s->gateway);
	free(s);
}

struct loop *session_loop(struct session *s)
{
	return s->loop;
}

const struct cli *session_cli(const struct session *s)
{
	return s->cli;
}

const char *session_endpoint(const struct session *s)
{
	return s->gateway.endpoint;
}

const char *session_gateway(const struct session *s)
{
	return s->gateway.name;
}

struct names session_names(const struct session *s)
{
	return (struct names){ .gateway = s->gateway.name,
		.endpoint = s->gateway.endpoint,
		.workspace = s->cli->workspace };
}

struct workers *session_workers(struct session *s, struct err *err)
{
	struct workers_options o = { .threads = WORKERS, .max_queued = WORKERS_QUEUE };

	if (s->workers == NULL)
		s->workers = workers_create(&o, err);
	return s->workers;
}

/* Waiting. */

void session_done(struct session_wait *w, const struct err *err)
{
	if (w->done)
		return;
	w->done = true;
	if (err != NULL)
		w->err = *err;
	loop_stop(w->session->loop);
}

static void on_late(void *cookie)
{
	struct session_wait *w = cookie;
	struct err err;

	err_set(&err, GRPC_DEADLINE_EXCEEDED, "it takes too long");
	session_done(w, &err);
}

int session_wait(struct session *s, struct session_wait *w, uint64_t ms, struct err *err)
{
	struct timer *timer = NULL;

	w->session = s;
	if (ms != SESSION_FOREVER) {
		if ((timer = timer_create_on(s->loop, on_late, w)) == NULL)
			return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		timer_start(timer, ms);
	}
	while (!w->done)
		loop_run(s->loop);
	timer_free(timer);
	if (w->err.code == GRPC_OK)
		return 0;
	*err = w->err;
	return -1;
}

/* Calls. */

struct call {
	struct session_wait wait;
	const ProtobufCMessageDescriptor *reply_type;
	void *reply;
};

static void on_reply(void *cookie, const uint8_t *reply, size_t len, const struct err *why)
{
	struct call *c = cookie;
	enum guard_result guard;
	struct err err = *why;

	if (err.code == GRPC_OK &&
	    (c->reply = codec_unpack(c->reply_type, reply, len, &guard)) == NULL)
		err_set(&err, GRPC_INTERNAL, "%s: %s", c->reply_type->name, guard_text(guard));
	session_done(&c->wait, &err);
}

int session_call(struct session *s, const char *method, const ProtobufCMessage *request,
    const ProtobufCMessageDescriptor *reply_type, void **reply, struct err *err)
{
	struct call c = { .wait.session = s, .reply_type = reply_type };
	struct rpc_client *client = session_client(s, err);
	char path[METHOD_MAX];
	size_t len;
	uint8_t *packed;

	if (client == NULL)
		return -1;
	if ((packed = codec_pack_new(request, &len)) == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	snprintf(path, sizeof(path), "%s%s", method[0] == '/' ? "" : METHOD_PREFIX, method);
	struct rpc_unary *unary =
	    rpc_client_unary(client, path, NULL, SESSION_CALL_MS, packed, len, on_reply, &c, err);
	free(packed);
	if (unary == NULL)
		return -1;
	if (session_wait(s, &c.wait, SESSION_FOREVER, err) != 0) {
		if (err->code == GRPC_DEADLINE_EXCEEDED)
			err_wrap(err, "the gateway has not answered %s in time", path + 1);
		return -1;
	}
	*reply = c.reply;
	return 0;
}

int session_list_goes_on(const char *token, size_t entries, size_t *count, struct err *err)
{
	*count += entries > 0 ? entries : 1; /* nobody's pages are all empty */
	if (token[0] == '\0')
		return 0;
	if (*count < SESSION_LIST_MAX)
		return 1;
	return err_set(err, GRPC_RESOURCE_EXHAUSTED,
	    "the gateway's list has more than %d entries; ask for fewer", SESSION_LIST_MAX);
}

Openshell__Datamodel__V1__WorkspaceSelector *session_scope(struct session *s)
{
	return scope_of_workspace(&s->scope, s->cli->workspace);
}
