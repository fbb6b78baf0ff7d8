#include "net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "support/leak.h"

/* As every program of ours; and libuv keeps a pipe for signals from its first loop on. */
int net_setup(void **state)
{
	log_setup(STDERR_FILENO, LOG_FORMAT_LOGFMT, LOG_LEVEL_ERROR);
	loop_ignore_sigpipe();
	loop_free(loop_create(0, NULL));
	*state = leak_begin();
	return 0;
}

int net_teardown(void **state)
{
	return leak_end(*state);
}

/* Waiting. */

struct wait {
	struct loop *loop;
	bool (*is)(void *cookie);
	void *cookie;
	uint64_t until_us;
	struct timer *timer;
	bool result;
};

static void look(void *cookie)
{
	struct wait *w = cookie;

	w->result = w->is != NULL && w->is(w->cookie);
	if (w->result || loop_now_us() >= w->until_us)
		loop_stop(w->loop);
	else
		timer_start(w->timer, 1);
}

static bool wait_for(struct loop *loop, bool (*is)(void *cookie), void *cookie, uint32_t ms)
{
	struct wait w = { .loop = loop, .is = is, .cookie = cookie };

	w.until_us = loop_now_us() + (uint64_t)ms * 1000;
	w.timer = timer_create_on(loop, look, &w);
	assert_non_null(w.timer);
	timer_start(w.timer, 0);
	loop_run(loop);
	timer_free(w.timer);
	return w.result;
}

void net_until(struct loop *loop, bool (*is)(void *cookie), void *cookie)
{
	assert_true(wait_for(loop, is, cookie, NET_WAIT_MS));
}

static bool is_set(void *flag)
{
	return *(const bool *)flag;
}

void net_wait(struct loop *loop, const bool *flag)
{
	net_until(loop, is_set, (void *)flag);
}

struct count {
	const unsigned *count;
	unsigned at_least;
};

static bool is_reached(void *cookie)
{
	const struct count *c = cookie;

	return *c->count >= c->at_least;
}

void net_wait_count(struct loop *loop, const unsigned *count, unsigned at_least)
{
	struct count c = { count, at_least };

	net_until(loop, is_reached, &c);
}

void net_run(struct loop *loop, uint32_t ms)
{
	wait_for(loop, NULL, NULL, ms);
}

/* The methods. */

static void echo(struct rpc_call *call, void *app, const uint8_t *message, size_t len)
{
	(void)app;
	assert_int_equal(rpc_call_send(call, message, len), 0);
	rpc_call_finish(call, NULL);
}

struct stream {
	struct net *net;
	struct rpc_call *call;
	uint64_t unsent;
};

static void stream_data(void *cookie, struct slice bytes)
{
	struct stream *s = cookie;

	s->unsent += bytes.len;
	if (s->unsent > s->net->stored)
		s->net->stored = s->unsent;
	if (rpc_call_write(s->call, bytes) != 0)
		slice_release(&bytes);
}

static void stream_sent(void *cookie, size_t bytes)
{
	struct stream *s = cookie;

	s->unsent -= bytes;
	rpc_call_credit(s->call, bytes);
}

static void stream_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	struct stream *s = cookie;

	(void)trailers;
	rpc_call_finish(s->call, status);
}

static void stream_closed(void *cookie, const struct err *why)
{
	(void)why;
	free(cookie);
}

static void open_stream(struct rpc_call *call, void *app)
{
	static const struct rpc_call_ops ops = {
		.data = stream_data, .end = stream_end, .sent = stream_sent, .closed = stream_closed
	};
	struct stream *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	*s = (struct stream){ .net = app, .call = call };
	rpc_call_bind(call, &ops, s);
}

static void hold_data(void *cookie, struct slice bytes)
{
	struct net *net = cookie;

	rpc_call_credit(net->held, bytes.len);
	slice_release(&bytes);
}

static void hold_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	(void)cookie;
	(void)status;
	(void)trailers;
}

static void hold_closed(void *cookie, const struct err *why)
{
	struct net *net = cookie;

	net->held = NULL;
	net->lost++;
	net->why = *why;
}

static void open_hold(struct rpc_call *call, void *app)
{
	static const struct rpc_call_ops ops = {
		.data = hold_data, .end = hold_end, .closed = hold_closed
	};
	struct net *net = app;

	net->held = call;
	net->opened++;
	rpc_call_bind(call, &ops, net);
}

static void say(struct rpc_call *call, void *app, const uint8_t *message, size_t len)
{
	const struct rpc_meta *meta = rpc_call_meta(call);
	const char *code = rpc_meta_get(meta, "code"), *text = rpc_meta_get(meta, "text-bin");
	struct err err = { 0 };

	(void)app;
	(void)message;
	(void)len;
	assert_non_null(code);
	err.code = (enum grpc_code)strtoul(code, NULL, 10);
	snprintf(err.text, sizeof(err.text), "%s", text != NULL ? text : "");
	rpc_call_finish_meta(call, &err, meta);
}

