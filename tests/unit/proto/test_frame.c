/*
 * The decoder of the byte path. Each case is a byte string and a transcript of what the
 * decoder is to see in it; each is fed whole, byte by byte and in random pieces, and the
 * transcript has to be the same.
 *
 * In a transcript "5(" is the begin of a message of 5 bytes, "2:abc" payload of field 2,
 * ")" the end of a payload message, "[0801])" that of another with its bytes in hex, and
 * "!3" an error with its status code.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "proto/frame.h"
#include "support/alloc.h"

#define LIMIT       4096
#define OTHER_LIMIT 64

struct transcript {
	char text[8192];
	size_t len;
	bool in_payload; /* the next piece belongs to the one before */
};

__attribute__((format(printf, 2, 3))) static void say(struct transcript *t, const char *fmt, ...)
{
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(t->text + t->len, sizeof(t->text) - t->len, fmt, args);
	va_end(args);
	assert_true(n >= 0 && (size_t)n < sizeof(t->text) - t->len);
	t->len += (size_t)n;
}

static void say_end(struct transcript *t, const struct frame_event *ev)
{
	if (!ev->had_payload) {
		say(t, "[");
		for (size_t i = 0; i < ev->len; i++)
			say(t, "%02x", ev->data[i]);
		say(t, "]");
	}
	say(t, ")");
}

static void say_event(struct transcript *t, const struct frame_event *ev)
{
	switch (ev->kind) {
	case FRAME_NONE:
		return; /* says nothing, and does not part payload from payload */
	case FRAME_BEGIN:
		say(t, "%u(", ev->message_len);
		break;
	case FRAME_PAYLOAD:
		assert_true(ev->len > 0);
		if (!t->in_payload)
			say(t, "%u:", ev->field);
		say(t, "%.*s", (int)ev->len, (const char *)ev->data);
		break;
	case FRAME_END:
		say_end(t, ev);
		break;
	case FRAME_ERROR:
		assert_true(strlen(ev->text) > 0);
		say(t, "!%d", ev->code);
		break;
	}
	t->in_payload = ev->kind == FRAME_PAYLOAD;
}

/* Feeds one piece until nothing more comes of it; false at an error. */
static bool feed(struct frame_decoder *d, const uint8_t *p, size_t n, struct transcript *t)
{
	struct frame_event ev;
	/* A copy of its own, so that a sanitizer sees a read past the piece. */
	uint8_t *piece = malloc(n > 0 ? n : 1), *at = piece;

	assert_non_null(piece);
	if (n > 0)
		memcpy(piece, p, n);
	do {
		size_t used = frame_decoder_feed(d, at, n, &ev);

		assert_true(used <= n);
		if (ev.kind == FRAME_PAYLOAD)
			assert_true(ev.data >= at && ev.data + ev.len == at + used);
		at += used;
		n -= used;
		say_event(t, &ev);
	} while (ev.kind != FRAME_NONE && ev.kind != FRAME_ERROR);
	assert_true(n == 0 || ev.kind == FRAME_ERROR);
	free(piece);
	return ev.kind != FRAME_ERROR;
}

/* xorshift; a test has to fail the same way twice. */
static uint32_t next_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

/* Decodes ${stream} in pieces of at most ${most} bytes; 0 takes it whole. Says "..."
 * at the end if it ends within a message. */
static void decode(enum frame_shape shape, const uint8_t *stream, size_t len, size_t most,
    uint32_t *seed, struct transcript *t)
{
	struct frame_decoder d;
	bool going = true;

	t->len = 0;
	t->in_payload = false;
	t->text[0] = '\0';
	frame_decoder_init(&d, shape, LIMIT, OTHER_LIMIT);
	assert_true(frame_decoder_is_idle(&d));
	for (size_t at = 0; going && at < len;) {
		size_t piece = most == 0 ? len : 1 + next_random(seed) % most;

		if (piece > len - at)
			piece = len - at;
		going = feed(&d, stream + at, piece, t);
		at += piece;
	}
	if (going && !frame_decoder_is_idle(&d))
		say(t, "...");
	frame_decoder_free(&d);
}

static void check_splits(
    enum frame_shape shape, const uint8_t *stream, size_t len, const char *expected)
{
	struct transcript t;
	uint32_t seed = 7;

