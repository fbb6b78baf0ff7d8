/*
 * Framed calls over a real connection, in all three roles: what one end sends with its
 * functions comes out at the other, and so does what a raw call sends, cut anywhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ends.h"
#include "framed_rig.h"
#include "proto/frame.h"
#include "relay/framed_role.h"
#include "support/alloc.h"
#include "support/leak.h"

#define MIB ((size_t)1 << 20)

static const enum side sides[] = { SIDE_CLIENT, SIDE_SERVER, SIDE_CHANNEL };

#define SIDES (sizeof(sides) / sizeof(sides[0]))

static const struct err test_err = { .code = GRPC_ABORTED, .text = "the test says so" };

static int setup(void **state)
{
	loop_free(loop_create(0, NULL)); /* the first opens what all of them share */
	*state = leak_begin();
	return 0;
}

static int teardown(void **state)
{
	return leak_end(*state);
}

/* A stream of messages as bytes, and what should come of them. */
struct script {
	struct bytes wire, messages;
	size_t payload;
	size_t marks[FRAMED_RIG_MARKS], mark_count;
};

static void script_payload(struct script *s, size_t len)
{
	uint8_t head[FRAME_HEADER_MAX], byte;

	bytes_add(&s->wire, head, frame_header(head, 2, (uint32_t)len));
	for (size_t i = 0; i < len; i++) {
		byte = end_byte(s->payload++);
		bytes_add(&s->wire, &byte, 1);
	}
}

static void script_bytes(struct script *s, const void *message, size_t len)
{
	const uint8_t prefix[] = { 0, 0, 0, (uint8_t)(len >> 8), (uint8_t)len };

	bytes_add(&s->wire, prefix, sizeof(prefix));
	bytes_add(&s->wire, message, len);
}

/* A message of field 3, as resize is. */
static void script_message(struct script *s, uint8_t len)
{
	uint8_t message[256] = { 3 << 3 | 2, len }, size = (uint8_t)(len + 2);

	for (uint8_t i = 0; i < len; i++)
		message[2 + i] = (uint8_t)(s->mark_count + i);
	s->marks[s->mark_count++] = s->payload;
	script_bytes(s, message, size);
	bytes_add(&s->messages, &size, 1);
	bytes_add(&s->messages, message, size);
}

static void script_free(struct script *s)
{
	bytes_free(&s->wire);
	bytes_free(&s->messages);
	*s = (struct script){ 0 };
}

static void check_script(const struct script *s, const struct party *p)
{
	assert_int_equal(p->payload.len, s->payload);
	assert_true(end_is_pattern(p->payload.data, p->payload.len, 0));
	assert_int_equal(p->mark_count, s->mark_count);
	for (size_t i = 0; i < s->mark_count; i++)
		assert_int_equal(p->marks[i], s->marks[i]);
	assert_int_equal(p->messages.len, s->messages.len);
	if (s->messages.len > 0)
		assert_memory_equal(p->messages.data, s->messages.data, s->messages.len);
}

/* The raw call ends its direction as the other side of ${side} does. */
static void raw_end(struct framed_rig *r, enum side side)
{
	const struct err ok = { .code = GRPC_OK };

	rpc_call_end(r->raw.call, side == SIDE_SERVER ? NULL : &ok);
}

/* And the framed one answers. */
static void party_end(struct framed_rig *r, enum side side)
{
	if (side == SIDE_CLIENT)
		framed_end(r->party.framed);
	else
		framed_finish(r->party.framed, NULL);
}

static bool has_ended(struct framed_rig *r)
{
	return r->party.ends > 0;
}

static void begin(struct framed_rig *r, enum side side)
{
	framed_rig_pair(r, side);
	framed_rig_until(r, is_begun);
}

static void finish(struct framed_rig *r, enum side side)
{
	raw_end(r, side);
	framed_rig_until(r, has_ended);
	party_end(r, side);
	framed_rig_until(r, is_raw_closed);
	assert_int_equal(r->party.why.code, GRPC_OK);
	assert_int_equal(r->party.overs, 1);
	assert_int_equal(r->party.has_status, side == SIDE_CLIENT);
}

/* A stream of everything, a byte at a time and in pieces of many sizes. */

