/*
 * A client and a server on one loop, with each allocation failing in turn: calls may fail, a
 * connection may end, but everybody is told, and nothing leaks, hangs or crashes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/loop.h"
#include "rpc/client.h"
#include "rpc/reader.h"
#include "rpc/server.h"
#include "support/alloc.h"
#include "support/leak.h"

#define GUARD_MS   3000 /* the longest an exchange can take, failures included */
#define DRAIN_MS   50
#define TIMEOUT_MS 500

struct exchange {
	struct loop *loop;
	struct timer *guard;
	struct rpc_server *server;
	struct rpc_client *client; /* NULL: none, or told that it is gone */
	unsigned waiting;          /* calls that have not ended */
	bool unary_done, stream_done, drained, hung;
};

/* The server's methods: one returns the message, one returns the bytes as they come. */

static void echo_message(struct rpc_call *call, void *app, const uint8_t *message, size_t len)
{
	struct err err = { 0 };

	(void)app;
	if (rpc_call_send(call, message, len) < 0)
		err_set(&err, GRPC_RESOURCE_EXHAUSTED, "the reply cannot be queued");
	rpc_call_finish(call, &err);
}

static void echo_data(void *cookie, struct slice s)
{
	struct rpc_call *call = cookie;
	size_t len = s.len;

	if (rpc_call_write(call, s) < 0)
		slice_release(&s);
	rpc_call_credit(call, len);
}

static void echo_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	(void)status;
	(void)trailers;
	rpc_call_finish(cookie, NULL);
}

static void echo_open(struct rpc_call *call, void *app)
{
	static const struct rpc_call_ops ops = { .data = echo_data, .end = echo_end };
	struct err err = { 0 };

	(void)app;
	rpc_call_bind(call, &ops, call);
	if (rpc_call_headers(call, rpc_call_meta(call), &err) < 0)
		rpc_call_finish(call, &err);
}

/* The end: the client goes when its calls are over, then the server, then the loop. */

static void on_drained(void *cookie)
{
	struct exchange *x = cookie;

	x->drained = true;
	loop_stop(x->loop);
}

static void drain(struct exchange *x)
{
	rpc_server_drain(x->server, DRAIN_MS, on_drained, x);
}

static void on_client_closed(void *cookie, const struct err *why)
{
	struct exchange *x = cookie;

	(void)why;
	assert_int_equal(x->waiting, 0); /* every call was told before */
	x->client = NULL;
	drain(x);
}

static void call_over(struct exchange *x)
{
	assert_true(x->waiting > 0);
	if (--x->waiting == 0 && x->client != NULL)
		rpc_client_close(x->client);
}

static void on_guard(void *cookie)
{
	struct exchange *x = cookie;

	x->hung = true;
	loop_stop(x->loop);
}

/* The client's calls. */

static void on_unary(void *cookie, const uint8_t *reply, size_t len, const struct err *err)
{
	struct exchange *x = cookie;

	if (err->code == GRPC_OK) {
		assert_int_equal(len, 5);
		assert_memory_equal(reply, "hello", 5);
		x->unary_done = true;
	}
	call_over(x);
}

static void on_stream_data(void *cookie, struct slice s)
{
	(void)cookie;
	slice_release(&s);
}

static void on_stream_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	struct exchange *x = cookie;

	(void)trailers;
	x->stream_done = status->code == GRPC_OK;
}

static void on_stream_closed(void *cookie, const struct err *why)
{
	(void)why;
	call_over(cookie);
}

static void start_stream(struct exchange *x, const struct rpc_meta *meta)
{
	static const struct rpc_call_ops ops = {
		.data = on_stream_data,
		.end = on_stream_end,
		.closed = on_stream_closed,
	};
	static const uint8_t message[6000]; /* more than is gathered by copy */
	const struct rpc_client_call request = {
		.path = "/test/Stream",
		.meta = meta,
		.timeout_ms = TIMEOUT_MS,
		.ops = &ops,
		.cookie = x,
	};
	struct err err = { 0 };
	struct rpc_call *call = rpc_client_call(x->client, &request, &err);

	if (call == NULL) {
		assert_int_not_equal(err.code, GRPC_OK);
		return;
	}
	x->waiting++;
	rpc_call_write(call, (struct slice){ .data = message, .len = sizeof(message) });
	rpc_call_end(call, NULL);
}

static void start_calls(struct exchange *x)
{
	struct rpc_meta meta;
	struct err err = { 0 };

	rpc_meta_init(&meta);
	if (rpc_meta_add(&meta, "key-bin", "\0\1\2", 3, &err) == 0)
		start_stream(x, &meta);
	rpc_meta_free(&meta);
	if (rpc_client_unary(
		x->client, "/test/Echo", NULL, TIMEOUT_MS, "hello", 5, on_unary, x, &err) != NULL)
		x->waiting++;
	else
		assert_int_not_equal(err.code, GRPC_OK);
}

static int start(struct exchange *x, const char *address, struct err *err)
{
	static const struct rpc_method methods[] = {
		{ .path = "/test/Echo", .request = echo_message },
		{ .path = "/test/Stream", .open = echo_open },
	};
	const struct rpc_server_options server = {
		.loops = &x->loop,
		.loop_count = 1,
		.methods = methods,
		.method_count = 2,
	};
	const struct rpc_client_options client = { .closed = on_client_closed, .cookie = x };

	x->server = rpc_server_create(&server, err);
	if (x->server == NULL || rpc_server_listen(x->server, address, NULL, NULL, 0, err) < 0)
		return -1;
	x->client = rpc_client_connect(x->loop, address, &client, err);
	return x->client != NULL ? 0 : -1;
}

static void run(struct exchange *x, const char *address)
{
	struct err err = { 0 };

	timer_start(x->guard, GUARD_MS);
	if (start(x, address, &err) == 0) {
		start_calls(x);
		if (x->waiting == 0)
			rpc_client_close(x->client);
	} else {
		assert_int_not_equal(err.code, GRPC_OK);
		if (x->server == NULL)
			return;
		drain(x);
	}
	loop_run(x->loop);
	assert_false(x->hung);
	assert_true(x->drained);
	rpc_server_free(x->server);
}

static void exchange(void *cookie)
{
	struct exchange x = { 0 };
	struct err err = { 0 };

	x.loop = loop_create(0, &err);
	if (x.loop == NULL) {
		assert_int_not_equal(err.code, GRPC_OK);
		return;
	}
	x.guard = timer_create_on(x.loop, on_guard, &x);
	if (x.guard != NULL)
		run(&x, cookie);
	timer_free(x.guard);
	loop_free(x.loop);
	if (!alloc_has_failed())
		assert_true(x.unary_done && x.stream_done);
}

static int set_up(void **state)
{
	log_setup(2, LOG_FORMAT_LOGFMT, LOG_LEVEL_ERROR);
	loop_ignore_sigpipe();
	loop_free(loop_create(0, NULL)); /* libuv keeps a pipe for signals from then on */
	*state = leak_begin();
	return 0;
}

static int tear_down(void **state)
{
	return leak_end(*state);
}

static void every_failure_ends_well(void **state)
{
	char address[128];

	snprintf(address, sizeof(address), "unix:%s", leak_path(*state, "socket"));
	exchange(address);
	alloc_torture(exchange, address);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_failure_ends_well, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
