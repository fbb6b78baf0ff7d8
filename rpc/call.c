#include "rpc/call.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "rpc/call_internal.h"
#include "rpc/conn.h"
#include "rpc/limits.h"
#include "rpc/reader.h"
#include "rpc/status.h"

static struct rpc_call *call_of(struct h2_stream *s)
{
	return (struct rpc_call *)s; /* its first member */
}

static void call_release(struct h2_stream *s)
{
	struct rpc_call *c = call_of(s);

	timer_free(c->timer);
	rpc_meta_free(&c->meta);
	rpc_meta_free(&c->trailers);
	if (c->out != NULL)
		rpc_meta_free(c->out);
	free(c->out);
	err_drop(c->status);
	free(c->message);
	free(c->path);
	free(c);
}

static struct rpc_call *call_alloc(struct rpc_conn *conn, bool is_server)
{
	struct rpc_call *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	h2_stream_init(&c->stream, call_release);
	c->conn = conn;
	c->is_server = is_server;
	rpc_meta_init(&c->meta);
	rpc_meta_init(&c->trailers);
	return c;
}

/* The owner hears of the end, once; the pointer is its no more. */
static void tell_closed(struct rpc_call *c, const struct err *why)
{
	const struct rpc_call_ops *ops = c->ops;
	void *cookie = c->cookie;

	c->ops = NULL;
	if (ops != NULL && ops->closed != NULL)
		ops->closed(cookie, why);
}

/* Deadlines. */

static void on_deadline(void *cookie)
{
	struct rpc_call *c = cookie;
	struct err err;

	err_set(&err, GRPC_DEADLINE_EXCEEDED, "the deadline has passed");
	if (c->is_server && !c->ended) {
		h2_stream_drop(&c->stream);
		rpc_call_finish(c, &err);
		tell_closed(c, &err);
		return;
	}
	/* What was said last is stuck, and a status behind half of it would be a lie. */
	tell_closed(c, &err);
	h2_stream_reset(&c->stream, status_to_h2(GRPC_CANCELLED));
}

static int set_deadline(struct rpc_call *c, uint64_t ms)
{
	struct loop *loop = rpc_conn_loop(c->conn);
	uint64_t at = loop_now_ms(loop) + ms;

	if (c->deadline_ms != 0 && c->deadline_ms <= at)
		return 0;
	if (c->timer == NULL && (c->timer = timer_create_on(loop, on_deadline, c)) == NULL)
		return -1;
	c->deadline_ms = at;
	timer_start(c->timer, ms);
	return 0;
}

int rpc_call_limit_time(struct rpc_call *c, uint64_t ms)
{
	return set_deadline(c, ms);
}

uint64_t rpc_call_time_left_ms(const struct rpc_call *c)
{
	uint64_t now = loop_now_ms(rpc_conn_loop(c->conn));

	if (c->deadline_ms == 0)
		return RPC_DEADLINE_NONE;
	return c->deadline_ms > now ? c->deadline_ms - now : 0;
}

/* Received headers. */

static bool is(const char *a, size_t len, const char *b)
{
	return strlen(b) == len && memcmp(a, b, len) == 0;
}

static bool starts(const char *a, size_t len, const char *b)
{
	return strlen(b) <= len && memcmp(a, b, strlen(b)) == 0;
}

static char *copy(const struct meta_field *f)
{
	return strndup(f->value, f->value_len);
}