static void write_all_kinds(struct script *s)
{
	static const size_t sizes[] = { 1, 0, 100, 127, 128, 129, 16383, 16384, 20000 };

	script_message(s, 0);
	script_message(s, 100);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		script_payload(s, sizes[i]);
		if (i % 2 == 1)
			script_message(s, (uint8_t)(sizes[i] % 97));
	}
	script_message(s, 2);
}

static size_t random_piece(uint32_t *dice, size_t max)
{
	*dice = *dice * 1664525 + 1013904223;
	return 1 + (*dice >> 8) % max;
}

static void send_cut(enum side side, const struct script *s, size_t max, uint32_t dice)
{
	struct framed_rig r;

	framed_rig_open(&r, NULL);
	begin(&r, side);
	for (size_t at = 0; at < s->wire.len;) {
		size_t n = max == 1 ? 1 : random_piece(&dice, max), left = s->wire.len - at;
		n = n < left ? n : left;
		raw_send(&r, s->wire.data + at, n);
		at += n;
	}
	finish(&r, side);
	check_script(s, &r.party);
	framed_rig_close(&r);
}

static void test_any_cut(void **state)
{
	struct script s = { 0 };

	(void)state;
	write_all_kinds(&s);
	for (size_t i = 0; i < SIDES; i++) {
		send_cut(sides[i], &s, SIZE_MAX >> 1, 1); /* whole */
		for (uint32_t seed = 1; seed <= 4; seed++)
			send_cut(sides[i], &s, 3000, seed);
	}
	script_free(&s);
	script_message(&s, 3);
	script_payload(&s, 5);
	script_payload(&s, 0);
	script_message(&s, 0);
	for (size_t i = 0; i < SIDES; i++)
		send_cut(sides[i], &s, 1, 0);
	script_free(&s);
}

/* Two ends: everything there and back, half-closes one after the other. */

static const size_t write_sizes[] = { 1, 0, 7, 200, 16384, 65536, MIB };

static void write_sizes_to(struct party *p)
{
	static const uint8_t message[] = { 3 << 3 | 2, 1, 'm' };

	for (size_t i = 0; i < sizeof(write_sizes) / sizeof(write_sizes[0]); i++) {
		party_write(p, FRAMED_BYTES, write_sizes[i]);
		assert_int_equal(framed_send(p->framed, message, sizeof(message)), 0);
	}
}

static void check_sizes(const struct party *p)
{
	size_t total = 0, i = 0;

	for (; i < sizeof(write_sizes) / sizeof(write_sizes[0]); i++) {
		total += write_sizes[i];
		assert_int_equal(p->marks[i], total);
	}
	assert_int_equal(p->mark_count, i);
	assert_int_equal(p->payload.len, total);
	assert_true(end_is_pattern(p->payload.data, total, 0));
}

static bool has_other_ended(struct framed_rig *r)
{
	return r->other.ends > 0;
}

/* The messages count as well: write_sizes_to() leaves them out of ${wrote}. */
static void check_sent(struct party *p)
{
	assert_int_equal(p->sent, p->wrote);
}

static void test_there_and_back(void **state)
{
	struct framed_rig r;
	const uint64_t messages = 3 * sizeof(write_sizes) / sizeof(write_sizes[0]);

	(void)state;
	framed_rig_open(&r, NULL);
	framed_rig_two(&r);
	write_sizes_to(&r.party);
	r.party.wrote += messages;
	framed_end(r.party.framed);
	assert_int_equal(framed_send(r.party.framed, "", 0), -1);
	framed_rig_until(&r, has_other_ended);
	assert_false(r.other.has_status);
	check_sizes(&r.other);
	write_sizes_to(&r.other);
	r.other.wrote += messages;
	framed_end(r.other.framed);
	framed_rig_until(&r, is_closed);
	check_sizes(&r.party);
	check_sent(&r.party);
	check_sent(&r.other);
	assert_int_equal(r.party.status.code, GRPC_OK);
	assert_int_equal(r.party.why.code, GRPC_OK);
	assert_int_equal(r.other.why.code, GRPC_OK);
	framed_rig_close(&r);
}

