#include "framed_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ends.h"
#include "relay/framed_role.h"
#include "rpc/address.h"

#define RAW_PATH    "/test.Framed/Raw"
#define FRAMED_PATH "/test.Framed/Framed"

void bytes_add(struct bytes *b, const void *data, size_t len)
{
	if (b->len + len > b->cap) {
		b->cap = 2 * (b->len + len);
		b->data = realloc(b->data, b->cap);
		assert_non_null(b->data);
	}
	if (len > 0)
		memcpy(b->data + b->len, data, len);
	b->len += len;
}

void bytes_free(struct bytes *b)
{
	free(b->data);
	*b = (struct bytes){ 0 };
}

/* A framed call. */

static void act(struct party *p, enum place place)
{
	const struct err why = { .code = GRPC_ABORTED, .text = "the test says so" };
	struct framed *framed = p->framed;

	if (p->place != place || framed == NULL)
		return;
	p->place = PLACE_NONE;
	if (p->finishes) {
		framed_finish(framed, &why);
		return;
	}
	p->framed = NULL;
	framed_cancel(framed, &why);
}

/* Nothing may be told of a call that was cancelled or has closed. */
static struct party *party_of(void *cookie)
{
	struct party *p = cookie;

	assert_non_null(p->framed);
	return p;
}

static void party_payload(void *cookie, struct slice s)
{
	struct party *p = party_of(cookie);
	size_t len = s.len;

	assert_true(len > 0);
	assert_int_equal(p->ends, 0);
	bytes_add(&p->payload, s.data, len);
	slice_release(&s);
	if (p->hold)
		p->owed += len;
	else
		framed_credit(p->framed, len);
	act(p, PLACE_PAYLOAD);
}

static void party_message(void *cookie, const uint8_t *message, size_t len)
{
	struct party *p = party_of(cookie);
	uint8_t prefix = (uint8_t)len;

	assert_int_equal(p->ends, 0);
	assert_true(p->mark_count < FRAMED_RIG_MARKS);
	p->marks[p->mark_count++] = p->payload.len;
	bytes_add(&p->messages, &prefix, 1);
	bytes_add(&p->messages, message, len);
	act(p, PLACE_MESSAGE);
}

static void party_end(void *cookie, const struct err *status)
{
	struct party *p = party_of(cookie);

	p->ends++;
	p->has_status = status != NULL;
	if (status != NULL)
		p->status = *status;
	act(p, PLACE_END);
}

static void party_sent(void *cookie, size_t bytes)
{
	struct party *p = party_of(cookie);

	assert_true(bytes > 0);
	p->sent += bytes;
	assert_true(p->sent <= p->wrote);
	act(p, PLACE_SENT);
}

static void party_closed(void *cookie, const struct err *why)
{
	struct party *p = party_of(cookie);

	p->framed = NULL;
	p->closeds++;
	p->why = *why;
}

const struct framed_ops party_ops = {
	.payload = party_payload,
	.message = party_message,
	.end = party_end,
	.sent = party_sent,
	.closed = party_closed,
};

static void party_over(void *cookie)
{
	((struct party *)cookie)->overs++;
}

static void party_free(struct party *p)
{
	assert_null(p->framed);
	bytes_free(&p->payload);
	bytes_free(&p->messages);
}

void party_write(struct party *p, struct framed_field field, size_t len)
{
	struct block *b = block_new(len);

	assert_non_null(b);
	for (size_t i = 0; i < len; i++)
		block_data(b)[i] = end_byte(p->wrote + i);
	assert_int_equal(framed_write(p->framed, field, slice_of(b, 0, len)), 0);
	block_unref(b);
	p->wrote += len;
}

/* A raw call. */

static void raw_data(void *cookie, struct slice s)
{
	struct framed_rig *r = cookie;

	bytes_add(&r->raw.body, s.data, s.len);
	rpc_call_credit(r->raw.call, s.len);
	slice_release(&s);
}

static void raw_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	struct framed_rig *r = cookie;

	(void)trailers;
	r->raw.ended = true;
	r->raw.has_status = status != NULL;
	if (status != NULL)
		r->raw.status = *status;
}

static void raw_sent(void *cookie, size_t bytes)
{
	((struct framed_rig *)cookie)->raw.sent += bytes;
}

static void raw_closed(void *cookie, const struct err *why)
{
	struct framed_rig *r = cookie;

	r->raw.call = NULL;
	r->raw.closed = true;
	r->raw.why = *why;
}

static const struct rpc_call_ops raw_ops = {
	.data = raw_data,
	.end = raw_end,
	.sent = raw_sent,
	.closed = raw_closed,
};

static bool has_raw_sent(struct framed_rig *r)
{
	return r->raw.call == NULL || rpc_call_queued(r->raw.call) == 0;
}

void raw_send(struct framed_rig *r, const void *bytes, size_t len)
{
	struct slice s = slice_copy(bytes, len);

	assert_non_null(s.data);
	if (rpc_call_write(r->raw.call, s) != 0)
		fail();
	framed_rig_until(r, has_raw_sent);
}

