/*
 * The guard: what protobuf-c would choke on does not reach it, and what it lets through
 * costs no more than it said.
 */
#include <google/protobuf/struct.pb-c.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "proto/guard.h"
#include "proto/messages.h"

#define STRUCT     (&google__protobuf__struct__descriptor)
#define SANDBOX    (&openshell__v1__sandbox__descriptor)
#define STATUS     (&openshell__v1__sandbox_status__descriptor)
#define TCP_TARGET (&openshell__v1__tcp_relay_target__descriptor)
#define ENDPOINT   (&openshell__v1__endpoint_status__descriptor)

struct bytes {
	uint8_t *data;
	size_t len;
};

static size_t put_varint(uint8_t *out, uint64_t v)
{
	size_t n = 0;

	for (; v >= 0x80; v >>= 7)
		out[n++] = (uint8_t)(v | 0x80);
	out[n++] = (uint8_t)v;
	return n;
}

/* Wraps what is in ${b} into field ${field} of another message. */
static void wrap(struct bytes *b, uint32_t field)
{
	uint8_t head[16];
	size_t n = put_varint(head, field << 3 | 2);

	n += put_varint(head + n, b->len);
	b->data = realloc(b->data, b->len + n);
	assert_non_null(b->data);
	memmove(b->data + n, b->data, b->len);
	memcpy(b->data, head, n);
	b->len += n;
}

/* A google.protobuf.Struct so many levels deep: Struct.fields, FieldsEntry.value and
 * Value.struct_value are three levels of messages for each. */
static struct bytes nested_struct(size_t levels)
{
	struct bytes b = { calloc(1, 1), 0 };

	for (size_t i = 0; i < levels; i++) {
		wrap(&b, 5);
		wrap(&b, 2);
		wrap(&b, 1);
	}
	return b;
}

static enum guard_result check(const ProtobufCMessageDescriptor *desc, const void *data, size_t len)
{
	return guard_check(desc, data, len, NULL, NULL);
}

#define CHECK(desc, literal) check(desc, literal, sizeof(literal) - 1)

static void test_nesting(void **state)
{
	struct guard_cost cost;
	struct bytes b = nested_struct(33); /* 1 + 33 * 3 levels */

	(void)state;
	assert_int_equal(guard_check(STRUCT, b.data, b.len, NULL, &cost), GUARD_OK);
	assert_int_equal(cost.depth, GUARD_DEPTH_MAX);
	free(b.data);
	b = nested_struct(34);
	assert_int_equal(check(STRUCT, b.data, b.len), GUARD_TOO_DEEP);
	free(b.data);
}

static void test_nine_thousand_levels(void **state)
{
	struct bytes b = nested_struct(3000);
	enum guard_result why;

	(void)state;
	assert_null(codec_unpack(STRUCT, b.data, b.len, &why));
	assert_int_equal(why, GUARD_TOO_DEEP);
	assert_int_equal(guard_status(why), 3);
	/* Where a peer would put it: SandboxSpec.template.driver_config. */
	wrap(&b, 11);
	wrap(&b, 6);
	wrap(&b, 2);
	assert_null(codec_unpack(SANDBOX, b.data, b.len, &why));
	assert_int_equal(why, GUARD_TOO_DEEP);
	free(b.data);
}

static void test_depth_limit_of_the_caller(void **state)
{
	struct guard_limits limits = guard_limits_default;
	struct bytes b = { calloc(1, 1), 0 };

	(void)state;
	wrap(&b, 3); /* Sandbox.status */
	limits.depth = 2;
	assert_int_equal(guard_check(SANDBOX, b.data, b.len, &limits, NULL), GUARD_OK);
	limits.depth = 1;
	assert_int_equal(guard_check(SANDBOX, b.data, b.len, &limits, NULL), GUARD_TOO_DEEP);
	free(b.data);
}

/* ${len} bytes of empty conditions, two bytes each. */
static struct bytes empty_conditions(size_t len)
{
	struct bytes b = { malloc(len), len };

	assert_non_null(b.data);
	for (size_t i = 0; i < len; i++)
		b.data[i] = i % 2 == 0 ? 5 << 3 | 2 : 0;
	return b;
}