/* A service that has shut down its sending side still reads. */
static void test_server_ends_first(void **state)
{
	struct framed_rig r;

	(void)state;
	framed_rig_open(&r, NULL);
	framed_rig_two(&r);
	framed_rig_until(&r, is_begun);
	party_write(&r.other, FRAMED_BYTES, 10);
	framed_end(r.other.framed);
	framed_rig_until(&r, has_ended);
	assert_int_equal(r.party.status.code, GRPC_OK);
	party_write(&r.party, FRAMED_BYTES, 3 * MIB);
	framed_end(r.party.framed);
	framed_rig_until(&r, is_closed);
	assert_int_equal(r.other.payload.len, 3 * MIB);
	assert_int_equal(r.other.why.code, GRPC_OK);
	framed_rig_close(&r);
}

/* Credit. */

static bool is_stalled(struct framed_rig *r)
{
	return r->other.owed >= RPC_WINDOW / 2;
}

/* One who gives no credit gets a window's worth, and nobody's word that more has left. */
static void test_no_credit(void **state)
{
	struct framed_rig r;
	const size_t all = 4 * MIB;

	(void)state;
	framed_rig_open(&r, NULL);
	framed_rig_two(&r);
	framed_rig_until(&r, is_begun);
	r.other.hold = true;
	for (size_t i = 0; i < all; i += 100000)
		party_write(&r.party, FRAMED_BYTES, all - i < 100000 ? all - i : 100000);
	framed_end(r.party.framed);
	framed_rig_until(&r, is_stalled);
	framed_rig_run(&r, 50);
	assert_true(r.other.payload.len <= RPC_WINDOW);
	assert_int_equal(r.other.owed, r.other.payload.len);
	assert_true(r.party.sent <= RPC_WINDOW);
	r.other.hold = false;
	framed_credit(r.other.framed, r.other.owed);
	framed_rig_until(&r, has_other_ended);
	framed_finish(r.other.framed, NULL);
	framed_rig_until(&r, is_closed);
	assert_int_equal(r.other.payload.len, all);
	assert_int_equal(r.party.sent, all);
	framed_rig_close(&r);
}

/* The frames of tiny messages outweigh their content: their credit must not be lost. */
static void test_credit_of_frames(void **state)
{
	struct framed_rig r;
	const size_t count = 300000; /* more than two windows of frames */

	(void)state;
	framed_rig_open(&r, NULL);
	framed_rig_two(&r);
	framed_rig_until(&r, is_begun);
	for (size_t i = 0; i < count; i++)
		party_write(&r.party, FRAMED_BYTES, 1);
	framed_end(r.party.framed);
	framed_rig_until(&r, has_other_ended);
	assert_int_equal(r.other.payload.len, count);
	assert_true(end_is_pattern(r.other.payload.data, count, 0));
	framed_finish(r.other.framed, NULL);
	framed_rig_until(&r, is_closed);
	assert_int_equal(r.party.sent, count);
	framed_rig_close(&r);
}

/* What one owner sends is not told to the next, who knows nothing of it. */
static void test_new_owner(void **state)
{
	struct framed_rig r;
	static const uint8_t init[] = { 1 << 3 | 2, 4, 'i', 'n', 'i', 't' };

	(void)state;
	framed_rig_open(&r, NULL);
	begin(&r, SIDE_CHANNEL);
	assert_int_equal(framed_send(r.party.framed, init, sizeof(init)), 0);
	framed_bind(r.party.framed, &party_ops, &r.party);
	party_write(&r.party, FRAMED_BYTES, 10);
	finish(&r, SIDE_CHANNEL);
	assert_int_equal(r.party.sent, 10);
	assert_int_equal(r.raw.body.len, 5 + sizeof(init) + 5 + 2 + 10);
	assert_true(r.raw.has_status);
	framed_rig_close(&r);
}

