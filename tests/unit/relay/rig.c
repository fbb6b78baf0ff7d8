#include "rig.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "relay/wire.h"
#include "rpc/address.h"
#include "support/alloc.h"
#include "support/leak.h"

/* As every program of ours; and libuv keeps a pipe for signals from its first loop on. */
int rig_setup(void **state)
{
	loop_ignore_sigpipe();
	loop_free(loop_create(0, NULL));
	*state = leak_begin();
	return 0;
}

int rig_teardown(void **state)
{
	return leak_end(*state);
}

#define LOOKS 50 /* without a pause between them: most of what is waited for comes at once */

/* The gateway. */

static const char *token_of(struct rpc_call *call)
{
	const char *value = rpc_meta_get(rpc_call_meta(call), "authorization");

	assert_non_null(value);
	return value + strlen("Bearer ");
}

static void open_connect(struct rpc_call *call, void *app)
{
	struct rig *rig = app;

	tunnels_connect(rig->tunnels, call, token_of(call));
}

static void open_relay(struct rpc_call *call, void *app)
{
	struct rig *rig = app;

	tunnels_relay(rig->tunnels, call, token_of(call));
}

/* A client's call until its first message is there, or, with the metadata "whole", until
 * the client has ended too. */
struct arrival {
	struct rig *rig;
	struct rpc_call *call;
	struct rpc_reader reader;
	uint8_t *first;
	size_t first_len;
};

static void arrival_free(struct arrival *a)
{
	rpc_reader_free(&a->reader);
	free(a->first);
	free(a);
}

static void arrival_route(struct arrival *a, bool half_closed)
{
	const struct rpc_meta *meta = rpc_call_meta(a->call);
	const struct tunnel_request request = {
		.sandbox_id = rpc_meta_get(meta, "sandbox"),
		.method = rpc_call_path(a->call),
		.subject = "tester",
		.first_message = a->first,
		.first_len = a->first_len,
		.half_closed = half_closed,
		.tcp_host = rpc_meta_get(meta, "tcp"),
		.tcp_port = 80,
	};
	struct bufq rest;

	bufq_init(&rest, 4096, RPC_CALL_QUEUE_MAX);
	alloc_hold();
	assert_int_equal(rpc_reader_rest(&a->reader, &rest), 0);
	alloc_release();
	tunnels_route(a->rig->tunnels, a->call, &request, &rest);
	bufq_free(&rest);
	arrival_free(a);
}

static void arrival_take(struct arrival *a, struct slice bytes)
{
	const uint8_t *message;
	struct err e;
	size_t len;
	int got;

	assert_int_equal(rpc_reader_push(&a->reader, bytes, &e), 0);
	got = rpc_reader_next(&a->reader, &message, &len, &e);
	assert_true(got >= 0);
	if (got == 0)
		return;
	rpc_call_credit(a->call, RPC_PREFIX_SIZE + len);
	a->first = malloc(len + 1);
	assert_non_null(a->first);
	memcpy(a->first, message, len);
	a->first_len = len;
}

static void arrival_data(void *cookie, struct slice bytes)
{
	struct arrival *a = cookie;

	alloc_hold();
	arrival_take(a, bytes);
	alloc_release();
	if (a->first != NULL && rpc_meta_get(rpc_call_meta(a->call), "whole") == NULL)
		arrival_route(a, false);
}

static void arrival_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	const struct err e = { .code = GRPC_INVALID_ARGUMENT, .text = "no first message" };
	struct arrival *a = cookie;

	(void)status;
	(void)trailers;
	if (a->first != NULL)
		arrival_route(a, true);
	else
		rpc_call_finish(a->call, &e);
}

static void arrival_closed(void *cookie, const struct err *why)
{
	(void)why;
	arrival_free(cookie);
}

static const struct rpc_call_ops arrival_ops = {
	.data = arrival_data,
	.end = arrival_end,
	.closed = arrival_closed,
};

static void open_echo(struct rpc_call *call, void *app)
{
	struct arrival *a;

	alloc_hold();
	a = calloc(1, sizeof(*a));
	alloc_release();
	assert_non_null(a);
	a->rig = app;
	a->call = call;
	rpc_reader_init(&a->reader, RPC_MESSAGE_MAX);
	rpc_call_bind(call, &arrival_ops, a);
}

