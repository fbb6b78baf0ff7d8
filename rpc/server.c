#include "rpc/server.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "rpc/conn.h"
#include "rpc/limits.h"
#include "rpc/listener.h"
#include "rpc/reader.h"

#define LISTENERS_MAX 16

static const struct log_area area = { "rpc" };

/* A server's part on one loop. All but the posts belongs to that loop. */
struct shard {
	struct rpc_server *server;
	struct loop *loop;
	struct link *conns;
	size_t count;
	bool draining, drained;
	struct post drain, drop;
};

/* One connection, in its shard's list. */
struct link {
	struct shard *shard;
	struct rpc_conn *conn;
	struct link *prev, *next;
};

struct rpc_server {
	struct rpc_server_options opt;
	struct rpc_options options;
	struct rpc_method *methods; /* sorted by path */
	struct shard *shards;
	size_t next_shard;
	struct listener *listeners[LISTENERS_MAX];
	size_t listener_count;

	void (*done)(void *cookie);
	void *done_cookie;
	struct timer *drain_timer;
	struct post drained; /* to the first loop */
	_Atomic size_t busy_shards;

	_Atomic uint64_t connections, calls, floods, refused;
	_Atomic uint32_t open_connections;
};

/* A connection on its way to another loop. */
struct handoff {
	struct post post;
	struct shard *shard;
	int fd;
	struct rpc_tls *tls;
};

/* Unary: one request message, gathered. */

struct gather {
	struct rpc_call *call;
	const struct rpc_method *method;
	struct rpc_server *server;
	struct rpc_reader reader;
	struct timer *timer; /* NULL: the call has a time limit of its own */
	uint8_t *message;
	size_t len;
	bool has_message, over;
};

static void gather_free(struct gather *g)
{
	timer_free(g->timer);
	rpc_reader_free(&g->reader);
	free(g->message);
	free(g);
}

static void gather_fail(struct gather *g, const struct err *err)
{
	g->over = true;
	rpc_call_finish(g->call, err);
}

static int take_messages(struct gather *g, struct err *err)
{
	const uint8_t *message;
	size_t len;
	int r;

	while ((r = rpc_reader_next(&g->reader, &message, &len, err)) > 0) {
		if (g->has_message)
			return err_set(err, GRPC_INVALID_ARGUMENT,
			    "%s takes one request message; a second came", g->method->path);
		g->has_message = true;
		g->len = len;
		if (len > 0 && (g->message = malloc(len)) == NULL)
			return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		if (len > 0)
			memcpy(g->message, message, len);
	}
	return r;
}

static void gather_data(void *cookie, struct slice s)
{
	struct gather *g = cookie;
	struct err err = { 0 };

	rpc_call_credit(g->call, s.len);
	if (g->over)
		slice_release(&s);
	else if (rpc_reader_push(&g->reader, s, &err) != 0 || take_messages(g, &err) != 0)
		gather_fail(g, &err);
}

static void gather_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	struct gather *g = cookie;
	struct rpc_call *call = g->call;
	const struct rpc_method *method = g->method;
	struct rpc_server *server = g->server;
	uint8_t *message = g->message;
	size_t len = g->len;
	struct err err;

	(void)status;
	(void)trailers;
	if (g->over)
		return;
	if (!g->has_message) {
		err_set(&err, GRPC_INVALID_ARGUMENT, "%s takes one request message; %s came",
		    method->path, rpc_reader_is_partial(&g->reader) ? "part of one" : "none");
		gather_fail(g, &err);
		return;
	}
	/* From here on the call is the handler's. */
	g->message = NULL;
	gather_free(g);
	rpc_call_bind(call, NULL, NULL);
	method->request(call, server->opt.app, message, len);
	free(message);
}

static void gather_closed(void *cookie, const struct err *why)
{
	(void)why;
	gather_free(cookie);
}

static const struct rpc_call_ops gather_ops = {
	.data = gather_data, .end = gather_end, .closed = gather_closed
};

static void gather_late(void *cookie)
{
	struct gather *g = cookie;
	struct err err;

	if (g->over)
		return;
	err_set(&err, GRPC_DEADLINE_EXCEEDED, "the request message of %s did not come within %d s",
	    g->method->path, RPC_REQUEST_TIMEOUT_MS / 1000);
	gather_fail(g, &err);
}