/* Messages that do not fit are refused whole. */
static void test_queue_has_an_end(void **state)
{
	struct framed_rig r;
	struct block *b = block_new(FRAMED_MESSAGE_MAX + 1);
	struct slice s = slice_of(b, 0, FRAMED_MESSAGE_MAX + 1);

	(void)state;
	memset(block_data(b), 0, FRAMED_MESSAGE_MAX + 1);
	framed_rig_open(&r, NULL);
	framed_rig_two(&r);
	assert_int_equal(framed_write(r.party.framed, FRAMED_BYTES, s), -1);
	s.len = MIB;
	size_t taken = 0;
	for (; framed_write(r.party.framed, FRAMED_BYTES, slice_dup(&s)) == 0; taken++)
		assert_true(framed_queued(r.party.framed) <= RPC_CALL_QUEUE_MAX);
	block_unref(b); /* of the one not taken */
	assert_int_equal(taken, RPC_CALL_QUEUE_MAX / MIB - 1);
	r.party.wrote = taken * MIB;
	framed_end(r.party.framed);
	framed_rig_until(&r, has_other_ended);
	assert_int_equal(r.other.payload.len, taken * MIB);
	framed_finish(r.other.framed, NULL);
	framed_rig_until(&r, is_closed);
	assert_int_equal(r.party.sent, taken * MIB);
	slice_release(&s);
	assert_true(block_is_unshared(b));
	block_unref(b);
	framed_rig_close(&r);
}

/* Endings. */

/* Nothing but the own direction's end is missing to those who serve: a status that is not
 * OK ends a client's call both ways. */
static void test_bad_status(void **state)
{
	struct framed_rig r;

	(void)state;
	framed_rig_open(&r, NULL);
	begin(&r, SIDE_CLIENT);
	party_write(&r.party, FRAMED_BYTES, 100);
	rpc_call_end(r.raw.call, &test_err);
	framed_rig_until(&r, is_raw_closed);
	assert_int_equal(r.party.ends, 1);
	assert_int_equal(r.party.status.code, GRPC_ABORTED);
	assert_string_equal(r.party.status.text, test_err.text);
	assert_int_equal(r.party.why.code, GRPC_ABORTED);
	framed_rig_close(&r);
}

static void test_finish_drops_what_comes(void **state)
{
	static const enum side serving[] = { SIDE_SERVER, SIDE_CHANNEL };
	struct script s = { 0 };

	(void)state;
	script_payload(&s, 50000);
	for (size_t i = 0; i < 2; i++) {
		struct framed_rig r;
		framed_rig_open(&r, NULL);
		begin(&r, serving[i]);
		raw_send(&r, s.wire.data, 10);
		party_write(&r.party, FRAMED_BYTES, 70000);
		framed_finish(r.party.framed, &test_err);
		framed_finish(r.party.framed, NULL);
		framed_end(r.party.framed);
		assert_int_equal(framed_send(r.party.framed, "", 0), -1);
		for (size_t at = 10; at < s.wire.len && r.raw.call != NULL; at += 1000)
			(void)rpc_call_copy(r.raw.call, s.wire.data + at, 10);
		framed_rig_until(&r, is_raw_closed);
		assert_int_equal(r.raw.status.code, GRPC_ABORTED);
		assert_int_equal(r.party.ends, 0);
		assert_int_equal(r.party.sent, 70000);
		assert_true(r.raw.body.len > 70000);
		framed_rig_close(&r);
	}
	script_free(&s);
}

/* The gateway that ends a channel with a bad status has no more use for it. */
static void test_channel_is_ended_by_the_gateway(void **state)
{
	struct framed_rig r;

	(void)state;
	framed_rig_open(&r, NULL);
	begin(&r, SIDE_CHANNEL);
	rpc_call_end(r.raw.call, &test_err);
	framed_rig_until(&r, is_raw_closed);
	assert_int_equal(r.party.ends, 0);
	assert_int_equal(r.party.why.code, GRPC_ABORTED);
	assert_int_equal(r.party.overs, 1);
	framed_rig_close(&r);
}

static void test_peer_resets(void **state)
{
	(void)state;
	for (size_t i = 0; i < SIDES; i++) {
		struct framed_rig r;
		framed_rig_open(&r, NULL);
		begin(&r, sides[i]);
		rpc_call_cancel(r.raw.call, &test_err);
		r.raw.call = NULL;
		framed_rig_until(&r, is_closed);
		assert_int_equal(r.party.overs, 1);
		assert_int_not_equal(r.party.why.code, GRPC_OK);
		framed_rig_close(&r);
	}
}

