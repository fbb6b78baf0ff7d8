#include "proto/codec.h"

#include <stdbool.h>
#include <stdlib.h>

static void *note_alloc(void *failed, size_t size)
{
	void *block = malloc(size);

	if (block == NULL)
		*(bool *)failed = true;
	return block;
}

static void plain_free(void *failed, void *block)
{
	(void)failed;
	free(block);
}

void *codec_unpack(
    const ProtobufCMessageDescriptor *desc, const uint8_t *data, size_t len, enum guard_result *why)
{
	return codec_unpack_within(desc, data, len, &guard_limits_default, why);
}

void *codec_unpack_within(const ProtobufCMessageDescriptor *desc, const uint8_t *data, size_t len,
    const struct guard_limits *limits, enum guard_result *why)
{
	/* protobuf-c does not say which of two reasons a NULL has. */
	bool failed = false;
	ProtobufCAllocator allocator = { note_alloc, plain_free, &failed };
	ProtobufCMessage *message = NULL;
	enum guard_result r = guard_check(desc, data, len, limits, NULL);

	if (r == GUARD_OK) {
		message = protobuf_c_message_unpack(desc, &allocator, len, data);
		if (message == NULL)
			r = failed ? GUARD_NO_MEMORY : GUARD_MALFORMED;
	}
	if (why != NULL)
		*why = r;
	return message;
}

void codec_free(void *message)
{
	if (message != NULL)
		protobuf_c_message_free_unpacked(message, NULL);
}

size_t codec_size(const ProtobufCMessage *message)
{
	return protobuf_c_message_get_packed_size(message);
}

size_t codec_pack(const ProtobufCMessage *message, uint8_t *out)
{
	return protobuf_c_message_pack(message, out);
}

uint8_t *codec_pack_new(const ProtobufCMessage *message, size_t *len)
{
	size_t size = codec_size(message);
	uint8_t *out = malloc(size > 0 ? size : 1);

	if (out != NULL)
		*len = codec_pack(message, out);
	return out;
}