/* The server. */

static void open_raw(struct rpc_call *call, void *app)
{
	struct framed_rig *r = app;

	r->raw.call = call;
	rpc_call_bind(call, &raw_ops, r);
}

static void open_framed(struct rpc_call *call, void *app)
{
	struct framed_rig *r = app;
	struct party *p = r->two ? &r->other : &r->party;

	p->framed = framed_serve(call, &r->options, &party_ops, p);
	if (p->framed != NULL)
		framed_watch(p->framed, party_over, p);
}

static const struct rpc_method methods[] = {
	{ .path = RAW_PATH, .open = open_raw },
	{ .path = FRAMED_PATH, .open = open_framed },
};

static void on_drained(void *cookie)
{
	((struct framed_rig *)cookie)->drained = true;
}

static void on_disconnected(void *cookie, const struct err *why)
{
	(void)why;
	((struct framed_rig *)cookie)->disconnected = true;
}

void framed_rig_open(struct framed_rig *r, const struct framed_options *options)
{
	char bound[ADDRESS_TEXT_MAX], url[ADDRESS_TEXT_MAX + 16];
	struct rpc_server_options server = {
		.loops = &r->loop,
		.loop_count = 1,
		.methods = methods,
		.method_count = sizeof(methods) / sizeof(methods[0]),
		.app = r,
	};
	struct rpc_client_options client = { .closed = on_disconnected, .cookie = r };

	*r = (struct framed_rig){ 0 };
	if (options != NULL)
		r->options = *options;
	r->loop = loop_create(0, NULL);
	assert_non_null(r->loop);
	r->server = rpc_server_create(&server, NULL);
	assert_non_null(r->server);
	assert_int_equal(
	    rpc_server_listen(r->server, "127.0.0.1:0", NULL, bound, sizeof(bound), NULL), 0);
	snprintf(url, sizeof(url), "http://%s", bound);
	r->client = rpc_client_connect(r->loop, url, &client, NULL);
	assert_non_null(r->client);
}

static bool is_down(struct framed_rig *r)
{
	return r->drained && r->disconnected;
}

static void check_party(const struct party *p)
{
	assert_true(p->ends <= 1);
	assert_true(p->closeds <= 1);
	assert_true(p->overs <= 1);
}

void framed_rig_close(struct framed_rig *r)
{
	if (!r->disconnected)
		rpc_client_close(r->client);
	rpc_server_drain(r->server, 1000, on_drained, r);
	framed_rig_until(r, is_down);
	assert_null(r->raw.call);
	check_party(&r->party);
	check_party(&r->other);
	party_free(&r->party);
	party_free(&r->other);
	bytes_free(&r->raw.body);
	rpc_server_free(r->server);
	loop_free(r->loop);
}

/* Calls. */

void framed_rig_pair(struct framed_rig *r, enum side side)
{
	struct rpc_client_call call = { .path = RAW_PATH, .ops = &raw_ops, .cookie = r };

	if (side == SIDE_SERVER) {
		call.path = FRAMED_PATH;
		r->raw.call = rpc_client_call(r->client, &call, NULL);
		assert_non_null(r->raw.call);
		return;
	}
	if (side == SIDE_CLIENT) {
		r->party.framed =
		    framed_call(r->client, &call, &r->options, &party_ops, &r->party, NULL);
		assert_non_null(r->party.framed);
	} else {
		r->party.framed = framed_channel(r->client, &call, &r->options, NULL);
		assert_non_null(r->party.framed);
		framed_bind(r->party.framed, &party_ops, &r->party);
	}
	framed_watch(r->party.framed, party_over, &r->party);
}

void framed_rig_two(struct framed_rig *r)
{
	struct rpc_client_call call = { .path = FRAMED_PATH };

	r->two = true;
	r->party.framed = framed_call(r->client, &call, &r->options, &party_ops, &r->party, NULL);
	assert_non_null(r->party.framed);
	framed_watch(r->party.framed, party_over, &r->party);
}

/* Waiting. */

struct waiting {
	struct framed_rig *rig;
	bool (*is)(struct framed_rig *);
};

static bool is(void *cookie)
{
	struct waiting *w = cookie;

	return w->is(w->rig);
}

void framed_rig_until(struct framed_rig *r, bool (*is_so)(struct framed_rig *))
{
	struct waiting w = { r, is_so };

	ends_wait(r->loop, is, &w);
}

void framed_rig_run(struct framed_rig *r, uint32_t ms)
{
	ends_idle(r->loop, ms);
}

bool is_closed(struct framed_rig *r)
{
	return r->party.framed == NULL && r->other.framed == NULL;
}

bool is_raw_closed(struct framed_rig *r)
{
	return is_closed(r) && r->raw.closed;
}

bool is_begun(struct framed_rig *r)
{
	return r->party.framed != NULL && (r->two ? r->other.framed : (void *)r->raw.call) != NULL;
}