static void start_gather(struct rpc_server *s, const struct rpc_method *m, struct rpc_call *call)
{
	struct gather *g = calloc(1, sizeof(*g));
	struct err err;

	if (g != NULL && m->time_limit_ms == 0)
		g->timer = timer_create_on(rpc_call_loop(call), gather_late, g);
	if (g == NULL || (m->time_limit_ms == 0 && g->timer == NULL)) {
		free(g);
		err_set(&err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		rpc_call_finish(call, &err);
		return;
	}
	if (g->timer != NULL)
		timer_start(g->timer, RPC_REQUEST_TIMEOUT_MS);
	g->call = call;
	g->method = m;
	g->server = s;
	rpc_reader_init(&g->reader, m->max_message != 0 ? m->max_message : RPC_MESSAGE_MAX);
	rpc_call_bind(call, &gather_ops, g);
}

/* Calls. */

static int compare_methods(const void *a, const void *b)
{
	return strcmp(((const struct rpc_method *)a)->path, ((const struct rpc_method *)b)->path);
}

static void on_call(void *cookie, struct rpc_call *call)
{
	struct rpc_server *s = ((struct link *)cookie)->shard->server;
	struct rpc_method key = { .path = rpc_call_path(call) };
	struct err err = { 0 };
	const struct rpc_method *m =
	    bsearch(&key, s->methods, s->opt.method_count, sizeof(key), compare_methods);

	atomic_fetch_add(&s->calls, 1);
	if (m == NULL) {
		err_set(&err, GRPC_UNIMPLEMENTED, "%s is no method of this server", key.path);
		rpc_call_finish(call, &err);
		return;
	}
	if (s->opt.admit != NULL && s->opt.admit(call, s->opt.app, &err) != 0) {
		rpc_call_finish(call, &err);
		return;
	}
	if (m->time_limit_ms != 0 && rpc_call_limit_time(call, m->time_limit_ms) != 0) {
		err_set(&err, GRPC_RESOURCE_EXHAUSTED, "out of memory for a call");
		rpc_call_finish(call, &err);
		return;
	}
	if (m->open != NULL)
		m->open(call, s->opt.app);
	else
		start_gather(s, m, call);
}

/* Connections. */

static void shard_check_drained(struct shard *sh);

static void on_conn_closed(void *cookie, const struct err *why)
{
	struct link *l = cookie;
	struct shard *sh = l->shard;

	(void)why;
	if (l->prev != NULL)
		l->prev->next = l->next;
	else
		sh->conns = l->next;
	if (l->next != NULL)
		l->next->prev = l->prev;
	sh->count--;
	atomic_fetch_sub(&sh->server->open_connections, 1);
	free(l);
	shard_check_drained(sh);
}

static void on_flood(void *cookie)
{
	atomic_fetch_add(&((struct link *)cookie)->shard->server->floods, 1);
}

static const struct conn_ops conn_ops = {
	.call = on_call,
	.flood = on_flood,
	.closed = on_conn_closed,
};

static void open_conn(struct shard *sh, int fd, struct rpc_tls *tls)
{
	struct link *l = calloc(1, sizeof(*l));
	struct err err = { 0 };
	const struct conn_options o = {
		.fd = fd,
		.is_server = true,
		.tls = tls,
		.options = &sh->server->options,
		.ops = &conn_ops,
		.cookie = l,
	};

	if (l != NULL && !sh->draining) {
		l->shard = sh;
		if ((l->conn = conn_create(sh->loop, &o, &err)) != NULL) {
			l->next = sh->conns;
			if (l->next != NULL)
				l->next->prev = l;
			sh->conns = l;
			sh->count++;
			return;
		}
		log_warn(&area, "accept_failed", LOG_ERR(&err));
	}
	free(l);
	close(fd);
	atomic_fetch_sub(&sh->server->open_connections, 1);
}

static void run_handoff(struct post *post)
{
	struct handoff *h = (struct handoff *)post;

	open_conn(h->shard, h->fd, h->tls);
	free(h);
}

/* A connection was accepted, on the first loop: it goes to the next loop in turn. */
static void on_accept(void *cookie, int fd, struct rpc_tls *tls)
{
	struct rpc_server *s = cookie;
	struct shard *sh = &s->shards[s->next_shard++ % s->opt.loop_count];
	struct handoff *h;

	if (atomic_load(&s->open_connections) >= s->options.max_connections) {
		atomic_fetch_add(&s->refused, 1);
		log_warn(&area, "too_many_connections", LOG_U64("max", s->options.max_connections));
		close(fd);
		return;
	}
	atomic_fetch_add(&s->open_connections, 1);
	atomic_fetch_add(&s->connections, 1);
	if (loop_is_current(sh->loop)) {
		open_conn(sh, fd, tls);
		return;
	}
	if ((h = calloc(1, sizeof(*h))) == NULL) {
		close(fd);
		atomic_fetch_sub(&s->open_connections, 1);
		return;
	}
	*h = (struct handoff){ .post = { .run = run_handoff }, .shard = sh, .fd = fd, .tls = tls };
	loop_post(sh->loop, &h->post);
}

static void run_drop(struct post *post)
{
	struct shard *sh = (struct shard *)((char *)post - offsetof(struct shard, drop));
	struct err err;

	err_set(&err, GRPC_UNAVAILABLE, "the server is shutting down");
	for (struct link *l = sh->conns, *next; l != NULL; l = next) {
		next = l->next;
		conn_close(l->conn, &err);
	}
}

static void on_drain_timeout(void *cookie)
{
	struct rpc_server *s = cookie;

	for (size_t i = 0; i < s->opt.loop_count; i++) {
		s->shards[i].drop.run = run_drop;
		loop_post(s->shards[i].loop, &s->shards[i].drop);
	}
}

/* The server. */

struct rpc_server *rpc_server_create(const struct rpc_server_options *opt, struct err *err)
{
	struct rpc_server *s = calloc(1, sizeof(*s));

	if (s != NULL) {
		s->opt = *opt;
		s->methods = calloc(opt->method_count + 1, sizeof(*s->methods));
		s->shards = calloc(opt->loop_count, sizeof(*s->shards));
		s->drain_timer = timer_create_on(opt->loops[0], on_drain_timeout, s);
	}
	if (s == NULL || s->methods == NULL || s->shards == NULL || s->drain_timer == NULL) {
		rpc_server_free(s);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	if (opt->method_count > 0)
		memcpy(s->methods, opt->methods, opt->method_count * sizeof(*s->methods));
	qsort(s->methods, opt->method_count, sizeof(*s->methods), compare_methods);
	for (size_t i = 0; i < opt->loop_count; i++)
		s->shards[i] = (struct shard){ .server = s, .loop = opt->loops[i] };
	s->options = rpc_options_default();
	if (opt->max_connections != 0)
		s->options.max_connections = opt->max_connections;
	if (opt->max_streams != 0)
		s->options.max_streams = opt->max_streams;
	if (opt->keepalive_ms != 0)
		s->options.keepalive_ms = opt->keepalive_ms;
	if (opt->keepalive_timeout_ms != 0)
		s->options.keepalive_timeout_ms = opt->keepalive_timeout_ms;
	return s;
}

int rpc_server_listen(struct rpc_server *s, const char *address, struct rpc_tls *tls, char *bound,
    size_t size, struct err *err)
{
	char text[ADDRESS_TEXT_MAX];

	if (s->listener_count == LISTENERS_MAX)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "more than %d addresses to listen on",
		    LISTENERS_MAX);
	struct listener *l =
	    listener_create(s->opt.loops[0], address, tls, on_accept, s, text, err);
	if (l == NULL)
		return -1;
	s->listeners[s->listener_count++] = l;
	if (bound != NULL)
		snprintf(bound, size, "%s", text);
	return 0;
}

static void run_drained(struct post *post)
{
	struct rpc_server *s =
	    (struct rpc_server *)((char *)post - offsetof(struct rpc_server, drained));

	timer_stop(s->drain_timer);
	s->done(s->done_cookie);
}

static void shard_check_drained(struct shard *sh)
{
	struct rpc_server *s = sh->server;

	if (!sh->draining || sh->drained || sh->count > 0)
		return;
	sh->drained = true;
	if (atomic_fetch_sub(&s->busy_shards, 1) != 1)
		return;
	s->drained.run = run_drained;
	loop_post(s->opt.loops[0], &s->drained);
}

static void run_drain(struct post *post)
{
	struct shard *sh = (struct shard *)((char *)post - offsetof(struct shard, drain));

	sh->draining = true;
	for (struct link *l = sh->conns, *next; l != NULL; l = next) {
		next = l->next;
		conn_drain(l->conn);
	}
	shard_check_drained(sh);
}

void rpc_server_drain(struct rpc_server *s, uint64_t ms, void (*done)(void *cookie), void *cookie)
{
	s->done = done;
	s->done_cookie = cookie;
	for (size_t i = 0; i < s->listener_count; i++)
		listener_free(s->listeners[i]);
	s->listener_count = 0;
	atomic_store(&s->busy_shards, s->opt.loop_count);
	timer_start(s->drain_timer, ms);
	for (size_t i = 0; i < s->opt.loop_count; i++) {
		s->shards[i].drain.run = run_drain;
		loop_post(s->shards[i].loop, &s->shards[i].drain);
	}
}

void rpc_server_free(struct rpc_server *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->listener_count; i++)
		listener_free(s->listeners[i]);
	timer_free(s->drain_timer);
	free(s->methods);
	free(s->shards);
	free(s);
}

void rpc_server_stats(struct rpc_server *s, struct rpc_server_stats *out)
{
	*out = (struct rpc_server_stats){
		.connections = atomic_load(&s->connections),
		.calls = atomic_load(&s->calls),
		.floods = atomic_load(&s->floods),
		.refused = atomic_load(&s->refused),
		.open_connections = atomic_load(&s->open_connections),
	};
}
