/*
 * Every message type, unpacked from bytes that a peer chose. The first two bytes choose
 * the type, the rest is the message. What comes through has to survive a round trip, and
 * may take no more memory than the guard said.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/descriptors.h"
#include "proto/guard.h"
#include "proto/messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Small enough that an input of a few KiB can cross each of them. */
static const struct guard_limits limits = {
	.bytes = 4096,
	.memory = 64 << 10,
	.fields = 512,
	.depth = 20,
};

struct meter {
	size_t now;
	size_t most;
};

static void *meter_alloc(void *cookie, size_t size)
{
	struct meter *m = cookie;
	size_t *block = malloc(size + 16);

	if (block == NULL)
		abort();
	block[0] = size;
	m->now += size;
	if (m->most < m->now)
		m->most = m->now;
	return (uint8_t *)block + 16;
}

static void meter_free(void *cookie, void *data)
{
	struct meter *m = cookie;
	size_t *block;

	if (data == NULL)
		return;
	block = (size_t *)(void *)((uint8_t *)data - 16);
	m->now -= block[0];
	free(block);
}

static void check_memory(
    const ProtobufCMessageDescriptor *desc, const uint8_t *data, size_t len, size_t promised)
{
	struct meter meter = { 0, 0 };
	ProtobufCAllocator allocator = { meter_alloc, meter_free, &meter };
	ProtobufCMessage *message = protobuf_c_message_unpack(desc, &allocator, len, data);

	if (message == NULL || meter.most > promised)
		abort();
	protobuf_c_message_free_unpacked(message, &allocator);
	if (meter.now != 0)
		abort();
}

static void check_round_trip(const ProtobufCMessageDescriptor *desc, const ProtobufCMessage *m)
{
	size_t len, again_len;
	uint8_t *data = codec_pack_new(m, &len), *again;
	ProtobufCMessage *back = codec_unpack(desc, data, len, NULL);

	if (back == NULL)
		abort();
	again = codec_pack_new(back, &again_len);
	if (again_len != len || memcmp(data, again, len) != 0)
		abort();
	codec_free(back);
	free(data);
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const ProtobufCMessageDescriptor *desc;
	struct guard_cost cost;
	enum guard_result checked, why;
	void *message;

	if (size < 2)
		return 0;
	desc = messages_at((data[0] | (size_t)data[1] << 8) % messages_count());
	if (strcmp(descriptors_find_symbol(desc->name)->name, "google/protobuf/descriptor.proto") ==
	    0)
		return 0; /* of the older syntax, and nobody sends it */
	data += 2;
	size -= 2;
	checked = guard_check(desc, data, size, &limits, &cost);
	message = codec_unpack_within(desc, data, size, &limits, &why);
	if (checked != why || (message != NULL) != (why == GUARD_OK))
		abort();
	if (message != NULL) {
		check_memory(desc, data, size, cost.memory);
		check_round_trip(desc, message);
	}
	codec_free(message);
	return 0;
}