/* Fields that are gRPC's own. False: it is the application's. */
static bool take_own(struct rpc_call *c, const struct meta_field *f)
{
	char text[32];
	uint64_t ms, number;

	snprintf(
	    text, sizeof(text), "%.*s", (int)(f->value_len < 31 ? f->value_len : 31), f->value);
	if (is(f->name, f->name_len, ":path")) {
		c->path = copy(f);
		c->heads.no_memory = c->heads.no_memory || c->path == NULL;
	} else if (is(f->name, f->name_len, ":method")) {
		c->heads.bad_method = strcmp(text, "POST") != 0;
	} else if (is(f->name, f->name_len, ":status")) {
		c->heads.http_status =
		    text_to_u64(text, 0, 999, &number, NULL) == 0 ? (int)number : 0;
	} else if (is(f->name, f->name_len, "content-type")) {
		/* application/grpc, with "+proto" or ";charset" behind it, but not -web. */
		c->heads.bad_type = !starts(f->value, f->value_len, "application/grpc") ||
		    starts(f->value, f->value_len, "application/grpc-web");
	} else if (is(f->name, f->name_len, "grpc-encoding")) {
		c->heads.compressed = strcmp(text, "identity") != 0;
	} else if (is(f->name, f->name_len, "grpc-timeout")) {
		if (status_parse_timeout(text, &ms) != 0)
			c->heads.bad_timeout = true;
		else if (set_deadline(c, ms) != 0)
			c->heads.no_memory = true;
	} else if (is(f->name, f->name_len, "grpc-status")) {
		c->heads.has_status = true;
		c->heads.grpc_status =
		    text_to_u64(text, 0, GRPC_UNAUTHENTICATED, &number, NULL) == 0 ? (uint8_t)number
										   : GRPC_UNKNOWN;
	} else if (is(f->name, f->name_len, "grpc-message")) {
		free(c->message);
		c->message = copy(f);
	} else {
		return false;
	}
	return true;
}

static void on_field(struct h2_stream *s, const struct meta_field *f)
{
	struct rpc_call *c = call_of(s);
	struct err err;

	if (!take_own(c, f) &&
	    meta_from_wire(c->heads.seen ? &c->trailers : &c->meta, f, &err) != 0)
		c->heads.overflow = true;
}

static void refuse(struct rpc_call *c, enum grpc_code code, const char *text)
{
	struct err err;

	err_set(&err, code, "%s", text);
	rpc_call_finish(c, &err);
}

/* An HTTP answer in words, for who does not speak gRPC. */
static void refuse_http(struct rpc_call *c, const char *status, const char *text)
{
	const struct meta_field fields[] = {
		{ ":status", 7, status, strlen(status) },
		{ "content-type", 12, "text/plain", 10 },
	};
	struct err err;

	c->headers_sent = c->ended = c->finished = true;
	if (h2_stream_respond(&c->stream, fields, 2, false, &err) == 0) {
		(void)h2_stream_copy(&c->stream, text, strlen(text));
		h2_stream_end(&c->stream, false);
	}
	if (rpc_call_limit_time(c, RPC_HEADERS_TIMEOUT_MS) != 0) /* for the rest of its request */
		h2_stream_reset_after(&c->stream);
}

bool call_check_request(struct rpc_call *c)
{
	if (c->heads.bad_method)
		refuse_http(c, "405", "gRPC calls are made with POST.\n");
	else if (c->heads.bad_type)
		refuse_http(
		    c, "415", "This is a gRPC server: content-type must be application/grpc.\n");
	else if (c->heads.no_memory)
		refuse(c, GRPC_RESOURCE_EXHAUSTED, "out of memory for a call");
	else if (c->heads.compressed)
		refuse(c, GRPC_UNIMPLEMENTED,
		    "compressed messages are not taken; grpc-encoding must be identity");
	else if (c->heads.bad_timeout)
		refuse(c, GRPC_INVALID_ARGUMENT, "grpc-timeout is malformed");
	else if (c->heads.overflow)
		refuse(c, GRPC_RESOURCE_EXHAUSTED, "the metadata is too large or malformed");
	else
		return true;
	return false;
}

/* By trailers alone. */
static bool is_refused(const struct rpc_call *c)
{
	return c->heads.has_status && c->heads.grpc_status != GRPC_OK;
}

static void on_head(struct h2_stream *s)
{
	struct rpc_call *c = call_of(s);

	if (c->heads.seen)
		return; /* trailers: end() follows */
	if (!c->is_server && c->heads.http_status >= 100 && c->heads.http_status < 200)
		return; /* informational: another block follows */
	c->heads.seen = true;
	if (c->is_server) {
		if (call_check_request(c))
			conn_on_call(c->conn, c);
	} else if (c->ops != NULL && c->ops->headers != NULL && !is_refused(c)) {
		c->ops->headers(c->cookie, &c->meta);
	}
}

