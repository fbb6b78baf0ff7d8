#include "service.h"

#include <stdlib.h>

#include "grpc/testing/empty.pb-c.h"
#include "grpc/testing/messages.pb-c.h"
#include "input.h"
#include "reply.h"
#include "stream.h"
#include "proto/codec.h"

#define PATH(method) "/grpc.testing.TestService/" method

static void empty_call(struct rpc_call *call, void *app, const uint8_t *message, size_t len)
{
	const Grpc__Testing__Empty empty = GRPC__TESTING__EMPTY__INIT;
	struct err err = { 0 };

	(void)app;
	(void)message;
	(void)len;
	reply_send(call, &empty.base, &err);
	rpc_call_finish(call, &err);
}

static int answer(
    struct rpc_call *call, const Grpc__Testing__SimpleRequest *request, struct err *err)
{
	Grpc__Testing__SimpleResponse response = GRPC__TESTING__SIMPLE_RESPONSE__INIT;
	Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;
	int result;

	if (request->response_status != NULL && request->response_status->code != 0) {
		reply_status(
		    err, request->response_status->code, request->response_status->message);
		return -1;
	}
	if (reply_zeros(request->response_size, &payload.body, err) < 0)
		return -1;
	response.payload = &payload;
	result = reply_send(call, &response.base, err);
	free(payload.body.data);
	return result;
}

static void unary_call(struct rpc_call *call, void *app, const uint8_t *message, size_t len)
{
	enum guard_result why;
	Grpc__Testing__SimpleRequest *request =
	    codec_unpack(&grpc__testing__simple_request__descriptor, message, len, &why);
	struct rpc_meta trailers;
	struct err err = { 0 };

	(void)app;
	rpc_meta_init(&trailers);
	if (request == NULL)
		reply_malformed(&err, why);
	else if (reply_echo(call, &trailers, &err) == 0)
		answer(call, request, &err);
	rpc_call_finish_meta(call, &err, &trailers);
	rpc_meta_free(&trailers);
	codec_free(request);
}

const struct rpc_method service_methods[] = {
	{ .path = PATH("EmptyCall"), .request = empty_call },
	{ .path = PATH("UnaryCall"), .request = unary_call },
	{ .path = PATH("CacheableUnaryCall"), .request = unary_call },
	{ .path = PATH("StreamingOutputCall"), .request = stream_output },
	{ .path = PATH("StreamingInputCall"), .open = input_open },
	{ .path = PATH("FullDuplexCall"), .open = stream_full_duplex },
	{ .path = PATH("HalfDuplexCall"), .open = stream_half_duplex },
};

const size_t service_method_count = sizeof(service_methods) / sizeof(service_methods[0]);
