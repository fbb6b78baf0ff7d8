/* Messages out of slices: every cut, every refusal, bounded memory. */
#include "rpc/reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/call.h"

#define MAX_MESSAGE 1000

static struct slice frame(uint8_t flag, uint32_t announced, const void *bytes, size_t len)
{
	struct block *block = block_new(RPC_PREFIX_SIZE + len);
	uint8_t *p;
	struct slice s;

	assert_non_null(block);
	p = block_data(block);
	p[0] = flag;
	p[1] = (uint8_t)(announced >> 24);
	p[2] = (uint8_t)(announced >> 16);
	p[3] = (uint8_t)(announced >> 8);
	p[4] = (uint8_t)announced;
	if (len > 0)
		memcpy(p + RPC_PREFIX_SIZE, bytes, len);
	s = slice_of(block, 0, RPC_PREFIX_SIZE + len);
	block_unref(block);
	return s;
}

static struct slice message_of(const char *text)
{
	return frame(0, (uint32_t)strlen(text), text, strlen(text));
}

static void push(struct rpc_reader *r, struct slice s)
{
	struct err err = { 0 };

	assert_int_equal(rpc_reader_push(r, s, &err), 0);
}

static void assert_next(struct rpc_reader *r, const char *text)
{
	const uint8_t *message;
	struct err err = { 0 };
	size_t len;

	assert_int_equal(rpc_reader_next(r, &message, &len, &err), 1);
	assert_int_equal(len, strlen(text));
	assert_memory_equal(message, text, len);
}

static void assert_none(struct rpc_reader *r)
{
	const uint8_t *message;
	struct err err = { 0 };
	size_t len;

	assert_int_equal(rpc_reader_next(r, &message, &len, &err), 0);
}

static void a_message_in_one_slice_is_not_copied(void **state)
{
	struct rpc_reader r;
	struct slice s = message_of("hello");
	const uint8_t *where = s.data, *message;
	size_t len;

	(void)state;
	rpc_reader_init(&r, MAX_MESSAGE);
	push(&r, s);
	assert_int_equal(rpc_reader_next(&r, &message, &len, NULL), 1);
	assert_ptr_equal(message, where + RPC_PREFIX_SIZE);
	assert_int_equal(len, 5);
	assert_none(&r);
	assert_false(rpc_reader_is_partial(&r));
	rpc_reader_free(&r);
}

static void messages_come_in_order_from_one_slice(void **state)
{
	static const char text[] = "\0\0\0\0\3one\0\0\0\0\0\0\0\0\0\5three\0\0\0\0\3two";
	struct rpc_reader r;

	(void)state;
	rpc_reader_init(&r, MAX_MESSAGE);
	push(&r, slice_copy(text, sizeof(text) - 1));
	assert_next(&r, "one");
	assert_next(&r, "");
	assert_next(&r, "three");
	assert_true(rpc_reader_is_partial(&r));
	assert_next(&r, "two");
	assert_none(&r);
	rpc_reader_free(&r);
}

static void an_end_amid_a_message_shows(void **state)
{
	struct slice whole = message_of("hello");

	(void)state;
	for (size_t cut = 0; cut <= whole.len; cut++) {
		struct rpc_reader r;

		rpc_reader_init(&r, MAX_MESSAGE);
		push(&r, slice_sub(&whole, 0, cut));
		if (cut < whole.len)
			assert_none(&r);
		else
			assert_next(&r, "hello");
		assert_int_equal(rpc_reader_is_partial(&r), cut > 0 && cut < whole.len);
		rpc_reader_free(&r);
	}
	slice_release(&whole);
}

static int read_error(struct slice s, struct err *err)
{
	struct rpc_reader r;
	const uint8_t *message;
	size_t len;
	int first, again;

	rpc_reader_init(&r, MAX_MESSAGE);
	push(&r, s);
	first = rpc_reader_next(&r, &message, &len, err);
	again = rpc_reader_next(&r, &message, &len, NULL);
	assert_int_equal(first, again);
	rpc_reader_free(&r);
	return first;
}