static void on_data(struct h2_stream *s, struct slice data)
{
	struct rpc_call *c = call_of(s);
	size_t len = data.len;

	if (c->ops != NULL && c->ops->data != NULL && !c->finished) {
		c->ops->data(c->cookie, data);
		return;
	}
	slice_release(&data);
	h2_stream_credit(s, len);
}

/* What a client's call has come to (gRPC over HTTP2, "Responses"). */
static void read_status(const struct rpc_call *c, struct err *err)
{
	char text[ERR_TEXT_MAX];

	memset(err, 0, sizeof(*err));
	if (c->heads.has_status) {
		status_decode_message(c->message != NULL ? c->message : "",
		    c->message != NULL ? strlen(c->message) : 0, text);
		if (c->heads.grpc_status != GRPC_OK)
			err_set(err, (enum grpc_code)c->heads.grpc_status, "%s", text);
	} else if (c->heads.http_status != 200) {
		err_set(err, status_from_http(c->heads.http_status),
		    "the server answered with HTTP status %d", c->heads.http_status);
	} else {
		err_set(err, GRPC_UNAVAILABLE, "the stream ended without a status");
	}
}

static void on_end(struct h2_stream *s)
{
	struct rpc_call *c = call_of(s);
	struct err status;

	c->peer_ended = true;
	read_status(c, &status);
	if (c->ops != NULL && c->ops->end != NULL && !c->finished)
		c->ops->end(
		    c->cookie, c->is_server && !c->heads.has_status ? NULL : &status, &c->trailers);
}

static void on_sent(struct h2_stream *s, size_t bytes)
{
	struct rpc_call *c = call_of(s);

	if (c->ops != NULL && c->ops->sent != NULL)
		c->ops->sent(c->cookie, bytes);
}

static void on_closed(struct h2_stream *s, uint32_t code)
{
	struct rpc_call *c = call_of(s);
	struct err why = { 0 };
	bool whole = c->finished || (c->peer_ended && (c->stream.ended || !c->is_server));

	if (!whole && code == 0)
		err_set(&why, GRPC_UNAVAILABLE, "the peer has dropped the stream");
	else if (!whole)
		err_set(&why, status_from_h2(code), "the peer has reset the stream");
	timer_free(c->timer);
	c->timer = NULL;
	tell_closed(c, &why);
	h2_stream_detach(s);
}

void call_lost(struct h2_stream *s, void *why)
{
	struct rpc_call *c = call_of(s);

	timer_free(c->timer);
	c->timer = NULL;
	tell_closed(c, why);
	h2_stream_detach(s);
}

/* Sending headers and trailers. */

static const struct meta_field response_fields[] = {
	{ ":status", 7, "200", 3 },
	{ "content-type", 12, "application/grpc", 16 },
	{ "grpc-accept-encoding", 20, "identity", 8 },
};

#define FIELDS_MAX (RPC_META_ITEMS_MAX + 8)

static size_t add_meta(struct meta_field *fields, size_t n, struct meta_wire *wire)
{
	while (n < FIELDS_MAX && meta_wire_next(wire, &fields[n]))
		n++;
	return n;
}

/* The status, as fields: ${code} and ${message} are the memory of their values. */
static size_t add_status(const struct rpc_call *c, struct meta_field *fields, size_t n,
    char code[static 4], char message[static STATUS_MESSAGE_MAX])
{
	int len = snprintf(code, 4, "%d", c->status != NULL ? (int)c->status->code : 0);

	fields[n++] = (struct meta_field){ "grpc-status", 11, code, (size_t)len };
	if (c->status != NULL && c->status->text[0] != '\0') {
		status_encode_message(c->status->text, message);
		fields[n++] = (struct meta_field){ "grpc-message", 12, message, strlen(message) };
	}
	return n;
}

static void on_trailers(struct h2_stream *s)
{
	struct rpc_call *c = call_of(s);
	struct meta_field fields[FIELDS_MAX];
	struct meta_wire wire;
	char code[4], message[STATUS_MESSAGE_MAX];
	struct err err;
	size_t n = add_status(c, fields, 0, code, message);

	if (meta_wire_begin(&wire, c->out, &err) == 0) {
		n = add_meta(fields, n, &wire);
		h2_stream_trailers(s, fields, n, &err);
		meta_wire_end(&wire);
	} else {
		h2_stream_trailers(s, fields, n, &err);
	}
}