static const struct rpc_method methods[] = {
	{ .path = WIRE_CONNECT, .open = open_connect },
	{ .path = WIRE_RELAY, .open = open_relay },
	{ .path = RIG_ECHO, .open = open_echo },
};

static void on_up(void *cookie, const char *sandbox, const char *instance, const char *version)
{
	struct rig *rig = cookie;

	(void)sandbox;
	(void)instance;
	(void)version;
	atomic_fetch_add(&rig->ups, 1);
}

static void on_down(void *cookie, const char *sandbox, const struct err *why)
{
	struct rig *rig = cookie;

	(void)sandbox;
	assert_int_not_equal(why->code, GRPC_OK);
	atomic_fetch_add(&rig->downs, 1);
}

static void *run_loop(void *loop)
{
	loop_run(loop);
	return NULL;
}

static void start_threads(struct rig *rig)
{
	pthread_t thread;

	for (size_t i = 0; i < rig->loop_count; i++) {
		assert_int_equal(pthread_create(&thread, NULL, run_loop, rig->loops[i]), 0);
		rig->threads[i] = (void *)thread;
	}
}

struct rig *rig_create(size_t loops, const struct tunnel_options *limits)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct tunnel_options options = limits != NULL ? *limits : (struct tunnel_options){ 0 };
	char bound[ADDRESS_TEXT_MAX];
	struct err e;

	assert_non_null(rig);
	rig->loop_count = loops;
	for (size_t i = 0; i < loops; i++)
		assert_non_null(rig->loops[i] = loop_create((unsigned)i, &e));
	rig->loop = loops == 1 ? rig->loops[0] : loop_create(99, &e);
	assert_non_null(rig->loop);
	options.loops = rig->loops;
	options.loop_count = loops;
	options.events = (struct tunnel_events){ on_up, on_down, rig };
	rig->tunnels = tunnels_create(&options, &e);
	assert_non_null(rig->tunnels);
	rig->server = rpc_server_create(
	    &(struct rpc_server_options){
		.loops = rig->loops,
		.loop_count = loops,
		.methods = methods,
		.method_count = sizeof(methods) / sizeof(methods[0]),
		.app = rig,
	    },
	    &e);
	assert_non_null(rig->server);
	assert_int_equal(
	    rpc_server_listen(rig->server, "127.0.0.1:0", NULL, bound, sizeof(bound), &e), 0);
	snprintf(rig->url, sizeof(rig->url), "http://%s", bound);
	if (loops > 1)
		start_threads(rig);
	return rig;
}

static void on_drained(void *cookie)
{
	struct rig *rig = cookie;

	atomic_store(&rig->drained, true);
}

struct ending {
	struct post post;
	struct rig *rig;
};

static void run_ending(struct post *post)
{
	struct rig *rig = ((struct ending *)post)->rig;
	const struct err why = { .code = GRPC_UNAVAILABLE, .text = "the rig is taken down" };

	tunnels_shut(rig->tunnels, &why);
	rpc_server_drain(rig->server, 2000, on_drained, rig);
}

static bool is_drained(void *cookie)
{
	struct rig *rig = cookie;

	return atomic_load(&rig->drained) && rig->clients == 0;
}

void rig_free(struct rig *rig)
{
	struct ending ending = { .post.run = run_ending, .rig = rig };

	loop_post(rig->loops[0], &ending.post);
	assert_true(rig_until(rig, is_drained, rig));
	for (size_t i = 0; rig->loop_count > 1 && i < rig->loop_count; i++) {
		loop_stop(rig->loops[i]);
		pthread_join((pthread_t)rig->threads[i], NULL);
	}
	rpc_server_free(rig->server);
	tunnels_free(rig->tunnels);
	if (rig->loop_count > 1)
		loop_free(rig->loop);
	for (size_t i = 0; i < rig->loop_count; i++)
		loop_free(rig->loops[i]);
	free(rig);
}

/* Waiting. */

struct wait {
	struct rig *rig;
	bool (*is)(void *cookie);
	void *cookie;
	uint64_t until_ms;
	struct timer *timer;
	unsigned looks;
	bool result;
};