static void meta_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	struct rpc_call *call = cookie;

	(void)status;
	(void)trailers;
	rpc_call_finish_meta(call, NULL, rpc_call_meta(call));
}

static void nothing_closed(void *cookie, const struct err *why)
{
	(void)cookie;
	(void)why;
}

static void open_meta(struct rpc_call *call, void *app)
{
	static const struct rpc_call_ops ops = { .end = meta_end, .closed = nothing_closed };
	struct err err;

	(void)app;
	rpc_call_bind(call, &ops, call);
	assert_int_equal(rpc_call_headers(call, rpc_call_meta(call), &err), 0);
}

static void early_data(void *cookie, struct slice bytes)
{
	struct rpc_call *call = cookie;

	rpc_call_credit(call, bytes.len);
	slice_release(&bytes);
	rpc_call_send(call, "enough", 6);
	rpc_call_finish(call, NULL);
}

static void open_early(struct rpc_call *call, void *app)
{
	static const struct rpc_call_ops ops = {
		.data = early_data, .end = hold_end, .closed = nothing_closed
	};

	(void)app;
	rpc_call_bind(call, &ops, call);
}

static const struct rpc_method methods[] = {
	{ .path = "/test/Echo", .request = echo },
	{ .path = "/test/Small", .request = echo, .max_message = 16 },
	{ .path = "/test/Stream", .open = open_stream },
	{ .path = "/test/Hold", .open = open_hold },
	{ .path = "/test/Brief", .open = open_hold, .time_limit_ms = 40 },
	{ .path = "/test/Say", .request = say },
	{ .path = "/test/Meta", .open = open_meta },
	{ .path = "/test/Early", .open = open_early },
};

/* The server. */

void net_open(struct net *net, const char *address, const struct rpc_server_options *options,
    struct rpc_tls *tls)
{
	struct rpc_server_options o = { 0 };
	struct err err;

	memset(net, 0, sizeof(*net));
	if (options != NULL)
		o = *options;
	net->loop = loop_create(0, NULL);
	assert_non_null(net->loop);
	o.loops = &net->loop;
	o.loop_count = 1;
	o.methods = methods;
	o.method_count = sizeof(methods) / sizeof(methods[0]);
	o.app = net;
	net->server = rpc_server_create(&o, &err);
	assert_non_null(net->server);
	if (rpc_server_listen(net->server, address, tls, net->bound, sizeof(net->bound), &err) != 0)
		fail_msg("%s", err.text);
	if (strncmp(address, "unix:", 5) == 0)
		snprintf(net->url, sizeof(net->url), "%s", net->bound);
	else
		snprintf(net->url, sizeof(net->url), "%s://%s", tls != NULL ? "https" : "http",
		    net->bound);
}

static void on_drained(void *cookie)
{
	((struct net *)cookie)->drained = true;
}

void net_drain(struct net *net, uint64_t ms)
{
	net->draining = true;
	rpc_server_drain(net->server, ms, on_drained, net);
}

static bool is_over(void *cookie)
{
	struct net *net = cookie;

	return net->drained && net->clients == 0;
}

void net_close(struct net *net)
{
	if (!net->draining)
		net_drain(net, 2000);
	net_until(net->loop, is_over, net);
	rpc_server_free(net->server);
	loop_free(net->loop);
}

/* Clients. */

static void client_ready(void *cookie)
{
	((struct net_client *)cookie)->ready = true;
}

static void client_closed(void *cookie, const struct err *why)
{
	struct net_client *c = cookie;

	c->client = NULL;
	c->closed = true;
	c->why = *why;
	c->net->clients--;
}

void net_dial(struct net *net, struct net_client *c, const char *url, struct rpc_tls *tls)
{
	const struct rpc_client_options options = {
		.tls = tls, .ready = client_ready, .closed = client_closed, .cookie = c
	};
	struct err err;

	*c = (struct net_client){ .net = net };
	c->client = rpc_client_connect(net->loop, url, &options, &err);
	if (c->client == NULL)
		fail_msg("%s", err.text);
	net->clients++;
}

void net_connect(struct net *net, struct net_client *c, struct rpc_tls *tls)
{
	net_dial(net, c, net->url, tls);
}

void net_hang_up(struct net_client *c)
{
	if (c->client != NULL)
		rpc_client_close(c->client);
	net_wait(c->net->loop, &c->closed);
}

/* Calls. */

uint64_t net_sum(uint64_t sum, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		sum = (sum ^ bytes[i]) * 1099511628211u;
	return sum;
}

static void copy_meta(struct rpc_meta *to, const struct rpc_meta *from)
{
	struct err err;

	for (size_t i = 0; i < from->count; i++)
		assert_int_equal(rpc_meta_add(to, from->items[i].name, from->items[i].value,
				     from->items[i].len, &err),
		    0);
}

static void call_headers(void *cookie, const struct rpc_meta *received)
{
	struct net_call *c = cookie;

	assert_false(c->headers);
	c->headers = true;
	copy_meta(&c->head, received);
}