	decode(shape, stream, len, 0, &seed, &t);
	assert_string_equal(t.text, expected);
	for (size_t most = 1; most < 40; most++) {
		decode(shape, stream, len, most, &seed, &t);
		assert_string_equal(t.text, expected);
	}
}

#define CHECK(shape, stream, expected) \
	check_splits(shape, (const uint8_t *)(stream), sizeof(stream) - 1, expected)
#define CHECK_BYTES(stream, expected) CHECK(FRAME_SHAPE_BYTES, stream, expected)
#define CHECK_EVENT(stream, expected) CHECK(FRAME_SHAPE_EVENT, stream, expected)

static void test_payload(void **state)
{
	(void)state;
	CHECK_BYTES("", "");
	CHECK_BYTES("\0\0\0\0\5\x12\3abc", "5(2:abc)");
	CHECK_BYTES("\0\0\0\0\5\x12\3abc\0\0\0\0\3\x12\1x", "5(2:abc)3(2:x)");
	/* Lengths and keys may be longer than they need to be. */
	CHECK_BYTES("\0\0\0\0\5\x92\0\2ab", "5(2:ab)");
	CHECK_BYTES("\0\0\0\0\6\x12\x82\x80\0ab", "6(2:ab)");
}

static void test_no_bytes(void **state)
{
	(void)state;
	CHECK_BYTES("\0\0\0\0\2\x12\0", "2()");
	CHECK_BYTES("\0\0\0\0\0", "0([])");
	CHECK_BYTES("\0\0\0\0\0\0\0\0\0\2\x12\0\0\0\0\0\0", "0([])2()0([])");
}

static void test_others_come_whole(void **state)
{
	(void)state;
	CHECK_BYTES("\0\0\0\0\4\x0a\2hi", "4([0a026869])");
	CHECK_BYTES("\0\0\0\0\0\0\0\0\0\5\x12\3abc\0\0\0\0\2\x0a\0", "0([])5(2:abc)2([0a00])");
	/* A varint, fixed32, fixed64 and an empty field. */
	CHECK_BYTES("\0\0\0\0\3\x08\xff\1", "3([08ff01])");
	CHECK_BYTES("\0\0\0\0\5\x0d\1\2\3\4", "5([0d01020304])");
	CHECK_BYTES("\0\0\0\0\x9\x09\1\2\3\4\5\6\7\x8", "9([090102030405060708])");
	CHECK(FRAME_SHAPE_WHOLE, "\0\0\0\0\5\x12\3abc", "5([1203616263])");
}

static void test_unknown_fields_are_no_obstacle(void **state)
{
	(void)state;
	/* Field 7, before and after. */
	CHECK_BYTES("\0\0\0\0\7\x38\5\x12\3abc", "7(2:abc)");
	CHECK_BYTES("\0\0\0\0\x9\x3a\2no\x12\3abc", "9(2:abc)");
	CHECK_BYTES("\0\0\0\0\7\x12\3abc\x38\5", "7(2:abc)");
	CHECK_BYTES("\0\0\0\0\x9\x12\3abc\x3a\2no", "9(2:abc)");
	CHECK_BYTES("\0\0\0\0\x6\x12\1x\xc0\x3e\7", "6(2:x)");
	CHECK_BYTES("\0\0\0\0\2\x38\5", "2([3805])");
}

static void test_two_members_of_a_oneof(void **state)
{
	(void)state;
	CHECK_BYTES("\0\0\0\0\7\x0a\0\x12\3abc", "7(!3");         /* init, data */
	CHECK_BYTES("\0\0\0\0\7\x12\3abc\x0a\0", "7(2:abc!3");    /* data, init */
	CHECK_BYTES("\0\0\0\0\7\x12\3abc\x1a\0", "7(2:abc!3");    /* stdin, resize */
	CHECK_BYTES("\0\0\0\0\x8\x12\3abc\x82\1\0", "8(2:abc!3"); /* chunk, trailer */
	CHECK_BYTES("\0\0\0\0\x8\x12\3abc\x12\1x", "8(2:abc!3");  /* data, data */
}