static void what_cannot_be_read_is_an_error_that_stays(void **state)
{
	struct err err = { 0 };

	(void)state;
	assert_int_equal(read_error(frame(1, 0, "", 0), &err), -1);
	assert_int_equal(err.code, GRPC_UNIMPLEMENTED);
	assert_int_equal(read_error(frame(2, 0, "", 0), &err), -1);
	assert_int_equal(err.code, GRPC_INTERNAL);
	assert_int_equal(read_error(frame(0, MAX_MESSAGE + 1, "", 0), &err), -1);
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	assert_non_null(strstr(err.text, "1001"));
	assert_non_null(strstr(err.text, "1000"));
	assert_int_equal(read_error(frame(0, UINT32_MAX, "", 0), &err), -1);
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	assert_int_equal(read_error(frame(0, MAX_MESSAGE, "", 0), &err), 0);
}

static void an_announced_length_takes_no_memory(void **state)
{
	struct rpc_reader r;

	(void)state;
	rpc_reader_init(&r, UINT32_MAX);
	push(&r, frame(0, UINT32_MAX, "abc", 3));
	assert_none(&r);
	assert_true(r.cap <= 4096);
	assert_int_equal(r.filled, 3);
	rpc_reader_free(&r);
}

static void a_partial_message_holds_no_block(void **state)
{
	struct pool *pool = pool_create(4096, 4);
	struct block *block = block_get(pool);
	struct pool_stats stats;
	struct rpc_reader r;
	static const uint8_t head[] = { 0, 0, 0, 1, 0, 'a' };

	(void)state;
	rpc_reader_init(&r, MAX_MESSAGE);
	for (size_t len = 1; len <= sizeof(head); len++) {
		memcpy(block_data(block), head, sizeof(head));
		push(&r, slice_of(block, len - 1, 1));
		assert_none(&r);
		assert_true(block_is_unshared(block));
	}
	block_unref(block);
	pool_stats(pool, &stats);
	assert_int_equal(stats.live, 0);
	rpc_reader_free(&r);
	pool_free(pool);
}

static void an_idle_reader_holds_no_memory(void **state)
{
	struct slice whole = message_of("hello");
	struct rpc_reader r;

	(void)state;
	rpc_reader_init(&r, MAX_MESSAGE);
	push(&r, slice_sub(&whole, 0, 7));
	push(&r, slice_sub(&whole, 7, 3));
	assert_next(&r, "hello");
	assert_none(&r);
	assert_null(r.message);
	slice_release(&whole);
	rpc_reader_free(&r);
}

static void more_than_a_message_and_a_window_is_refused(void **state)
{
	struct rpc_reader r;
	struct err err = { 0 };
	uint8_t *bytes = calloc(1, RPC_WINDOW_MAX);

	(void)state;
	assert_non_null(bytes);
	rpc_reader_init(&r, MAX_MESSAGE);
	push(&r, slice_copy(bytes, RPC_WINDOW_MAX));
	push(&r, slice_copy(bytes, MAX_MESSAGE));
	push(&r, slice_copy(bytes, RPC_PREFIX_SIZE));
	assert_int_equal(rpc_reader_push(&r, slice_copy(bytes, 1), &err), -1);
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	assert_next(&r, "");
	push(&r, slice_copy(bytes, RPC_PREFIX_SIZE));
	free(bytes);
	rpc_reader_free(&r);
}

/* A peer that sends single bytes to an application that does not read. */
static void tiny_slices_are_made_one(void **state)
{
	struct rpc_reader r;
	size_t messages = 0;
	const uint8_t *message;
	size_t len;

	(void)state;
	rpc_reader_init(&r, MAX_MESSAGE);
	for (int i = 0; i < 20000; i++) {
		push(&r, slice_copy("", 1));
		assert_true(r.queue.count <= 1024);
	}
	while (rpc_reader_next(&r, &message, &len, NULL) == 1)
		messages++;
	assert_int_equal(messages, 4000);
	rpc_reader_free(&r);
}

static void collect(struct bufq *from, char *out, size_t size)
{
	size_t n = 0;

	while (from->bytes > 0) {
		struct slice s = bufq_pop(from, size);

		assert_true(n + s.len < size);
		memcpy(out + n, s.data, s.len);
		n += s.len;
		slice_release(&s);
	}
	out[n] = '\0';
}

