#include "gateway/message.h"

#include "proto/codec.h"

void *message_unpack(
    const ProtobufCMessageDescriptor *desc, const uint8_t *data, size_t len, struct err *err)
{
	enum guard_result why;
	void *message = codec_unpack(desc, data, len, &why);

	if (message == NULL)
		err_set(
		    err, (enum grpc_code)guard_status(why), "%s: %s", desc->name, guard_text(why));
	return message;
}

void message_set_time(Google__Protobuf__Timestamp *time, int64_t ms)
{
	google__protobuf__timestamp__init(time);
	time->seconds = ms / 1000;
	time->nanos = (int32_t)(ms % 1000) * 1000000;
}