static void test_connection_lost(void **state)
{
	struct framed_rig r;

	(void)state;
	framed_rig_open(&r, NULL);
	framed_rig_two(&r);
	framed_rig_until(&r, is_begun);
	party_write(&r.other, FRAMED_BYTES, 5 * MIB / 2);
	rpc_client_close(r.client);
	framed_rig_until(&r, is_closed);
	assert_int_equal(r.party.why.code, GRPC_CANCELLED);
	assert_int_equal(r.other.why.code, GRPC_UNAVAILABLE);
	framed_rig_close(&r);
}

/* Cancelled or finished from inside each callback: nothing is told after, nothing leaks. */
static void test_ending_in_callbacks(void **state)
{
	struct script s = { 0 };

	(void)state;
	script_message(&s, 3);
	for (int i = 0; i < 20; i++)
		script_payload(&s, 3000);
	for (size_t i = 0; i < SIDES; i++) {
		for (int place = PLACE_PAYLOAD; place <= PLACE_SENT; place++) {
			for (int finishes = 0; finishes <= (sides[i] != SIDE_CLIENT); finishes++) {
				struct framed_rig r;
				framed_rig_open(&r, NULL);
				begin(&r, sides[i]);
				r.party.place = (enum place)place;
				r.party.finishes = finishes;
				party_write(&r.party, FRAMED_BYTES, 200);
				(void)rpc_call_copy(r.raw.call, s.wire.data, s.wire.len);
				raw_end(&r, sides[i]);
				framed_rig_until(&r, is_raw_closed);
				assert_int_equal(r.party.overs, 1);
				assert_int_equal(r.party.closeds, finishes);
				framed_rig_close(&r);
			}
		}
	}
	script_free(&s);
}

/* Bad input. */

/* Sends ${wire}, and expects the party to end with ${code}, and to tell the peer so. */
static void refused(enum side side, const struct framed_options *options, const struct bytes *wire,
    bool end, enum grpc_code code)
{
	struct framed_rig r;

	framed_rig_open(&r, options);
	begin(&r, side);
	assert_int_equal(rpc_call_copy(r.raw.call, wire->data, wire->len), 0);
	if (end)
		raw_end(&r, side);
	framed_rig_until(&r, is_raw_closed);
	assert_int_equal(r.party.ends, 0);
	assert_int_equal(r.party.why.code, code);
	if (side != SIDE_CLIENT)
		assert_int_equal(r.raw.status.code, code);
	framed_rig_close(&r);
}

/* Whatever is said before an end in the middle of a message, it is no good end. */
static void test_truncated(void **state)
{
	struct script s = { 0 };

	(void)state;
	script_payload(&s, 3);
	size_t whole = s.wire.len;
	script_message(&s, 2);
	for (size_t i = 0; i < SIDES; i++) {
		for (size_t len = 1; len < s.wire.len; len++) {
			const struct bytes cut = { s.wire.data, len, 0 };
			if (len != whole)
				refused(sides[i], NULL, &cut, true,
				    sides[i] == SIDE_CLIENT ? GRPC_DATA_LOSS
							    : GRPC_INVALID_ARGUMENT);
		}
	}
	script_free(&s);
}

/* A bad status says more than the truncation it came with. */
static void test_truncated_with_a_status(void **state)
{
	struct framed_rig r;

	(void)state;
	framed_rig_open(&r, NULL);
	begin(&r, SIDE_CLIENT);
	assert_int_equal(rpc_call_copy(r.raw.call, "\0\0\0", 3), 0);
	rpc_call_finish(r.raw.call, &test_err);
	framed_rig_until(&r, is_raw_closed);
	assert_int_equal(r.party.ends, 1);
	assert_int_equal(r.party.status.code, GRPC_ABORTED);
	framed_rig_close(&r);
}