static void look(void *cookie)
{
	struct wait *w = cookie;

	w->result = w->is != NULL && w->is(w->cookie);
	if (w->result || loop_now_us() / 1000 >= w->until_ms)
		loop_stop(w->rig->loop);
	else
		timer_start(w->timer, w->looks++ < LOOKS ? 0 : 1);
}

static bool wait_for(struct rig *rig, bool (*is)(void *cookie), void *cookie, uint32_t ms)
{
	struct wait w = { .rig = rig, .is = is, .cookie = cookie };

	w.until_ms = loop_now_us() / 1000 + ms;
	alloc_hold();
	w.timer = timer_create_on(rig->loop, look, &w);
	alloc_release();
	assert_non_null(w.timer);
	timer_start(w.timer, 0);
	loop_run(rig->loop);
	timer_free(w.timer);
	return w.result;
}

bool rig_until(struct rig *rig, bool (*is)(void *cookie), void *cookie)
{
	if (wait_for(rig, is, cookie, RIG_SHORT_MS))
		return true;
	alloc_relent();
	return wait_for(rig, is, cookie, RIG_WAIT_MS);
}

void rig_run(struct rig *rig, uint32_t ms)
{
	wait_for(rig, NULL, NULL, ms);
}

struct counts {
	struct tunnels *tunnels;
	struct tunnel_stats want;
};

static bool counts_are(void *cookie)
{
	const struct counts *c = cookie;
	struct tunnel_stats now;

	tunnels_stats(c->tunnels, &now);
	return now.sessions == c->want.sessions && now.unclaimed == c->want.unclaimed &&
	    now.channels == c->want.channels;
}

bool rig_settled(struct rig *rig, uint32_t sessions, uint32_t unclaimed, uint32_t channels)
{
	struct counts c = { rig->tunnels, { .sessions = sessions, .unclaimed = unclaimed } };

	c.want.channels = channels;
	return rig_until(rig, counts_are, &c);
}

/* Calls. */

struct connection {
	struct rig *rig;
	struct rpc_client **place; /* may be NULL */
};

static void connection_closed(void *cookie, const struct err *why)
{
	struct connection *c = cookie;

	(void)why;
	c->rig->clients--;
	if (c->place != NULL)
		*c->place = NULL;
	free(c);
}

static struct rpc_client *connect_at(struct rig *rig, struct rpc_client **place)
{
	struct rpc_client *client;
	struct connection *c;
	struct err e;

	alloc_hold();
	c = calloc(1, sizeof(*c));
	alloc_release();
	assert_non_null(c);
	*c = (struct connection){ rig, place };
	client = rpc_client_connect(rig->loop, rig->url,
	    &(struct rpc_client_options){ .closed = connection_closed, .cookie = c }, &e);
	if (client == NULL) {
		assert_true(alloc_has_failed());
		free(c);
		return NULL;
	}
	rig->clients++;
	return client;
}

struct rpc_client *rig_connect(struct rig *rig)
{
	return connect_at(rig, NULL);
}

void rig_connect_at(struct rig *rig, struct rpc_client **client)
{
	*client = connect_at(rig, client);
}

static void call_headers(void *cookie, const struct rpc_meta *meta)
{
	struct rig_call *c = cookie;
	const char *loop = rpc_meta_get(meta, WIRE_META_LOOP);

	c->headers = true;
	if (loop != NULL)
		snprintf(c->loop, sizeof(c->loop), "%s", loop);
}

static void call_keep(struct rig_call *c, const struct slice *bytes)
{
	c->total += bytes->len;
	for (size_t i = 0; i < bytes->len; i++)
		c->sum = c->sum * 1099511628211u + bytes->data[i];
	if (c->discard)
		return;
	if (c->len + bytes->len > c->cap) {
		c->cap = (c->len + bytes->len) * 2;
		alloc_hold();
		c->got = realloc(c->got, c->cap);
		alloc_release();
		assert_non_null(c->got);
	}
	memcpy(c->got + c->len, bytes->data, bytes->len);
	c->len += bytes->len;
}