/* Whatever has been looked at already, the rest is what was not read out. */
static void the_rest_is_what_was_not_read(void **state)
{
	static const char text[] = "\0\0\0\0\3one\0\0\0\0\3two!!";
	char got[64];

	(void)state;
	for (size_t pushed = 8; pushed < sizeof(text); pushed++) {
		struct rpc_reader r;
		struct bufq to;

		rpc_reader_init(&r, MAX_MESSAGE);
		bufq_init(&to, 64, 64);
		for (size_t i = 0; i < pushed; i++)
			push(&r, slice_copy(text + i, 1));
		assert_next(&r, "one");
		if (pushed < 16)
			assert_none(&r);
		assert_int_equal(rpc_reader_rest(&r, &to), 0);
		assert_int_equal(to.bytes, pushed - 8);
		collect(&to, got, sizeof(got));
		assert_memory_equal(got, text + 8, pushed - 8);
		assert_false(rpc_reader_is_partial(&r));
		bufq_free(&to);
		rpc_reader_free(&r);
	}
}

static void a_rest_that_does_not_fit_stays(void **state)
{
	struct slice whole = message_of("hello");
	struct rpc_reader r;
	struct bufq small;

	(void)state;
	rpc_reader_init(&r, MAX_MESSAGE);
	bufq_init(&small, 8, 4);
	push(&r, slice_sub(&whole, 0, 7));
	assert_none(&r);
	assert_int_equal(rpc_reader_rest(&r, &small), -1);
	assert_int_equal(small.bytes, 0);
	push(&r, slice_sub(&whole, 7, 3));
	assert_next(&r, "hello");
	bufq_free(&small);
	slice_release(&whole);
	rpc_reader_free(&r);
}

/* Numbers that are the same in every run (xorshift). */
static size_t roll(uint32_t *dice, size_t below)
{
	*dice ^= *dice << 13;
	*dice ^= *dice >> 17;
	*dice ^= *dice << 5;
	return *dice % below;
}

static size_t build_stream(uint32_t *dice, uint8_t *out, size_t count)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		size_t len = roll(dice, i % 5 == 0 ? MAX_MESSAGE + 1 : 20);

		out[n++] = 0;
		out[n++] = 0;
		out[n++] = 0;
		out[n++] = (uint8_t)(len >> 8);
		out[n++] = (uint8_t)len;
		memset(out + n, (int)(i + len), len);
		n += len;
	}
	return n;
}

static size_t check_messages(struct rpc_reader *r, size_t i)
{
	const uint8_t *message;
	size_t len;
	int result;

	while ((result = rpc_reader_next(r, &message, &len, NULL)) == 1) {
		for (size_t k = 0; k < len; k++)
			assert_int_equal(message[k], (uint8_t)(i + len));
		i++;
	}
	assert_int_equal(result, 0);
	return i;
}

static void cuts_do_not_matter(void **state)
{
	const size_t messages = 50;
	uint32_t dice = 1;
	uint8_t *stream = malloc(messages * (RPC_PREFIX_SIZE + MAX_MESSAGE));

	(void)state;
	assert_non_null(stream);
	for (int round = 0; round < 300; round++) {
		size_t len = build_stream(&dice, stream, messages), at = 0, seen = 0;
		size_t most = (size_t)1 << roll(&dice, 13);
		struct rpc_reader r;

		rpc_reader_init(&r, MAX_MESSAGE);
		while (at < len) {
			size_t piece = 1 + roll(&dice, most);

			if (piece > len - at)
				piece = len - at;
			push(&r, slice_copy(stream + at, piece));
			at += piece;
			if (roll(&dice, 3) == 0)
				seen = check_messages(&r, seen);
		}
		assert_int_equal(check_messages(&r, seen), messages);
		assert_false(rpc_reader_is_partial(&r));
		rpc_reader_free(&r);
	}
	free(stream);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_in_one_slice_is_not_copied),
		cmocka_unit_test(messages_come_in_order_from_one_slice),
		cmocka_unit_test(an_end_amid_a_message_shows),
		cmocka_unit_test(what_cannot_be_read_is_an_error_that_stays),
		cmocka_unit_test(an_announced_length_takes_no_memory),
		cmocka_unit_test(a_partial_message_holds_no_block),
		cmocka_unit_test(an_idle_reader_holds_no_memory),
		cmocka_unit_test(more_than_a_message_and_a_window_is_refused),
		cmocka_unit_test(tiny_slices_are_made_one),
		cmocka_unit_test(the_rest_is_what_was_not_read),
		cmocka_unit_test(a_rest_that_does_not_fit_stays),
		cmocka_unit_test(cuts_do_not_matter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