static void test_bad_messages(void **state)
{
	static const struct {
		const char *what;
		size_t len;
		enum grpc_code code;
	} cases[] = {
		{ "\0\0\0\0\6\x0a\1x\x12\1y", 11, GRPC_INVALID_ARGUMENT }, /* init and data */
		{ "\0\0\0\0\6\x12\1y\x0a\1x", 11, GRPC_INVALID_ARGUMENT }, /* data and init */
		{ "\0\0\0\0\6\x12\1y\x12\1y", 11, GRPC_INVALID_ARGUMENT }, /* data twice */
		{ "\0\0\0\0\3\x12\2y", 8, GRPC_INVALID_ARGUMENT },         /* more than there is */
		{ "\1\0\0\0\0", 5, GRPC_UNIMPLEMENTED },                   /* compressed */
		{ "\2\0\0\0\0", 5, GRPC_INTERNAL },                        /* no flag at all */
		{ "\0\xff\xff\xff\xff", 5, GRPC_RESOURCE_EXHAUSTED },
	};

	(void)state;
	for (size_t i = 0; i < SIDES; i++) {
		for (size_t n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
			const struct bytes wire = { (uint8_t *)cases[n].what, cases[n].len, 0 };
			refused(sides[i], NULL, &wire, false, cases[n].code);
		}
	}
}

static void test_limits(void **state)
{
	const struct framed_options small = { .max_structured = 100 };
	struct script s = { 0 };

	(void)state;
	script_message(&s, 98);
	script_payload(&s, 500); /* these have no such limit */
	script_message(&s, 99);
	for (size_t i = 0; i < SIDES; i++)
		refused(sides[i], &small, &s.wire, false, GRPC_RESOURCE_EXHAUSTED);
	script_free(&s);
}

/* Nobody asked for it: bytes in a call that takes none, messages in one that takes bytes. */
static void test_what_is_not_taken(void **state)
{
	static const enum side serving[] = { SIDE_SERVER, SIDE_CHANNEL };
	const uint8_t message[] = { 3 << 3 | 2, 1, 'm' };

	(void)state;
	for (int what = 0; what < 2; what++) {
		for (size_t i = 0; i < 2; i++) {
			struct framed_ops ops = party_ops;
			struct framed_rig r;
			struct script s = { 0 };
			ops.payload = what == 0 ? NULL : ops.payload;
			ops.message = what == 1 ? NULL : ops.message;
			framed_rig_open(&r, NULL);
			begin(&r, serving[i]);
			framed_bind(r.party.framed, &ops, &r.party);
			script_bytes(&s, "", 0); /* says nothing, and means none */
			if (what == 0)
				script_payload(&s, 1);
			else
				script_bytes(&s, message, sizeof(message));
			raw_send(&r, s.wire.data, s.wire.len);
			framed_rig_until(&r, is_raw_closed);
			assert_int_equal(r.raw.status.code, GRPC_INVALID_ARGUMENT);
			assert_int_equal(r.party.why.code, GRPC_INVALID_ARGUMENT);
			script_free(&s);
			framed_rig_close(&r);
		}
	}
}

/* Other shapes. */

static void test_whole(void **state)
{
	const struct framed_options whole = { .whole = true };
	struct script s = { 0 };

	(void)state;
	script_payload(&s, 100);
	script_message(&s, 3);
	for (size_t i = 0; i < SIDES; i++) {
		struct framed_rig r;
		framed_rig_open(&r, &whole);
		begin(&r, sides[i]);
		raw_send(&r, s.wire.data, s.wire.len);
		finish(&r, sides[i]);
		assert_int_equal(r.party.payload.len, 0);
		assert_int_equal(r.party.mark_count, 2);
		assert_int_equal(r.party.messages.data[0], 102); /* key, length, bytes */
		assert_memory_equal(r.party.messages.data + 1, s.wire.data + 5, 102);
		framed_rig_close(&r);
	}
	script_free(&s);
}

