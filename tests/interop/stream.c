#include "stream.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/loop.h"
#include "grpc/testing/messages.pb-c.h"
#include "reply.h"
#include "proto/codec.h"
#include "rpc/reader.h"
#include "rpc/server.h"

#define RESPONSES_MAX 16384             /* asked for and not yet sent, a call */
#define OUT_HIGH      ((size_t)1 << 20) /* bytes waiting to leave: no more is sent */

struct response {
	int32_t size;
	uint64_t wait_ms;
};

struct stream {
	struct rpc_call *call;
	struct rpc_reader reader;
	size_t arrived; /* bytes the client has no credit for yet */
	struct timer *timer;
	struct response *responses;
	size_t next, count;
	struct rpc_meta trailers;
	struct err status; /* what a request asked the call to end with */
	bool hold;         /* responses wait for the end of the requests */
	bool waited;       /* the next response's interval has passed */
	bool ended;        /* there are no more requests */
	bool finished;
};

static void stream_free(struct stream *s)
{
	rpc_reader_free(&s->reader);
	rpc_meta_free(&s->trailers);
	timer_free(s->timer);
	free(s->responses);
	free(s);
}

static void finish(struct stream *s, const struct err *status)
{
	s->finished = true;
	timer_stop(s->timer);
	rpc_call_finish_meta(s->call, status, &s->trailers);
}

/* Notes what a request asks for. */
static int note(
    struct stream *s, const Grpc__Testing__StreamingOutputCallRequest *request, struct err *err)
{
	size_t more = request->n_response_parameters;
	struct response *grown;

	if (request->response_status != NULL && request->response_status->code != 0)
		reply_status(
		    &s->status, request->response_status->code, request->response_status->message);
	if (s->next == s->count)
		s->next = s->count = 0;
	if (more > RESPONSES_MAX - s->count)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "more than %d responses asked for at a time", RESPONSES_MAX);
	if (more == 0)
		return 0;
	grown = realloc(s->responses, (s->count + more) * sizeof(*grown));
	if (grown == NULL)
		return err_sys(err, ENOMEM, "request");
	s->responses = grown;
	for (size_t i = 0; i < more; i++) {
		const Grpc__Testing__ResponseParameters *p = request->response_parameters[i];
		int32_t us = p->interval_us > 0 ? p->interval_us : 0;

		s->responses[s->count++] = (struct response){
			.size = p->size,
			.wait_ms = ((uint64_t)us + 999) / 1000,
		};
	}
	return 0;
}

static int note_bytes(struct stream *s, const uint8_t *message, size_t len, struct err *err)
{
	enum guard_result why;
	Grpc__Testing__StreamingOutputCallRequest *request = codec_unpack(
	    &grpc__testing__streaming_output_call_request__descriptor, message, len, &why);
	int result;

	if (request == NULL)
		return reply_malformed(err, why);
	result = note(s, request, err);
	codec_free(request);
	return result;
}

static int send_response(struct stream *s, const struct response *r, struct err *err)
{
	Grpc__Testing__StreamingOutputCallResponse response =
	    GRPC__TESTING__STREAMING_OUTPUT_CALL_RESPONSE__INIT;
	Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;
	int result;

	if (reply_zeros(r->size, &payload.body, err) < 0)
		return -1;
	response.payload = &payload;
	result = reply_send(s->call, &response.base, err);
	free(payload.body.data);
	return result;
}

/* Sends the next response if its time has come. 1: sent; 0: something has to happen
 * first, which calls step() again. */
static int try_send(struct stream *s, struct err *err)
{
	const struct response *r = &s->responses[s->next];

	if (timer_is_running(s->timer) || rpc_call_queued(s->call) > OUT_HIGH)
		return 0;
	if (r->wait_ms > 0 && !s->waited) {
		timer_start(s->timer, r->wait_ms);
		return 0;
	}
	if (send_response(s, r, err) < 0)
		return -1;
	s->waited = false;
	s->next++;
	return 1;
}

/* Takes the next request. 1: one was taken; 0: none is there. */
static int try_read(struct stream *s, struct err *err)
{
	const uint8_t *message;
	size_t len;
	int result = rpc_reader_next(&s->reader, &message, &len, err);

	if (result > 0)
		return note_bytes(s, message, len, err) < 0 ? -1 : 1;
	if (result == 0) {
		rpc_call_credit(s->call, s->arrived);
		s->arrived = 0;
	}
	return result;
}

/* 1: go on; 0: wait; -1: the call has to end with ${err}, or OK if it is that. */
static int advance(struct stream *s, struct err *err)
{
	int result;

	if (s->next < s->count && (s->ended || !s->hold))
		return try_send(s, err);
	if (s->status.code != GRPC_OK) {
		*err = s->status;
		return -1;
	}
	result = try_read(s, err);
	if (result != 0 || !s->ended)
		return result;
	if (s->next < s->count)
		return 1;
	if (rpc_reader_is_partial(&s->reader))
		err_set(err, GRPC_INVALID_ARGUMENT, "the stream ended amid a message");
	return -1;
}

static void step(struct stream *s)
{
	struct err err = { 0 };
	int result;

	if (s->finished)
		return;
	while ((result = advance(s, &err)) > 0)
		;
	if (result < 0)
		finish(s, &err);
}

static void on_data(void *cookie, struct slice data)
{
	struct stream *s = cookie;
	struct err err = { 0 };

	s->arrived += data.len;
	if (rpc_reader_push(&s->reader, data, &err) < 0) {
		finish(s, &err);
		return;
	}
	step(s);
}

static void on_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	struct stream *s = cookie;

	(void)status;
	(void)trailers;
	s->ended = true;
	step(s);
}

static void on_sent(void *cookie, size_t bytes)
{
	(void)bytes;
	step(cookie);
}

static void on_time(void *cookie)
{
	struct stream *s = cookie;

	s->waited = true;
	step(s);
}

static void on_closed(void *cookie, const struct err *why)
{
	(void)why;
	stream_free(cookie);
}

/* NULL: the call has been finished. */
static struct stream *begin(struct rpc_call *call, bool hold)
{
	static const struct rpc_call_ops ops = {
		.data = on_data,
		.end = on_end,
		.sent = on_sent,
		.closed = on_closed,
	};
	struct stream *s = calloc(1, sizeof(*s));
	struct err err = { 0 };

	if (s != NULL && (s->timer = timer_create_on(rpc_call_loop(call), on_time, s)) != NULL) {
		s->call = call;
		s->hold = hold;
		rpc_reader_init(&s->reader, RPC_MESSAGE_MAX);
		rpc_call_bind(call, &ops, s);
		if (reply_echo(call, &s->trailers, &err) < 0)
			finish(s, &err);
		return s;
	}
	free(s);
	err_sys(&err, ENOMEM, "stream");
	rpc_call_finish(call, &err);
	return NULL;
}

void stream_output(struct rpc_call *call, void *app, const uint8_t *message, size_t len)
{
	struct stream *s = begin(call, false);
	struct err err = { 0 };

	(void)app;
	if (s == NULL || s->finished)
		return;
	s->ended = true;
	if (note_bytes(s, message, len, &err) < 0)
		finish(s, &err);
	else
		step(s);
}

void stream_full_duplex(struct rpc_call *call, void *app)
{
	(void)app;
	begin(call, false);
}

void stream_half_duplex(struct rpc_call *call, void *app)
{
	(void)app;
	begin(call, true);
}