static void test_malformed(void **state)
{
	(void)state;
	CHECK_BYTES("\0\0\0\0\1\x12", "1(!3");   /* no length */
	CHECK_BYTES("\0\0\0\0\2\x12\1", "2(!3"); /* longer than the message */
	CHECK_BYTES("\0\0\0\0\4\x12\xff\xff\7", "4(!3");
	CHECK_BYTES("\0\0\0\0\6\x12\xff\xff\xff\xff\x0f", "6(!3");
	CHECK_BYTES("\0\0\0\0\x8\x12\x80\x80\x80\x80\x80\1x", "8(!3");
	CHECK_BYTES("\0\0\0\0\2\x10\1", "2(!3"); /* data as a number */
	CHECK_BYTES("\0\0\0\0\1\x80", "1(!3");   /* half a key */
	CHECK_BYTES("\0\0\0\0\2\0\0", "2(!3");   /* field 0 */
	CHECK_BYTES("\0\0\0\0\7\x80\x80\x80\x80\x80\x80\0", "7(!3");
	CHECK_BYTES("\0\0\0\0\6\xfa\xff\xff\xff\x7f\0", "6(!3");
	CHECK_BYTES("\0\0\0\0\2\x0b\x0c", "2(!3");   /* a group */
	CHECK_BYTES("\0\0\0\0\4\x0d\1\2\3", "4(!3"); /* fixed32 cut off */
	CHECK_BYTES("\0\0\0\0\3\x0a\2x", "3(!3");    /* init cut off */
	CHECK_BYTES("\0\0\0\0\2\x08\x80", "2(!3");
	CHECK_BYTES("\0\0\0\0\x0c\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\1", "12(!3");
}

static void test_prefix(void **state)
{
	(void)state;
	CHECK_BYTES("\1\0\0\0\5\x12\3abc", "!12"); /* compressed */
	CHECK_BYTES("\2\0\0\0\5\x12\3abc", "!13");
	CHECK_BYTES("\xff\xff\xff\xff\xff", "!13");
	CHECK_BYTES("\0\xff\xff\xff\xff", "!8");
	CHECK_BYTES("\0\0\0\x10\1", "!8"); /* LIMIT + 1 */
	CHECK_BYTES("\0\0\0\x10\0\x12", "4096(...");
}

static void test_limit_of_others(void **state)
{
	uint8_t stream[5 + OTHER_LIMIT + 1] = { 0, 0, 0, 0, OTHER_LIMIT, 0x0a, OTHER_LIMIT - 2 };
	struct frame_decoder d;
	struct frame_event ev;
	size_t used;

	(void)state;
	frame_decoder_init(&d, FRAME_SHAPE_BYTES, LIMIT, OTHER_LIMIT);
	used = frame_decoder_feed(&d, stream, sizeof(stream) - 1, &ev);
	assert_int_equal(ev.kind, FRAME_BEGIN);
	used += frame_decoder_feed(&d, stream + used, sizeof(stream) - 1 - used, &ev);
	assert_int_equal(ev.kind, FRAME_END);
	assert_int_equal(ev.len, OTHER_LIMIT);
	assert_memory_equal(ev.data, stream + 5, OTHER_LIMIT);
	assert_int_equal(used, sizeof(stream) - 1);
	frame_decoder_free(&d);

	stream[4]++;
	stream[6]++;
	check_splits(FRAME_SHAPE_BYTES, stream, sizeof(stream), "65(!8");
}

/* Only messages without payload need memory. */
static void test_out_of_memory(void **state)
{
	static const uint8_t payload[] = "\0\0\0\0\5\x12\3abc", init[] = "\0\0\0\0\2\x0a\0";
	struct frame_decoder d;
	struct frame_event ev;
	size_t at = 0;

	(void)state;
	alloc_fail_at(1, true);
	frame_decoder_init(&d, FRAME_SHAPE_BYTES, LIMIT, OTHER_LIMIT);
	do
		at += frame_decoder_feed(&d, payload + at, sizeof(payload) - 1 - at, &ev);
	while (ev.kind == FRAME_BEGIN || ev.kind == FRAME_PAYLOAD);
	assert_int_equal(ev.kind, FRAME_END);
	assert_false(alloc_has_failed());

	at = frame_decoder_feed(&d, init, sizeof(init) - 1, &ev);
	assert_int_equal(ev.kind, FRAME_BEGIN);
	frame_decoder_feed(&d, init + at, sizeof(init) - 1 - at, &ev);
	alloc_fail_at(0, false);
	assert_int_equal(ev.kind, FRAME_ERROR);
	assert_int_equal(ev.code, 8);
	frame_decoder_free(&d);
}

