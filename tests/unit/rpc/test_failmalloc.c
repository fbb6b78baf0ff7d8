/* Metadata and messages with each allocation failing in turn: an error, never a crash, a leak
 * or half a result. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/meta.h"
#include "rpc/meta_wire.h"
#include "rpc/reader.h"
#include "support/alloc.h"

#define MAX_MESSAGE 20000

/* An error has a code, and comes only when memory was refused. */
static void assert_out_of_memory(const struct err *err)
{
	assert_true(alloc_has_failed());
	assert_int_equal(err->code, GRPC_RESOURCE_EXHAUSTED);
}

static int fill(struct rpc_meta *meta, struct err *err)
{
	static const uint8_t bytes[] = { 0, 1, 2, 3 };

	for (int i = 0; i < 9; i++) {
		char value[24];

		snprintf(value, sizeof(value), "value %d", i);
		if (rpc_meta_add_text(meta, "text", value, err) < 0 ||
		    rpc_meta_add(meta, "bytes-bin", bytes, sizeof(bytes), err) < 0)
			return -1;
	}
	return 0;
}

static void add_metadata(void *cookie)
{
	struct rpc_meta meta;
	struct err err = { 0 };

	(void)cookie;
	rpc_meta_init(&meta);
	if (fill(&meta, &err) < 0)
		assert_out_of_memory(&err);
	else
		assert_int_equal(meta.count, 18);
	for (size_t i = 0; i < meta.count; i++)
		assert_string_equal(meta.items[i].name, i % 2 ? "bytes-bin" : "text");
	rpc_meta_free(&meta);
}

static int cross_the_wire(struct rpc_meta *from, struct rpc_meta *to, struct err *err)
{
	struct meta_wire wire;
	struct meta_field field;
	int result = 0;

	if (meta_wire_begin(&wire, from, err) < 0)
		return -1;
	while (result == 0 && meta_wire_next(&wire, &field))
		result = meta_from_wire(to, &field, err);
	meta_wire_end(&wire);
	return result;
}

static void send_metadata(void *cookie)
{
	struct rpc_meta from, to;
	struct err err = { 0 };

	(void)cookie;
	rpc_meta_init(&from);
	rpc_meta_init(&to);
	if (fill(&from, &err) < 0 || cross_the_wire(&from, &to, &err) < 0)
		assert_out_of_memory(&err);
	else
		assert_int_equal(to.count, from.count);
	rpc_meta_free(&from);
	rpc_meta_free(&to);
}

/* One message in pieces, with the reader asked after each. 1: it came. */
static int read_in_pieces(struct rpc_reader *r, const uint8_t *body, size_t len, struct err *err)
{
	const uint8_t *message;
	size_t got, piece = 1777;
	int result = 0;

	for (size_t at = 0; at < len && result == 0; at += piece) {
		struct slice s = slice_copy(body + at, piece < len - at ? piece : len - at);

		if (s.owner == NULL)
			return err_set(err, GRPC_RESOURCE_EXHAUSTED, "no memory for the test");
		if (rpc_reader_push(r, s, err) < 0)
			return -1;
		result = rpc_reader_next(r, &message, &got, err);
	}
	if (result == 1) {
		assert_int_equal(got, len - RPC_PREFIX_SIZE);
		assert_memory_equal(message, body + RPC_PREFIX_SIZE, got);
	}
	return result;
}

static void read_message(void *cookie)
{
	static uint8_t body[RPC_PREFIX_SIZE + MAX_MESSAGE];
	struct rpc_reader r;
	struct err err = { 0 };

	(void)cookie;
	memset(body, 'm', sizeof(body));
	memset(body, 0, 3);
	body[3] = MAX_MESSAGE >> 8;
	body[4] = MAX_MESSAGE & 0xff;
	rpc_reader_init(&r, MAX_MESSAGE);
	if (read_in_pieces(&r, body, sizeof(body), &err) != 1)
		assert_out_of_memory(&err);
	rpc_reader_free(&r);
}

/* A peer that sends single bytes nobody reads, until they are made one slice. */
static void queue_tiny_slices(void *cookie)
{
	static const uint8_t zero;
	struct rpc_reader r;
	struct err err = { 0 };
	int result = 0;

	(void)cookie;
	rpc_reader_init(&r, MAX_MESSAGE);
	for (int i = 0; i < 1100 && result == 0; i++)
		result = rpc_reader_push(&r, (struct slice){ .data = &zero, .len = 1 }, &err);
	if (result < 0)
		assert_out_of_memory(&err);
	else
		assert_int_equal(r.queue.bytes, 1100);
	rpc_reader_free(&r);
}

/* What does not move stays, and can be moved later. */
static void move_the_rest(void *cookie)
{
	static const uint8_t body[] = { 0, 0, 0, 0, 9, 'a', 'b', 'c' };
	struct rpc_reader r;
	struct bufq to;
	struct err err = { 0 };
	const uint8_t *message;
	size_t len;

	(void)cookie;
	rpc_reader_init(&r, MAX_MESSAGE);
	bufq_init(&to, 16, 64);
	if (rpc_reader_push(&r, (struct slice){ .data = body, .len = sizeof(body) }, &err) < 0 ||
	    rpc_reader_next(&r, &message, &len, &err) < 0) {
		assert_out_of_memory(&err);
	} else if (rpc_reader_rest(&r, &to) < 0) {
		assert_true(alloc_has_failed());
		assert_int_equal(to.bytes, 0);
		assert_true(rpc_reader_is_partial(&r));
	} else {
		assert_int_equal(to.bytes, sizeof(body));
		assert_false(rpc_reader_is_partial(&r));
	}
	bufq_free(&to);
	rpc_reader_free(&r);
}

static void torture(void **state)
{
	alloc_torture(*(void (**)(void *)) * state, NULL);
}

int main(void)
{
	static void (*bodies[])(void *) = {
		add_metadata,
		send_metadata,
		read_message,
		queue_tiny_slices,
		move_the_rest,
	};
	const struct CMUnitTest tests[] = {
		{ "add_metadata", torture, NULL, NULL, &bodies[0] },
		{ "send_metadata", torture, NULL, NULL, &bodies[1] },
		{ "read_message", torture, NULL, NULL, &bodies[2] },
		{ "queue_tiny_slices", torture, NULL, NULL, &bodies[3] },
		{ "move_the_rest", torture, NULL, NULL, &bodies[4] },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