static void test_nested_field(void **state)
{
	const struct framed_field err_data = { 2, 1 };
	struct frame_decoder d;
	struct frame_event ev;
	struct framed_rig r;
	size_t at = 0, payload = 0;

	(void)state;
	framed_rig_open(&r, NULL);
	begin(&r, SIDE_SERVER);
	party_write(&r.party, err_data, 70000);
	framed_finish(r.party.framed, NULL);
	framed_rig_until(&r, is_raw_closed);
	frame_decoder_init(&d, FRAME_SHAPE_EVENT, MIB, 100);
	do {
		at += frame_decoder_feed(&d, r.raw.body.data + at, r.raw.body.len - at, &ev);
		assert_int_not_equal(ev.kind, FRAME_ERROR);
		if (ev.kind != FRAME_PAYLOAD)
			continue;
		assert_int_equal(ev.field, 2);
		assert_true(end_is_pattern(ev.data, ev.len, payload));
		payload += ev.len;
	} while (ev.kind != FRAME_NONE);
	assert_int_equal(payload, 70000);
	frame_decoder_free(&d);
	framed_rig_close(&r);
}

static void test_events(void **state)
{
	const struct framed_options event = { .event = true };
	const struct framed_field stdout_data = { 1, 1 }, stderr_data = { 2, 1 };
	static const uint8_t exit_event[] = { 0x1a, 0x02, 0x08, 0x07 };
	struct framed_rig r;

	(void)state;
	framed_rig_open(&r, &event);
	framed_rig_two(&r);
	framed_rig_until(&r, is_begun);
	party_write(&r.other, stdout_data, 70000);
	framed_rig_run(&r, 50);
	assert_int_equal(r.party.payload.len, 70000);
	assert_int_equal(framed_payload_field(r.party.framed), 1);
	party_write(&r.other, stderr_data, 10);
	framed_rig_run(&r, 50);
	assert_int_equal(framed_payload_field(r.party.framed), 2);
	assert_int_equal(framed_send(r.other.framed, exit_event, sizeof(exit_event)), 0);
	r.other.wrote += sizeof(exit_event);
	framed_finish(r.other.framed, NULL);
	framed_end(r.party.framed);
	framed_rig_until(&r, is_closed);
	assert_int_equal(r.party.payload.len, 70010);
	assert_int_equal(r.party.messages.data[0], sizeof(exit_event));
	assert_memory_equal(r.party.messages.data + 1, exit_event, sizeof(exit_event));
	framed_rig_close(&r);
}

/* The dialer has told the owner of a half-close already. */
static void test_end_is_known(void **state)
{
	struct framed_rig r;

	(void)state;
	framed_rig_open(&r, NULL);
	begin(&r, SIDE_CHANNEL);
	framed_forgo_end(r.party.framed);
	raw_end(&r, SIDE_CHANNEL);
	framed_rig_run(&r, 10);
	assert_int_equal(r.party.ends, 0);
	framed_finish(r.party.framed, NULL);
	framed_rig_until(&r, is_raw_closed);
	assert_int_equal(r.party.why.code, GRPC_OK);
	framed_rig_close(&r);
}

static void test_deadline(void **state)
{
	struct framed_rig r;
	struct rpc_client_call call = { .path = "/test.Framed/Raw", .timeout_ms = 20 };

	(void)state;
	framed_rig_open(&r, NULL);
	r.party.framed = framed_call(r.client, &call, NULL, &party_ops, &r.party, NULL);
	assert_true(framed_time_left_ms(r.party.framed) <= 20);
	assert_ptr_equal(framed_loop(r.party.framed), r.loop);
	framed_rig_until(&r, is_raw_closed);
	assert_int_equal(r.party.why.code, GRPC_DEADLINE_EXCEEDED);
	framed_rig_close(&r);
}

#define framed_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		framed_test(test_any_cut),
		framed_test(test_there_and_back),
		framed_test(test_server_ends_first),
		framed_test(test_no_credit),
		framed_test(test_credit_of_frames),
		framed_test(test_new_owner),
		framed_test(test_queue_has_an_end),
		framed_test(test_bad_status),
		framed_test(test_finish_drops_what_comes),
		framed_test(test_channel_is_ended_by_the_gateway),
		framed_test(test_peer_resets),
		framed_test(test_connection_lost),
		framed_test(test_ending_in_callbacks),
		framed_test(test_truncated),
		framed_test(test_truncated_with_a_status),
		framed_test(test_bad_messages),
		framed_test(test_limits),
		framed_test(test_what_is_not_taken),
		framed_test(test_whole),
		framed_test(test_nested_field),
		framed_test(test_events),
		framed_test(test_end_is_known),
		framed_test(test_deadline),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
