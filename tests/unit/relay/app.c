#include "app.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "relay/wire.h"
#include "support/alloc.h"

struct channel_state {
	struct app *app;
	struct framed *framed;
};

/* RIG_ECHO: sends back what it gets, ends when the client does. A first message "silent"
 * is not answered; "fail" is, with a status. */

static void echo_payload(void *cookie, struct slice bytes)
{
	struct channel_state *c = cookie;
	size_t len = bytes.len;
	struct err e;

	framed_credit(c->framed, len);
	if (framed_write(c->framed, FRAMED_BYTES, bytes) == 0)
		return;
	slice_release(&bytes);
	err_set(&e, GRPC_RESOURCE_EXHAUSTED, "the echo cannot be sent");
	framed_finish(c->framed, &e);
}

static void echo_end(void *cookie, const struct err *status)
{
	struct channel_state *c = cookie;

	assert_null(status);
	framed_finish(c->framed, NULL);
}

static void echo_closed(void *cookie, const struct err *why)
{
	struct channel_state *c = cookie;

	c->app->closed++;
	c->app->why = *why;
	free(c);
}

static const struct framed_ops echo_ops = {
	.payload = echo_payload,
	.end = echo_end,
	.closed = echo_closed,
};

static void echo_open(struct framed *framed, const struct channel_request *request, void *cookie)
{
	struct channel_state *c;
	struct app *app = cookie;
	struct err e;

	alloc_hold();
	c = calloc(1, sizeof(*c));
	alloc_release();
	assert_non_null(c);
	c->app = app;
	c->framed = framed;
	app->opened++;
	app->timeout_ms = request->timeout_ms;
	app->half_closed = request->half_closed;
	snprintf(app->method, sizeof(app->method), "%s", request->method);
	snprintf(app->subject, sizeof(app->subject), "%s", request->subject);
	snprintf(app->first, sizeof(app->first), "%.*s", (int)request->first_len,
	    (const char *)request->first_message);
	framed_bind(framed, &echo_ops, c);
	if (strcmp(app->first, "fail") != 0)
		return;
	err_set(&e, GRPC_ALREADY_EXISTS, "it is there");
	framed_finish(framed, &e);
}

const struct channel_method app_rows[] = {
	{ .path = RIG_ECHO, .open = echo_open },
	{ .path = WIRE_FORWARD, .open = echo_open },
	{ .path = NULL },
};

const struct channel_method app_no_rows[] = { { .path = NULL } };

static void on_connected(void *cookie)
{
	struct app *app = cookie;

	app->connected++;
}

static void on_disconnected(void *cookie, const struct err *why)
{
	struct app *app = cookie;

	app->disconnected++;
	app->why = *why;
}

static void on_rejected(void *cookie, const struct err *why)
{
	struct app *app = cookie;

	app->rejected++;
	app->why = *why;
}

static void dial(struct app *app, struct rig *rig, struct dialer_options options)
{
	struct err e;

	*app = (struct app){ .rig = rig };
	options.instance_id = "dialer";
	options.app = app;
	options.connected = on_connected;
	options.disconnected = on_disconnected;
	options.rejected = on_rejected;
	app->dialer = dialer_create(rig->loop, &options, &e);
	if (app->dialer != NULL)
		return;
	assert_true(alloc_has_failed());
	assert_int_not_equal(e.code, GRPC_OK);
}

void app_dial(struct app *app, struct rig *rig, const char *url, const char *sandbox,
    const char *token, const struct channel_method *methods)
{
	dial(app, rig,
	    (struct dialer_options){
		.url = url, .sandbox_id = sandbox, .token = token, .methods = methods });
}

void app_dial_within(
    struct app *app, struct rig *rig, const char *url, uint32_t answer_ms, uint32_t grace_ms)
{
	dial(app, rig,
	    (struct dialer_options){
		.url = url,
		.sandbox_id = "a",
		.token = "a",
		.methods = app_rows,
		.answer_ms = answer_ms,
		.grace_ms = grace_ms,
	    });
}

static void on_done(void *cookie)
{
	struct app *app = cookie;

	assert_false(app->done);
	app->done = true;
}

static bool is_done(void *cookie)
{
	return ((struct app *)cookie)->done;
}

void app_hang_up(struct app *app)
{
	if (app->dialer == NULL)
		return;
	dialer_close(app->dialer, on_done, app);
	assert_true(rig_until(app->rig, is_done, app));
	assert_int_equal(app->opened, app->closed);
}

struct expect {
	const struct app *app;
	const unsigned *count;
	unsigned want;
	uint32_t connections;
};

static bool count_is(void *cookie)
{
	const struct expect *x = cookie;

	return *x->count == x->want;
}

bool app_until(struct rig *rig, const unsigned *count, unsigned want)
{
	struct expect x = { .count = count, .want = want };

	return rig_until(rig, count_is, &x);
}

static bool connections_are(void *cookie)
{
	const struct expect *x = cookie;
	struct dialer_stats stats;

	dialer_stats(x->app->dialer, &stats);
	return stats.connected && stats.connections == x->connections;
}

bool app_connected(struct app *app, uint32_t connections)
{
	struct expect x = { .app = app, .connections = connections };

	return rig_until(app->rig, connections_are, &x);
}
