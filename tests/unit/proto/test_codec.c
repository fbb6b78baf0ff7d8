/* The codec: round trips of what is legal, an answer for what is not, no memory left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "proto/descriptors.h"
#include "proto/messages.h"
#include "support/alloc.h"

static char *text(const char *s)
{
	return (char *)(uintptr_t)s; /* generated structs have no const */
}

static void test_round_trip(void **state)
{
	Openshell__V1__TcpRelayTarget target = OPENSHELL__V1__TCP_RELAY_TARGET__INIT;
	Openshell__V1__TcpForwardInit init = OPENSHELL__V1__TCP_FORWARD_INIT__INIT;
	Openshell__V1__TcpForwardFrame frame = OPENSHELL__V1__TCP_FORWARD_FRAME__INIT;
	Openshell__V1__TcpForwardFrame *back;
	enum guard_result why;
	uint8_t *data;
	size_t len;

	(void)state;
	target.host = text("127.0.0.1");
	target.port = 8080;
	init.sandbox = text("box");
	init.target_case = OPENSHELL__V1__TCP_FORWARD_INIT__TARGET_TCP;
	init.tcp = &target;
	frame.payload_case = OPENSHELL__V1__TCP_FORWARD_FRAME__PAYLOAD_INIT;
	frame.init = &init;
	data = codec_pack_new(&frame.base, &len);
	assert_non_null(data);
	assert_int_equal(len, codec_size(&frame.base));

	back = codec_unpack(&openshell__v1__tcp_forward_frame__descriptor, data, len, &why);
	assert_non_null(back);
	assert_int_equal(why, GUARD_OK);
	assert_int_equal(back->payload_case, OPENSHELL__V1__TCP_FORWARD_FRAME__PAYLOAD_INIT);
	assert_string_equal(back->init->sandbox, "box");
	assert_int_equal(back->init->tcp->port, 8080);
	codec_free(back);
	free(data);
}

/* A field in a oneof of one is on the wire exactly when it was set, be it to zero. */
static void test_presence(void **state)
{
	Openshell__V1__SandboxStatus status = OPENSHELL__V1__SANDBOX_STATUS__INIT;
	Openshell__V1__SandboxStatus *back;
	uint8_t *data;
	size_t len;

	(void)state;
	assert_int_equal(codec_size(&status.base), 0);
	status._exit_code_case = OPENSHELL__V1__SANDBOX_STATUS___EXIT_CODE_EXIT_CODE;
	data = codec_pack_new(&status.base, &len);
	assert_non_null(data);
	assert_int_equal(len, 2);
	assert_memory_equal(data, "\x48\x00", 2); /* field 9 */
	back = codec_unpack(&openshell__v1__sandbox_status__descriptor, data, len, NULL);
	assert_non_null(back);
	assert_int_equal(
	    back->_exit_code_case, OPENSHELL__V1__SANDBOX_STATUS___EXIT_CODE_EXIT_CODE);
	assert_int_equal(back->exit_code, 0);
	codec_free(back);
	free(data);
}

static void test_empty_message(void **state)
{
	Openshell__V1__HealthRequest request = OPENSHELL__V1__HEALTH_REQUEST__INIT;
	void *back = codec_unpack(&openshell__v1__health_request__descriptor, NULL, 0, NULL);
	uint8_t *data;
	size_t len = 1;

	(void)state;
	assert_non_null(back);
	codec_free(back);
	data = codec_pack_new(&request.base, &len);
	assert_non_null(data);
	assert_int_equal(len, 0);
	free(data);
	codec_free(NULL);
}

static void test_refusals_leave_nothing(void **state)
{
	static const uint8_t cut_off[] = { 0x0a, 0x05, 'a' };
	struct guard_limits small = guard_limits_default;
	enum guard_result why = GUARD_OK;

	(void)state;
	small.bytes = 2;
	assert_null(codec_unpack(&openshell__v1__relay_init__descriptor, cut_off, 3, &why));
	assert_int_equal(why, GUARD_MALFORMED);
	assert_null(codec_unpack(&openshell__v1__relay_init__descriptor, cut_off, 3, NULL));
	assert_null(
	    codec_unpack_within(&openshell__v1__relay_init__descriptor, cut_off, 3, &small, &why));
	assert_int_equal(why, GUARD_TOO_LARGE);
}

/* Sandbox{metadata{id, labels{}, labels{}}, status{conditions{}, conditions{}, 9: 0}} */
static void unpack_or_run_out(void *cookie)
{
	static const uint8_t sandbox[] = "\x0a\x07\x0a\x01x\x22\x00\x22\x00"
					 "\x1a\x06\x2a\x00\x2a\x00\x48\x00";
	enum guard_result why;
	void *m =
	    codec_unpack(&openshell__v1__sandbox__descriptor, sandbox, sizeof(sandbox) - 1, &why);

	(void)cookie;
	assert_int_equal(m == NULL, alloc_has_failed());
	assert_int_equal(why, m != NULL ? GUARD_OK : GUARD_NO_MEMORY);
	codec_free(m);
}