static void test_eight_megabytes_of_nothing(void **state)
{
	struct guard_limits limits = guard_limits_default;
	struct bytes b = empty_conditions((size_t)8 << 20);

	(void)state;
	assert_int_equal(check(STATUS, b.data, b.len), GUARD_TOO_LARGE);
	limits.bytes = SIZE_MAX;
	assert_int_equal(guard_check(STATUS, b.data, b.len, &limits, NULL), GUARD_TOO_LARGE);
	limits.memory = SIZE_MAX;
	assert_int_equal(guard_check(STATUS, b.data, b.len, &limits, NULL), GUARD_TOO_MANY_FIELDS);
	assert_int_equal(guard_status(GUARD_TOO_MANY_FIELDS), 8);
	free(b.data);
}

static void test_limits_are_met_exactly(void **state)
{
	struct bytes b = empty_conditions(2000);
	struct guard_limits limits = guard_limits_default;
	struct guard_cost cost;

	(void)state;
	assert_int_equal(guard_check(STATUS, b.data, b.len, NULL, &cost), GUARD_OK);
	assert_int_equal(cost.fields, 1000);
	limits = (struct guard_limits){ b.len, cost.memory, cost.fields, cost.depth };
	assert_int_equal(guard_check(STATUS, b.data, b.len, &limits, NULL), GUARD_OK);
	limits.memory--;
	assert_int_equal(guard_check(STATUS, b.data, b.len, &limits, NULL), GUARD_TOO_LARGE);
	limits.memory++;
	limits.fields--;
	assert_int_equal(guard_check(STATUS, b.data, b.len, &limits, NULL), GUARD_TOO_MANY_FIELDS);
	limits.fields++;
	limits.bytes--;
	assert_int_equal(guard_check(STATUS, b.data, b.len, &limits, NULL), GUARD_TOO_LARGE);
	free(b.data);
}

/* Fields nobody knows are kept by protobuf-c, and packed lists grow eightfold. */
static void test_other_ways_to_ask_for_memory(void **state)
{
	size_t len = (size_t)1 << 20;
	uint8_t *data = malloc(len + 16);
	struct guard_limits limits = guard_limits_default;

	(void)state;
	assert_non_null(data);
	for (size_t i = 0; i < len; i += 2) {
		data[i] = 14 << 3; /* no such field of TcpRelayTarget */
		data[i + 1] = 0;
	}
	assert_int_equal(check(TCP_TARGET, data, len), GUARD_TOO_LARGE);
	limits.memory = SIZE_MAX;
	assert_int_equal(guard_check(TCP_TARGET, data, len, &limits, NULL), GUARD_TOO_MANY_FIELDS);

	struct bytes ports = { calloc(1, len), len };
	wrap(&ports, 3);
	assert_int_equal(check(ENDPOINT, ports.data, ports.len), GUARD_TOO_MANY_FIELDS);
	free(ports.data);
	free(data);
}