/* Headers and trailers in one: nothing else was said. */
static void respond_only(struct rpc_call *c)
{
	struct meta_field fields[FIELDS_MAX];
	struct meta_wire wire;
	char code[4], message[STATUS_MESSAGE_MAX];
	struct err err;
	size_t n = sizeof(response_fields) / sizeof(response_fields[0]);

	memcpy(fields, response_fields, sizeof(response_fields));
	n = add_status(c, fields, n, code, message);
	if (meta_wire_begin(&wire, c->out, &err) == 0) {
		n = add_meta(fields, n, &wire);
		h2_stream_respond(&c->stream, fields, n, true, &err);
		meta_wire_end(&wire);
	} else {
		h2_stream_respond(&c->stream, fields, n, true, &err);
	}
}

int rpc_call_headers(struct rpc_call *c, const struct rpc_meta *meta, struct err *err)
{
	struct meta_field fields[FIELDS_MAX];
	struct meta_wire wire;
	size_t n = sizeof(response_fields) / sizeof(response_fields[0]);

	if (c->headers_sent)
		return 0;
	memcpy(fields, response_fields, sizeof(response_fields));
	if (meta_wire_begin(&wire, meta, err) != 0)
		return -1;
	n = add_meta(fields, n, &wire);
	int r = h2_stream_respond(&c->stream, fields, n, false, err);
	meta_wire_end(&wire);
	c->headers_sent = true;
	return r;
}

/* The calls of rpc/call.h. */

void rpc_call_bind(struct rpc_call *c, const struct rpc_call_ops *ops, void *cookie)
{
	c->ops = ops;
	c->cookie = cookie;
	c->bound = true;
}

static bool may_send(struct rpc_call *c)
{
	struct err err;

	if (c->ended)
		return false;
	return !c->is_server || rpc_call_headers(c, NULL, &err) == 0;
}

int rpc_call_write(struct rpc_call *c, struct slice bytes)
{
	if (!may_send(c))
		return -1;
	if (bytes.len == 0) {
		slice_release(&bytes);
		return 0;
	}
	return h2_stream_write(&c->stream, bytes);
}

int rpc_call_copy(struct rpc_call *c, const void *bytes, size_t len)
{
	return may_send(c) ? h2_stream_copy(&c->stream, bytes, len) : -1;
}

int rpc_call_send(struct rpc_call *c, const void *message, size_t len)
{
	const uint8_t prefix[RPC_PREFIX_SIZE] = { 0, (uint8_t)(len >> 24), (uint8_t)(len >> 16),
		(uint8_t)(len >> 8), (uint8_t)len };

	if (!may_send(c) || len > UINT32_MAX ||
	    h2_stream_queued(&c->stream) + len + sizeof(prefix) > RPC_CALL_QUEUE_MAX)
		return -1;
	if (h2_stream_copy(&c->stream, prefix, sizeof(prefix)) != 0)
		return -1;
	return h2_stream_copy(&c->stream, message, len);
}

size_t rpc_call_queued(const struct rpc_call *c)
{
	return h2_stream_queued(&c->stream);
}

void rpc_call_credit(struct rpc_call *c, size_t bytes)
{
	h2_stream_credit(&c->stream, bytes);
}

void rpc_call_end(struct rpc_call *c, const struct err *status)
{
	if (c->ended)
		return;
	c->status = err_keep(status);
	c->ended = true;
	if (c->is_server && !c->headers_sent) {
		c->headers_sent = true;
		respond_only(c);
	} else {
		h2_stream_end(&c->stream, c->is_server || status != NULL);
	}
}

void rpc_call_finish(struct rpc_call *c, const struct err *status)
{
	static const struct err ok = { .code = GRPC_OK };

	if (c->finished)
		return;
	rpc_call_end(c, status != NULL ? status : &ok);
	c->finished = true;
	h2_stream_reset_after(&c->stream);
}