static void test_out_of_memory(void **state)
{
	Openshell__V1__HealthRequest request = OPENSHELL__V1__HEALTH_REQUEST__INIT;
	size_t len;

	(void)state;
	alloc_torture(unpack_or_run_out, NULL);
	alloc_fail_at(1, false);
	assert_null(codec_pack_new(&request.base, &len));
	alloc_fail_at(0, false);
}

/* xorshift; a test has to fail the same way twice. */
static uint32_t next_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

/* descriptor.proto is of the older syntax, whose required fields the guard does not
 * know. Nobody sends its messages. */
static bool is_proto2(const ProtobufCMessageDescriptor *desc)
{
	const struct descriptors_file *f = descriptors_find_symbol(desc->name);

	assert_non_null(f);
	return strcmp(f->name, "google/protobuf/descriptor.proto") == 0;
}

static size_t put_varint(uint8_t *out, uint64_t v)
{
	size_t n = 0;

	for (; v >= 0x80; v >>= 7)
		out[n++] = (uint8_t)(v | 0x80);
	out[n++] = (uint8_t)v;
	return n;
}

static size_t compose(
    const ProtobufCMessageDescriptor *desc, uint8_t *out, unsigned depth, uint32_t *seed);

/* A value for a field, its key included. Three fields in each of four levels stay
 * below 2 KiB. */
static size_t compose_field(
    const ProtobufCFieldDescriptor *f, uint8_t *out, unsigned depth, uint32_t *seed)
{
	uint8_t inner[2048];
	size_t len = next_random(seed) % 8, n;

	switch (f->type) {
	case PROTOBUF_C_TYPE_FLOAT:
		n = put_varint(out, f->id << 3 | 5);
		memset(out + n, 0x11, 4);
		return n + 4;
	case PROTOBUF_C_TYPE_DOUBLE:
		n = put_varint(out, f->id << 3 | 1);
		memset(out + n, 0x11, 8);
		return n + 8;
	case PROTOBUF_C_TYPE_MESSAGE:
		len = depth > 0 ? compose(f->descriptor, inner, depth - 1, seed) : 0;
		break;
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_BYTES:
		memset(inner, 'a', len);
		break;
	default:
		n = put_varint(out, f->id << 3);
		return n + put_varint(out + n, next_random(seed));
	}
	n = put_varint(out, f->id << 3 | 2);
	n += put_varint(out + n, len);
	memcpy(out + n, inner, len);
	return n + len;
}

/* Up to three fields of a type, with values of the right kind, some submessages in
 * submessages, and now and then a field it does not have. */
static size_t compose(
    const ProtobufCMessageDescriptor *desc, uint8_t *out, unsigned depth, uint32_t *seed)
{
	static const ProtobufCFieldDescriptor unknown = { .id = 4000,
		.type = PROTOBUF_C_TYPE_BYTES };
	size_t n = 0;

	for (unsigned left = next_random(seed) % 4; left > 0; left--) {
		if (desc->n_fields == 0 || next_random(seed) % 8 == 0)
			n += compose_field(&unknown, out + n, 0, seed);
		else
			n += compose_field(&desc->fields[next_random(seed) % desc->n_fields],
			    out + n, depth, seed);
	}
	return n;
}

/* Packs a message and unpacks the result; it packs to the same again. */
static void check_round_trip(const ProtobufCMessageDescriptor *desc, const ProtobufCMessage *m)
{
	size_t len, again_len;
	uint8_t *data = codec_pack_new(m, &len), *again;
	ProtobufCMessage *back;

	assert_non_null(data);
	back = codec_unpack(desc, data, len, NULL);
	assert_non_null(back);
	again = codec_pack_new(back, &again_len);
	assert_non_null(again);
	assert_int_equal(len, again_len);
	assert_memory_equal(data, again, len);
	codec_free(back);
	free(data);
	free(again);
}

/* Whatever the guard lets through, protobuf-c unpacks. */
static void test_guard_and_protobuf_c_agree(void **state)
{
	uint32_t seed = 20240229;
	uint8_t data[2048];
	size_t sound = 0, unsound = 0;

	(void)state;
	for (int i = 0; i < 100000; i++) {
		const ProtobufCMessageDescriptor *desc =
		    messages_at(next_random(&seed) % messages_count());
		size_t len = compose(desc, data, 3, &seed);
		enum guard_result why;
		void *message;

		if (is_proto2(desc))
			continue;
		for (uint32_t flips = next_random(&seed) % 4; len > 0 && flips > 1; flips--)
			data[next_random(&seed) % len] = (uint8_t)next_random(&seed);
		message = codec_unpack(desc, data, len, &why);
		assert_int_equal(guard_check(desc, data, len, NULL, NULL), why);
		assert_int_equal(message != NULL, why == GUARD_OK);
		if (message != NULL)
			check_round_trip(desc, message);
		*(why == GUARD_OK ? &sound : &unsound) += 1;
		codec_free(message);
	}
	assert_true(sound > 20000);
	assert_true(unsound > 5000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_presence),
		cmocka_unit_test(test_empty_message),
		cmocka_unit_test(test_refusals_leave_nothing),
		cmocka_unit_test(test_out_of_memory),
		cmocka_unit_test(test_guard_and_protobuf_c_agree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