static void call_data(void *cookie, struct slice bytes)
{
	struct rig_call *c = cookie;

	call_keep(c, &bytes);
	if (c->stalled)
		c->owed += bytes.len;
	else if (c->on_data == NULL)
		rpc_call_credit(c->call, bytes.len);
	if (c->on_data != NULL)
		c->on_data(c, &bytes);
	slice_release(&bytes);
}

static void call_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	struct rig_call *c = cookie;

	(void)trailers;
	assert_false(c->ended || c->closed);
	c->ended = true;
	c->status = *status;
	if (c->on_end != NULL)
		c->on_end(c);
}

static void call_sent(void *cookie, size_t bytes)
{
	struct rig_call *c = cookie;

	c->sent += bytes;
}

static void call_closed(void *cookie, const struct err *why)
{
	struct rig_call *c = cookie;

	assert_false(c->closed);
	c->call = NULL;
	c->closed = true;
	c->why = *why;
}

static const struct rpc_call_ops call_ops = {
	.headers = call_headers,
	.data = call_data,
	.end = call_end,
	.sent = call_sent,
	.closed = call_closed,
};

/* The call cannot go on for want of memory: nobody will be told anything any more. */
static void give_up(struct rig_call *c)
{
	assert_true(alloc_has_failed());
	err_set(&c->status, GRPC_RESOURCE_EXHAUSTED, "the test is out of memory");
	c->why = c->status;
	rig_cancel(c);
}

void rig_start(struct rig *rig, struct rig_call *c, struct rpc_client *client, const char *path,
    const char *const *names, uint64_t timeout_ms)
{
	struct rpc_meta meta;
	struct err e;

	c->rig = rig;
	rpc_meta_init(&meta);
	alloc_hold();
	for (size_t i = 0; names[i] != NULL; i += 2)
		assert_int_equal(rpc_meta_add_text(&meta, names[i], names[i + 1], &e), 0);
	alloc_release();
	if (client != NULL)
		c->call = rpc_client_call(client,
		    &(struct rpc_client_call){
			.path = path,
			.meta = &meta,
			.timeout_ms = timeout_ms,
			.ops = &call_ops,
			.cookie = c,
		    },
		    &e);
	if (c->call == NULL)
		give_up(c);
	rpc_meta_free(&meta);
}

void rig_resume(struct rig_call *c)
{
	c->stalled = false;
	if (c->call != NULL)
		rpc_call_credit(c->call, c->owed);
	c->owed = 0;
}

void rig_cancel(struct rig_call *c)
{
	const struct err why = { .code = GRPC_CANCELLED, .text = "the test says so" };

	if (c->call != NULL)
		rpc_call_cancel(c->call, &why);
	c->call = NULL;
	c->closed = true;
}

void rig_call_free(struct rig_call *c)
{
	rig_cancel(c);
	free(c->got);
	c->got = NULL;
}

static bool is_ended(void *cookie)
{
	return ((struct rig_call *)cookie)->ended;
}

static bool is_closed(void *cookie)
{
	return ((struct rig_call *)cookie)->closed;
}

bool rig_ended(struct rig_call *c)
{
	return rig_until(c->rig, is_ended, c);
}

bool rig_closed(struct rig_call *c)
{
	return rig_until(c->rig, is_closed, c);
}

struct want {
	const struct rig_call *c;
	size_t bytes;
};

static bool has_got(void *cookie)
{
	const struct want *w = cookie;

	return w->c->total >= w->bytes;
}

bool rig_got(struct rig_call *c, size_t bytes)
{
	struct want w = { c, bytes };

	return rig_until(c->rig, has_got, &w);
}

void rig_write(struct rig_call *c, const void *data, size_t len)
{
	struct slice bytes;

	if (c->call == NULL)
		return;
	alloc_hold();
	bytes = slice_copy(data, len);
	alloc_release();
	assert_non_null(bytes.data);
	if (rpc_call_write(c->call, bytes) == 0)
		return;
	slice_release(&bytes);
	give_up(c);
}

void rig_route(struct rig *rig, struct rig_call *c, struct rpc_client *client, const char *sandbox,
    const char *first)
{
	const char *const names[] = { "sandbox", sandbox, NULL };

	rig_start(rig, c, client, RIG_ECHO, names, 0);
	if (c->call != NULL && rpc_call_send(c->call, first, strlen(first)) != 0)
		give_up(c);
}