void rpc_call_finish_meta(
    struct rpc_call *c, const struct err *status, const struct rpc_meta *trailers)
{
	struct err err;

	if (trailers != NULL && c->out == NULL && !c->ended &&
	    (c->out = malloc(sizeof(*c->out))) != NULL) {
		rpc_meta_init(c->out);
		for (size_t i = 0; i < trailers->count; i++)
			rpc_meta_add(c->out, trailers->items[i].name, trailers->items[i].value,
			    trailers->items[i].len, &err);
	}
	rpc_call_finish(c, status);
}

void rpc_call_cancel(struct rpc_call *c, const struct err *why)
{
	c->ops = NULL;
	timer_free(c->timer);
	c->timer = NULL;
	h2_stream_reset(&c->stream, status_to_h2(why != NULL ? why->code : GRPC_CANCELLED));
}

const char *rpc_call_path(const struct rpc_call *c)
{
	return c->path;
}

const struct rpc_meta *rpc_call_meta(const struct rpc_call *c)
{
	return &c->meta;
}

void rpc_call_forget_request(struct rpc_call *c)
{
	rpc_meta_free(&c->meta);
	free(c->path);
	c->path = NULL;
}

struct rpc_conn *rpc_call_conn(const struct rpc_call *c)
{
	return c->conn;
}

struct loop *rpc_call_loop(const struct rpc_call *c)
{
	return rpc_conn_loop(c->conn);
}

bool rpc_call_is_server(const struct rpc_call *c)
{
	return c->is_server;
}

/* Making them. */

static struct h2_stream *on_accept(void *conn)
{
	struct rpc_call *c = call_alloc(conn, true);

	if (c == NULL)
		return NULL;
	c->heads.bad_type = true; /* until there is one, and it is gRPC's */
	return &c->stream;
}

const struct h2_ops call_h2_ops = {
	.accept = on_accept,
	.field = on_field,
	.head = on_head,
	.data = on_data,
	.end = on_end,
	.trailers = on_trailers,
	.sent = on_sent,
	.closed = on_closed,
	.wake = conn_wake,
};

static int submit(
    struct rpc_call *c, const struct rpc_meta *meta, uint64_t timeout_ms, struct err *err)
{
	const char *authority = conn_authority(c->conn), *scheme = conn_scheme(c->conn);
	struct meta_field fields[FIELDS_MAX] = {
		{ ":method", 7, "POST", 4 },
		{ ":scheme", 7, scheme, strlen(scheme) },
		{ ":path", 5, c->path, strlen(c->path) },
		{ ":authority", 10, authority, strlen(authority) },
		{ "te", 2, "trailers", 8 },
		{ "content-type", 12, "application/grpc", 16 },
	};
	char timeout[16];
	struct meta_wire wire;
	size_t n = 6;

	if (timeout_ms != 0) {
		status_format_timeout(timeout_ms, timeout);
		fields[n++] = (struct meta_field){ "grpc-timeout", 12, timeout, strlen(timeout) };
	}
	if (meta_wire_begin(&wire, meta, err) != 0)
		return -1;
	n = add_meta(fields, n, &wire);
	int r = h2_request(conn_h2(c->conn), &c->stream, fields, n, err);
	meta_wire_end(&wire);
	return r;
}

struct rpc_call *call_create(struct rpc_conn *conn, const char *path, const struct rpc_meta *meta,
    uint64_t timeout_ms, const struct rpc_call_ops *ops, void *cookie, struct err *err)
{
	struct rpc_call *c;

	if (!conn_takes_calls(conn)) {
		err_set(err, GRPC_UNAVAILABLE, "the connection is closing");
		return NULL;
	}
	if ((c = call_alloc(conn, false)) == NULL || (c->path = strdup(path)) == NULL) {
		if (c != NULL)
			h2_stream_unref(&c->stream);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	if (timeout_ms != 0 && set_deadline(c, timeout_ms) != 0) {
		h2_stream_unref(&c->stream);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	if (submit(c, meta, timeout_ms, err) != 0) {
		h2_stream_unref(&c->stream);
		return NULL;
	}
	rpc_call_bind(c, ops, cookie);
	return c;
}