static void test_an_error_stays(void **state)
{
	struct frame_decoder d;
	struct frame_event ev;

	(void)state;
	frame_decoder_init(&d, FRAME_SHAPE_BYTES, LIMIT, OTHER_LIMIT);
	frame_decoder_feed(&d, (const uint8_t *)"\1\0\0\0\0", 5, &ev);
	assert_int_equal(ev.kind, FRAME_ERROR);
	assert_int_equal(frame_decoder_feed(&d, (const uint8_t *)"\0\0\0\0\0", 5, &ev), 0);
	assert_int_equal(ev.kind, FRAME_ERROR);
	assert_int_equal(ev.code, 12);
	assert_false(frame_decoder_is_idle(&d));
	frame_decoder_free(&d);
}

static void test_ends_within_a_message(void **state)
{
	(void)state;
	CHECK_BYTES("\0", "...");
	CHECK_BYTES("\0\0\0\0", "...");
	CHECK_BYTES("\0\0\0\0\5", "5(...");
	CHECK_BYTES("\0\0\0\0\5\x12", "5(...");
	CHECK_BYTES("\0\0\0\0\5\x12\3ab", "5(2:ab...");
	CHECK_BYTES("\0\0\0\0\4\x0a\2h", "4(...");
}

static void test_exec_events(void **state)
{
	(void)state;
	CHECK_EVENT("\0\0\0\0\7\x0a\5\x0a\3out", "7(1:out)");
	CHECK_EVENT("\0\0\0\0\7\x12\5\x0a\3err", "7(2:err)");
	CHECK_EVENT("\0\0\0\0\4\x1a\2\x08\5", "4([1a020805])"); /* exit */
	CHECK_EVENT("\0\0\0\0\2\x1a\0", "2([1a00])");
	CHECK_EVENT("\0\0\0\0\2\x0a\0", "2()");
	CHECK_EVENT("\0\0\0\0\4\x0a\2\x0a\0", "4()");
	/* Unknown fields in the event and in what it wraps. */
	CHECK_EVENT("\0\0\0\0\7\x0a\5\x10\1\x0a\1x", "7(1:x)");
	CHECK_EVENT("\0\0\0\0\7\x0a\5\x0a\1x\x10\1", "7(1:x)");
	CHECK_EVENT("\0\0\0\0\7\x38\1\x0a\3\x0a\1x", "7(1:x)");
	CHECK_EVENT("\0\0\0\0\7\x0a\3\x0a\1x\x38\1", "7(1:x)");
	/* In a wrapper other numbers are free. */
	CHECK_EVENT("\0\0\0\0\7\x0a\5\x1a\0\x0a\1x", "7(1:x)");
}

static void test_bad_exec_events(void **state)
{
	(void)state;
	CHECK_EVENT("\0\0\0\0\x8\x0a\6\x0a\1x\x0a\1y", "8(1:x!3");
	CHECK_EVENT("\0\0\0\0\x0a\x0a\3\x0a\1x\x12\3\x0a\1y", "10(1:x!3");
	CHECK_EVENT("\0\0\0\0\7\x0a\3\x0a\1x\x1a\0", "7(1:x!3");
	CHECK_EVENT("\0\0\0\0\7\x1a\0\x0a\3\x0a\1x", "7(!3");
	CHECK_EVENT("\0\0\0\0\5\x0a\5\x0a\1x", "5(!3"); /* the wrapper is too long */
	CHECK_EVENT("\0\0\0\0\5\x0a\2\x0a\1x", "5(!3"); /* its bytes are */
	CHECK_EVENT("\0\0\0\0\4\x0a\1\x0a\0", "4(!3");  /* it ends within a key and length */
	CHECK_EVENT("\0\0\0\0\4\x0a\1\x8a\0", "4(!3");
	CHECK_EVENT("\0\0\0\0\4\x0a\2\x08\1", "4(!3"); /* its bytes are a number */
	CHECK_EVENT("\0\0\0\0\2\x08\1", "2(!3");
}

