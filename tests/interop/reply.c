#include "reply.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"

#define ECHO_HEADER  "x-grpc-test-echo-initial"
#define ECHO_TRAILER "x-grpc-test-echo-trailing-bin"

int reply_send(struct rpc_call *call, const ProtobufCMessage *message, struct err *err)
{
	size_t len;
	uint8_t *bytes = codec_pack_new(message, &len);
	int result;

	if (bytes == NULL)
		return err_sys(err, ENOMEM, "reply");
	result = rpc_call_send(call, bytes, len);
	free(bytes);
	if (result < 0)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "the reply cannot be queued");
	return 0;
}

int reply_zeros(int32_t size, ProtobufCBinaryData *out, struct err *err)
{
	if (size < 0 || size > REPLY_PAYLOAD_MAX)
		return err_set(err, GRPC_INVALID_ARGUMENT, "a response has 0 to %d bytes, not %d",
		    REPLY_PAYLOAD_MAX, (int)size);
	out->data = calloc(1, (size_t)size + 1);
	if (out->data == NULL)
		return err_sys(err, ENOMEM, "reply");
	out->len = (size_t)size;
	return 0;
}

void reply_status(struct err *err, int32_t code, const char *message)
{
	err_clear(err);
	if (code < GRPC_OK || code > GRPC_UNAUTHENTICATED)
		code = GRPC_UNKNOWN;
	err->code = (enum grpc_code)code;
	snprintf(err->text, sizeof(err->text), "%s", message);
}

int reply_malformed(struct err *err, enum guard_result why)
{
	return err_set(err, (enum grpc_code)guard_status(why), "the request: %s", guard_text(why));
}

static int copy_item(
    struct rpc_meta *to, const struct rpc_meta *from, const char *name, struct err *err)
{
	for (size_t i = 0; i < from->count; i++) {
		const struct rpc_meta_item *item = &from->items[i];

		if (strcmp(item->name, name) == 0 &&
		    rpc_meta_add(to, name, item->value, item->len, err) < 0)
			return -1;
	}
	return 0;
}

int reply_echo(struct rpc_call *call, struct rpc_meta *trailers, struct err *err)
{
	const struct rpc_meta *request = rpc_call_meta(call);
	struct rpc_meta headers;
	int result;

	rpc_meta_init(&headers);
	rpc_meta_init(trailers);
	result = copy_item(&headers, request, ECHO_HEADER, err);
	if (result == 0)
		result = copy_item(trailers, request, ECHO_TRAILER, err);
	if (result == 0 && headers.count > 0)
		result = rpc_call_headers(call, &headers, err);
	rpc_meta_free(&headers);
	return result;
}
