#include "served/served.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/codec.h"
#include "rpc/address.h"

#define WAIT_MS 10000

/* The supervisor's end. It takes the call over at once. */

static void nothing_closed(void *cookie, const struct err *why)
{
	(void)cookie;
	(void)why;
}

static void open_call(struct rpc_call *call, void *app)
{
	static const struct framed_ops none = { .closed = nothing_closed };
	struct served *s = app;
	const struct framed_options o = { .whole = s->method->whole };
	struct framed *framed = framed_serve(call, &o, &none, s);
	const struct channel_request r = {
		.method = s->method->path,
		.first_message = s->first,
		.first_len = s->first_len,
		.timeout_ms = RPC_DEADLINE_NONE,
		.subject = "test",
	};

	assert_non_null(framed);
	s->method->open(framed, &r, s->app);
}

/* The client's. */

static void call_payload(void *cookie, struct slice data)
{
	struct served *s = cookie;
	size_t len = data.len;

	slice_release(&data);
	s->received += len;
	s->owed += len;
	if (!s->hold)
		served_take(s);
}

void served_take(struct served *s)
{
	size_t owed = s->owed;

	s->hold = false;
	s->owed = 0;
	framed_credit(s->call, owed);
}

static void call_message(void *cookie, const uint8_t *message, size_t len)
{
	(void)cookie;
	(void)message;
	(void)len;
}

static void call_end(void *cookie, const struct err *status)
{
	struct served *s = cookie;

	s->ended = true;
	s->status = *status;
}

static void call_closed(void *cookie, const struct err *why)
{
	struct served *s = cookie;

	s->call = NULL;
	if (!s->ended)
		s->status = *why;
}

static const struct framed_ops call_ops = {
	.payload = call_payload,
	.message = call_message,
	.end = call_end,
	.closed = call_closed,
};

void served_call(struct served *s, const ProtobufCMessage *first)
{
	struct rpc_client_call c = { .path = s->method->path };
	struct err err;

	assert_null(s->call);
	free(s->first);
	s->first = codec_pack_new(first, &s->first_len);
	assert_non_null(s->first);
	s->ended = false;
	s->received = s->owed = 0;
	s->call = framed_call(s->client, &c, NULL, &call_ops, s, &err);
	assert_non_null(s->call);
}

bool served_is_over(struct served *s)
{
	return s->call == NULL;
}

/* The loop. */

struct waiting {
	struct served *served;
	struct timer *timer;
	bool (*is)(struct served *);
	uint64_t until_us;
	bool so;
};

static void look(void *cookie)
{
	struct waiting *w = cookie;

	w->so = w->is(w->served);
	if (w->so || loop_now_us() > w->until_us)
		loop_stop(w->served->loop);
	else
		timer_start(w->timer, 1);
}

void served_until(struct served *s, bool (*is_so)(struct served *))
{
	struct loop *loop = s->loop;
	struct waiting w = { .served = s, .is = is_so, .until_us = loop_now_us() + WAIT_MS * 1000 };

	w.timer = timer_create_on(loop, look, &w);
	assert_non_null(w.timer);
	timer_start(w.timer, 0);
	loop_run(loop);
	timer_free(w.timer);
	assert_true(w.so);
}

/* Both. */

static void on_drained(void *cookie)
{
	((struct served *)cookie)->drained = true;
}

static void on_disconnected(void *cookie, const struct err *why)
{
	(void)why;
	((struct served *)cookie)->disconnected = true;
}

void served_open(struct served *s, const struct channel_method *method, void *app)
{
	char bound[ADDRESS_TEXT_MAX], url[ADDRESS_TEXT_MAX + 16];
	struct rpc_server_options server = {
		.loops = &s->loop,
		.loop_count = 1,
		.methods = &s->served,
		.method_count = 1,
		.app = s,
	};
	struct rpc_client_options client = { .closed = on_disconnected, .cookie = s };

	*s = (struct served){ .loop = loop_create(0, NULL), .method = method, .app = app };
	s->served = (struct rpc_method){ .path = method->path, .open = open_call };
	assert_non_null(s->loop);
	s->server = rpc_server_create(&server, NULL);
	assert_non_null(s->server);
	assert_int_equal(
	    rpc_server_listen(s->server, "127.0.0.1:0", NULL, bound, sizeof(bound), NULL), 0);
	snprintf(url, sizeof(url), "http://%s", bound);
	s->client = rpc_client_connect(s->loop, url, &client, NULL);
	assert_non_null(s->client);
}

static bool is_down(struct served *s)
{
	return s->drained && s->disconnected;
}

void served_close(struct served *s)
{
	rpc_client_close(s->client);
	rpc_server_drain(s->server, 1000, on_drained, s);
	served_until(s, is_down);
	rpc_server_free(s->server);
	loop_free(s->loop);
	free(s->first);
}