/* What goes before a payload is what protobuf-c would have written. */
static void test_header(void **state)
{
	static const uint32_t lens[] = { 0, 1, 127, 128, 16383, 16384, 65536, 1 << 20, 3 << 20 };
	uint8_t *data = calloc(1, 3 << 20), head[FRAME_HEADER_MAX];

	(void)state;
	assert_non_null(data);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		Openshell__V1__RelayFrame frame = OPENSHELL__V1__RELAY_FRAME__INIT;
		size_t len, n = frame_header(head, 2, lens[i]);
		uint8_t *packed;

		frame.payload_case = OPENSHELL__V1__RELAY_FRAME__PAYLOAD_DATA;
		frame.data = (ProtobufCBinaryData){ lens[i], data };
		packed = codec_pack_new(&frame.base, &len);
		assert_non_null(packed);
		assert_int_equal(n - 5 + lens[i], len);
		assert_memory_equal(head + 5, packed, n - 5);
		assert_memory_equal(head,
		    ((uint8_t[]){ 0, (uint8_t)(len >> 24), (uint8_t)(len >> 16),
			(uint8_t)(len >> 8), (uint8_t)len }),
		    5);
		free(packed);
	}
	free(data);
}

static void test_nested_header(void **state)
{
	static const uint32_t lens[] = { 0, 1, 125, 126, 127, 128, 16381, 16384, 1 << 20 };
	uint8_t *data = calloc(1, 1 << 20), head[FRAME_HEADER_MAX];

	(void)state;
	assert_non_null(data);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		Openshell__V1__ExecSandboxStderr err = OPENSHELL__V1__EXEC_SANDBOX_STDERR__INIT;
		Openshell__V1__ExecSandboxEvent event = OPENSHELL__V1__EXEC_SANDBOX_EVENT__INIT;
		size_t len, n = frame_header_nested(head, 2, 1, lens[i]);
		uint8_t *packed;

		err.data = (ProtobufCBinaryData){ lens[i], data };
		event.payload_case = OPENSHELL__V1__EXEC_SANDBOX_EVENT__PAYLOAD_STDERR;
		event.stderr = &err;
		packed = codec_pack_new(&event.base, &len);
		assert_non_null(packed);
		if (lens[i] > 0) { /* protobuf-c leaves empty bytes out; either is right */
			assert_int_equal(n - 5 + lens[i], len);
			assert_memory_equal(head + 5, packed, n - 5);
		}
		free(packed);
	}
	free(data);
}

static void test_longest_header_fits(void **state)
{
	uint8_t head[FRAME_HEADER_MAX];

	(void)state;
	assert_int_equal(frame_header(head, 2, FRAME_PAYLOAD_MAX), 5 + 1 + 5);
	assert_int_equal(
	    frame_header_nested(head, (1u << 29) - 1, (1u << 29) - 1, FRAME_PAYLOAD_MAX),
	    FRAME_HEADER_MAX);
}

/* Whatever the bytes, whole and in pieces come to the same. */
static void test_random_bytes_in_random_pieces(void **state)
{
	static struct transcript whole, pieces;
	uint32_t seed = 99;
	uint8_t stream[96];

	(void)state;
	for (int i = 0; i < 30000; i++) {
		enum frame_shape shape = (enum frame_shape)(next_random(&seed) % 3);
		size_t len = next_random(&seed) % sizeof(stream);
		uint32_t same = 1;

		/* Mostly messages of few bytes that begin as they should. */
		for (size_t k = 0; k < len; k++)
			stream[k] = (uint8_t)(1 + next_random(&seed) % 31);
		for (size_t k = 0; k + 5 < len; k += 5u + stream[k + 4]) {
			memset(stream + k, 0, 4);
			stream[k + 4] = (uint8_t)(next_random(&seed) % 12);
			if (stream[k + 4] > 2 && next_random(&seed) % 2 == 0)
				stream[k + 5] = 0x12;
		}
		decode(shape, stream, len, 0, &same, &whole);
		decode(shape, stream, len, 1 + next_random(&seed) % 7, &seed, &pieces);
		assert_string_equal(whole.text, pieces.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_payload),
		cmocka_unit_test(test_no_bytes),
		cmocka_unit_test(test_others_come_whole),
		cmocka_unit_test(test_unknown_fields_are_no_obstacle),
		cmocka_unit_test(test_two_members_of_a_oneof),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_prefix),
		cmocka_unit_test(test_limit_of_others),
		cmocka_unit_test(test_out_of_memory),
		cmocka_unit_test(test_an_error_stays),
		cmocka_unit_test(test_ends_within_a_message),
		cmocka_unit_test(test_exec_events),
		cmocka_unit_test(test_bad_exec_events),
		cmocka_unit_test(test_header),
		cmocka_unit_test(test_nested_header),
		cmocka_unit_test(test_longest_header_fits),
		cmocka_unit_test(test_random_bytes_in_random_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