static void call_data(void *cookie, struct slice bytes)
{
	struct net_call *c = cookie;

	assert_false(c->ended || c->closed);
	for (size_t i = 0; i < bytes.len && c->total + i < c->cap; i++)
		c->got[c->total + i] = bytes.data[i];
	c->sum = net_sum(c->sum, bytes.data, bytes.len);
	c->total += bytes.len;
	rpc_call_credit(c->call, bytes.len);
	slice_release(&bytes);
}

static void call_end(void *cookie, const struct err *status, const struct rpc_meta *received)
{
	struct net_call *c = cookie;

	assert_false(c->ended || c->closed);
	c->ended = true;
	c->status = *status;
	copy_meta(&c->trailers, received);
}

static void call_sent(void *cookie, size_t bytes)
{
	((struct net_call *)cookie)->sent += bytes;
}

static void call_closed(void *cookie, const struct err *why)
{
	struct net_call *c = cookie;

	assert_false(c->closed);
	c->closed = true;
	c->call = NULL;
	c->why = *why;
}

void net_start(struct net_client *client, struct net_call *c, const char *path,
    const struct rpc_meta *request_meta, uint64_t timeout_ms)
{
	static const struct rpc_call_ops ops = { .headers = call_headers,
		.data = call_data,
		.end = call_end,
		.sent = call_sent,
		.closed = call_closed };
	const struct rpc_client_call request = { .path = path,
		.meta = request_meta,
		.timeout_ms = timeout_ms,
		.ops = &ops,
		.cookie = c };
	struct err err;

	memset(c, 0, sizeof(*c));
	c->cap = 4096;
	c->got = calloc(1, c->cap);
	assert_non_null(c->got);
	rpc_meta_init(&c->head);
	rpc_meta_init(&c->trailers);
	c->call = rpc_client_call(client->client, &request, &err);
	if (c->call == NULL)
		fail_msg("%s", err.text);
}

void net_ask(struct net_call *c, const void *message, size_t len)
{
	assert_int_equal(rpc_call_send(c->call, message, len), 0);
	rpc_call_end(c->call, NULL);
}

void net_expect(struct net *net, struct net_call *c, enum grpc_code code, const char *part)
{
	const struct err *is;

	net_wait(net->loop, &c->closed);
	is = c->ended ? &c->status : &c->why;
	if (is->code != code)
		fail_msg(
		    "%s instead of %s: %s", err_code_name(is->code), err_code_name(code), is->text);
	if (part != NULL && strstr(is->text, part) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", part, is->text);
}

void net_call_free(struct net_call *c)
{
	assert_true(c->closed || c->call == NULL);
	rpc_meta_free(&c->head);
	rpc_meta_free(&c->trailers);
	free(c->got);
}

struct unary {
	bool done;
	char *reply;
	struct err *err;
};

static void on_unary(void *cookie, const uint8_t *reply, size_t len, const struct err *err)
{
	struct unary *u = cookie;

	u->done = true;
	snprintf(u->reply, 64, "%.*s", (int)len, len > 0 ? (const char *)reply : "");
	*u->err = *err;
}

enum grpc_code net_unary(struct net_client *c, const char *path, const void *message, size_t len,
    char reply[static 64], struct err *err)
{
	struct unary u = { .reply = reply, .err = err };

	assert_non_null(
	    rpc_client_unary(c->client, path, NULL, NET_WAIT_MS, message, len, on_unary, &u, err));
	net_wait(c->net->loop, &u.done);
	return err->code;
}

/* Much of a pattern there and back. */

#define PIECE ((size_t)64 << 10)

struct flow {
	struct net_call c;
	uint64_t left, sum;
	uint32_t random;
};

static bool flow_goes_on(void *cookie)
{
	struct flow *f = cookie;
	uint8_t piece[PIECE];

	while (f->left > 0 && f->c.call != NULL && rpc_call_queued(f->c.call) < 16 * PIECE) {
		size_t len = f->left < PIECE ? (size_t)f->left : PIECE;

		for (size_t i = 0; i < len; i++) {
			f->random = f->random * 1664525u + 1013904223u;
			piece[i] = (uint8_t)(f->random >> 24);
		}
		f->sum = net_sum(f->sum, piece, len);
		struct slice s = slice_copy(piece, len);
		assert_non_null(s.data);
		assert_int_equal(rpc_call_write(f->c.call, s), 0);
		f->left -= len;
		if (f->left == 0)
			rpc_call_end(f->c.call, NULL);
	}
	return f->c.closed;
}

void net_echo_many(struct net_client *client, uint64_t total)
{
	struct flow f = { .left = total, .random = 1 };

	net_start(client, &f.c, "/test/Stream", NULL, 0);
	net_until(client->net->loop, flow_goes_on, &f);
	net_expect(client->net, &f.c, GRPC_OK, NULL);
	assert_int_equal(f.c.total, total);
	assert_int_equal(f.c.sum, f.sum);
	net_call_free(&f.c);
}
