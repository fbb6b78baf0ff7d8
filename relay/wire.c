#include "relay/wire.h"

#include <stdlib.h>

int wire_send(struct rpc_call *call, const ProtobufCMessage *message)
{
	size_t len;
	uint8_t *packed = codec_pack_new(message, &len);
	int result;

	if (packed == NULL)
		return -1;
	result = rpc_call_send(call, packed, len);
	free(packed);
	return result;
}

void wire_refuse(struct rpc_call *call, const struct err *status)
{
	static const struct rpc_call_ops nobody;

	rpc_call_bind(call, &nobody, NULL);
	rpc_call_finish(call, status);
}

void *wire_unpack(
    const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len, struct err *e)
{
	const struct guard_limits limits = {
		.bytes = WIRE_MESSAGE_MAX,
		.memory = GUARD_MEMORY_DEFAULT,
		.fields = GUARD_FIELDS_DEFAULT,
		.depth = GUARD_DEPTH_MAX,
	};
	enum guard_result why = GUARD_OK;
	void *message = codec_unpack_within(type, data, len, &limits, &why);

	if (message == NULL)
		err_set(e, (enum grpc_code)guard_status(why), "%s: %s", type->short_name,
		    guard_text(why));
	return message;
}