static void test_malformed(void **state)
{
	(void)state;
	assert_int_equal(CHECK(TCP_TARGET, ""), GUARD_OK);
	assert_int_equal(CHECK(TCP_TARGET, "\x0a\x01h\x10\x16"), GUARD_OK);
	assert_int_equal(CHECK(TCP_TARGET, "\x0a"), GUARD_MALFORMED);      /* no length */
	assert_int_equal(CHECK(TCP_TARGET, "\x0a\x02h"), GUARD_MALFORMED); /* past the end */
	assert_int_equal(CHECK(TCP_TARGET, "\x0a\xff\xff\xff\xff\x0f"), GUARD_MALFORMED);
	assert_int_equal(CHECK(TCP_TARGET, "\x0a\x80\x80\x80\x80\x80\x01"), GUARD_MALFORMED);
	assert_int_equal(CHECK(TCP_TARGET, "\x10"), GUARD_MALFORMED);
	assert_int_equal(CHECK(TCP_TARGET, "\x10\x80"), GUARD_MALFORMED);
	assert_int_equal(
	    CHECK(TCP_TARGET, "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), GUARD_OK);
	assert_int_equal(
	    CHECK(TCP_TARGET, "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), GUARD_MALFORMED);
	assert_int_equal(CHECK(TCP_TARGET, "\x00\x00"), GUARD_MALFORMED); /* field 0 */
	assert_int_equal(CHECK(TCP_TARGET, "\x80\x00\x00"), GUARD_MALFORMED);
	assert_int_equal(CHECK(TCP_TARGET, "\xff\xff\xff\xff\x7f\x00"), GUARD_MALFORMED);
	assert_int_equal(CHECK(TCP_TARGET, "\x0b\x0c"), GUARD_MALFORMED); /* a group */
	assert_int_equal(CHECK(TCP_TARGET, "\x73\x74"), GUARD_MALFORMED); /* an unknown one */
	assert_int_equal(CHECK(TCP_TARGET, "\x0e"), GUARD_MALFORMED);     /* wire type 6 */
	assert_int_equal(CHECK(TCP_TARGET, "\x08\x01"), GUARD_MALFORMED); /* text as a number */
	assert_int_equal(CHECK(TCP_TARGET, "\x15\x01\x00\x00\x00"), GUARD_MALFORMED);
	assert_int_equal(CHECK(TCP_TARGET, "\x12\x01\x01"), GUARD_MALFORMED); /* no list */
	assert_int_equal(CHECK(TCP_TARGET, "\x75\x01\x00\x00"), GUARD_MALFORMED);
	assert_int_equal(CHECK(TCP_TARGET, "\x75\x01\x00\x00\x00"), GUARD_OK); /* unknown fixed32 */
	assert_int_equal(CHECK(TCP_TARGET, "\x71\x01\x00\x00\x00"), GUARD_MALFORMED);
	assert_int_equal(
	    CHECK(ENDPOINT, "\x1a\x02\x01\x80"), GUARD_MALFORMED); /* packed, cut off */
	assert_int_equal(CHECK(ENDPOINT, "\x1a\x02\x01\x7f"), GUARD_OK);
	assert_int_equal(CHECK(ENDPOINT, "\x18\x01\x18\x02"), GUARD_OK); /* not packed */
	/* A submessage ends within what holds it. */
	assert_int_equal(CHECK(SANDBOX, "\x1a\x02\x0a\x01x"), GUARD_MALFORMED);
}

/* protobuf-c would hand "etc" to whoever asks for the path "etc\0/../x". */
static void test_text(void **state)
{
	(void)state;
	assert_int_equal(CHECK(TCP_TARGET,
			     "\x0a\x03"
			     "a\0b"),
	    GUARD_BAD_TEXT);
	assert_int_equal(CHECK(TCP_TARGET, "\x0a\x02\xc3\xa9"), GUARD_OK);
	assert_int_equal(CHECK(TCP_TARGET, "\x0a\x01\xc3"), GUARD_BAD_TEXT);
	assert_int_equal(guard_status(GUARD_BAD_TEXT), 3);

	assert_true(guard_is_text("", 0));
	assert_true(guard_is_text(
	    "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf", 17));
	assert_true(guard_is_text("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 8));
	assert_false(guard_is_text("\x80", 1));
	assert_false(guard_is_text("\xc0\x80", 2));
	assert_false(guard_is_text("\xc1\xbf", 2));
	assert_false(guard_is_text("\xe0\x9f\xbf", 3));
	assert_false(guard_is_text("\xed\xa0\x80", 3)); /* a surrogate */
	assert_false(guard_is_text("\xf0\x8f\xbf\xbf", 4));
	assert_false(guard_is_text("\xf4\x90\x80\x80", 4));
	assert_false(guard_is_text("\xf5\x80\x80\x80", 4));
	assert_false(guard_is_text("\xe2\x82", 2));
	assert_false(guard_is_text("\xe2\x28\xa1", 3));
}

/* Wherever it stands in a text, a byte that does not belong there is found. */
static void test_long_texts(void **state)
{
	char text[64];

	(void)state;
	for (size_t len = 1; len <= sizeof(text); len++) {
		memset(text, 'a', len);
		assert_true(guard_is_text(text, len));
		for (size_t at = 0; at < len; at++) {
			text[at] = '\0';
			assert_false(guard_is_text(text, len));
			text[at] = (char)0xff;
			assert_false(guard_is_text(text, len));
			text[at] = 'a';
			if (at + 1 < len) {
				memcpy(text + at, "\xc3\xa9", 2);
				assert_true(guard_is_text(text, len));
				memcpy(text + at, "aa", 2);
			}
		}
	}
}

static void test_bytes_need_not_be_text(void **state)
{
	(void)state;
	assert_int_equal(
	    CHECK(&openshell__v1__relay_frame__descriptor, "\x12\x03\x00\xff\x80"), GUARD_OK);
}

static void test_single_submessages_come_once(void **state)
{
	(void)state;
	assert_int_equal(CHECK(SANDBOX, "\x12\x00\x1a\x00"), GUARD_OK);
	assert_int_equal(CHECK(SANDBOX, "\x12\x00\x12\x00"), GUARD_REPEATED);
	/* Another level begins anew. */
	assert_int_equal(CHECK(&openshell__v1__list_sandboxes_response__descriptor,
			     "\x0a\x02\x12\x00\x0a\x02\x12\x00"),
	    GUARD_OK);
	/* Single scalars may: the last one counts, and nothing is copied twice. */
	assert_int_equal(CHECK(TCP_TARGET, "\x10\x01\x10\x02"), GUARD_OK);
}

static void test_every_type_can_be_guarded(void **state)
{
	(void)state;
	for (size_t i = 0; i < messages_count(); i++) {
		assert_true(messages_at(i)->n_fields <= GUARD_DECLARED_MAX);
		assert_int_equal(guard_check(messages_at(i), NULL, 0, NULL, NULL), GUARD_OK);
	}
}

/* Counts what is allocated and not yet freed, and the most there ever was. */
struct meter {
	size_t now;
	size_t most;
};

static void *meter_alloc(void *cookie, size_t size)
{
	struct meter *m = cookie;
	size_t *block = malloc(size + 16);

	if (block == NULL)
		return NULL;
	block[0] = size;
	m->now += size + 16; /* as malloc() would round it */
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
	m->now -= block[0] + 16;
	free(block);
}

static void check_cost(const ProtobufCMessageDescriptor *desc, const uint8_t *data, size_t len)
{
	struct meter meter = { 0, 0 };
	ProtobufCAllocator allocator = { meter_alloc, meter_free, &meter };
	struct guard_cost cost;
	ProtobufCMessage *m;

	assert_int_equal(guard_check(desc, data, len, NULL, &cost), GUARD_OK);
	m = protobuf_c_message_unpack(desc, &allocator, len, data);
	assert_non_null(m);
	assert_true(meter.most <= cost.memory);
	protobuf_c_message_free_unpacked(m, &allocator);
	assert_int_equal(meter.now, 0);
}

static void test_cost_is_never_less_than_what_is_allocated(void **state)
{
	struct bytes b;

	(void)state;
	for (size_t len = 0; len < 3000; len += 2 + len / 4 * 2) {
		b = empty_conditions(len);
		check_cost(STATUS, b.data, b.len);
		free(b.data);
		b = (struct bytes){ calloc(1, len + 1), len };
		wrap(&b, 3);
		check_cost(ENDPOINT, b.data, b.len);                               /* packed */
		check_cost(&openshell__v1__relay_init__descriptor, b.data, b.len); /* unknown */
		free(b.data);
	}
	for (size_t levels = 0; levels <= 33; levels++) {
		b = nested_struct(levels);
		check_cost(STRUCT, b.data, b.len);
		free(b.data);
	}
}

static void test_every_result_has_a_text(void **state)
{
	(void)state;
	for (int r = GUARD_OK; r <= GUARD_NO_MEMORY; r++) {
		assert_true(strlen(guard_text((enum guard_result)r)) > 0);
		assert_int_equal(guard_status((enum guard_result)r) == 0, r == GUARD_OK);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nesting),
		cmocka_unit_test(test_nine_thousand_levels),
		cmocka_unit_test(test_depth_limit_of_the_caller),
		cmocka_unit_test(test_eight_megabytes_of_nothing),
		cmocka_unit_test(test_limits_are_met_exactly),
		cmocka_unit_test(test_other_ways_to_ask_for_memory),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_long_texts),
		cmocka_unit_test(test_bytes_need_not_be_text),
		cmocka_unit_test(test_single_submessages_come_once),
		cmocka_unit_test(test_every_type_can_be_guarded),
		cmocka_unit_test(test_cost_is_never_less_than_what_is_allocated),
		cmocka_unit_test(test_every_result_has_a_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
