#include "input.h"

#include <errno.h>
#include <stdlib.h>

#include "grpc/testing/messages.pb-c.h"
#include "reply.h"
#include "proto/codec.h"
#include "rpc/reader.h"
#include "rpc/server.h"

struct input {
	struct rpc_call *call;
	struct rpc_reader reader;
	int32_t total;
};

static int count(struct input *in, const uint8_t *message, size_t len, struct err *err)
{
	enum guard_result why;
	Grpc__Testing__StreamingInputCallRequest *request = codec_unpack(
	    &grpc__testing__streaming_input_call_request__descriptor, message, len, &why);
	size_t size;

	if (request == NULL)
		return reply_malformed(err, why);
	size = request->payload != NULL ? request->payload->body.len : 0;
	codec_free(request);
	if (size > (size_t)(INT32_MAX - in->total))
		return err_set(err, GRPC_OUT_OF_RANGE, "more than 2 GiB of payload in one call");
	in->total += (int32_t)size;
	return 0;
}

static int count_all(struct input *in, struct slice s, struct err *err)
{
	const uint8_t *message;
	size_t len;
	int more;

	if (rpc_reader_push(&in->reader, s, err) < 0)
		return -1;
	while ((more = rpc_reader_next(&in->reader, &message, &len, err)) > 0) {
		if (count(in, message, len, err) < 0)
			return -1;
	}
	return more;
}

static void on_data(void *cookie, struct slice s)
{
	struct input *in = cookie;
	struct err err = { 0 };
	size_t len = s.len;

	if (count_all(in, s, &err) < 0) {
		rpc_call_finish(in->call, &err);
		return;
	}
	rpc_call_credit(in->call, len);
}

static void on_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	Grpc__Testing__StreamingInputCallResponse response =
	    GRPC__TESTING__STREAMING_INPUT_CALL_RESPONSE__INIT;
	struct input *in = cookie;
	struct err err = { 0 };

	(void)status;
	(void)trailers;
	response.aggregated_payload_size = in->total;
	if (rpc_reader_is_partial(&in->reader))
		err_set(&err, GRPC_INVALID_ARGUMENT, "the stream ended amid a message");
	else
		reply_send(in->call, &response.base, &err);
	rpc_call_finish(in->call, &err);
}

static void on_closed(void *cookie, const struct err *why)
{
	struct input *in = cookie;

	(void)why;
	rpc_reader_free(&in->reader);
	free(in);
}

void input_open(struct rpc_call *call, void *app)
{
	static const struct rpc_call_ops ops = {
		.data = on_data,
		.end = on_end,
		.closed = on_closed,
	};
	struct input *in = calloc(1, sizeof(*in));
	struct err err = { 0 };

	(void)app;
	if (in == NULL) {
		err_sys(&err, ENOMEM, "StreamingInputCall");
		rpc_call_finish(call, &err);
		return;
	}
	in->call = call;
	rpc_reader_init(&in->reader, RPC_MESSAGE_MAX);
	rpc_call_bind(call, &ops, in);
}
