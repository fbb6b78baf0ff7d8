/* The bounded queue of slices: its limits, and the same bytes out as in. */
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "deaths.h"
#include "leaks.h"

static struct slice view(const char *text)
{
	return (struct slice){ .data = (const uint8_t *)text, .len = strlen(text) };
}

/* All that is queued, as text. */
static const char *content(const struct bufq *q)
{
	static char text[256];
	struct iovec iov[64];
	size_t n = bufq_peek(q, iov, 64, SIZE_MAX), len = 0;

	for (size_t i = 0; i < n; i++) {
		assert_true(len + iov[i].iov_len < sizeof(text));
		memcpy(text + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	text[len] = '\0';
	assert_int_equal(len, q->bytes);
	return text;
}

static void test_first_in_first_out(void **state)
{
	struct bufq q;
	struct slice s;

	(void)state;
	bufq_init(&q, 10, 100);
	assert_null(q.ring);
	assert_null(bufq_pop(&q, 5).data);
	assert_int_equal(bufq_push(&q, view("abc")), 0);
	assert_int_equal(bufq_push(&q, slice_copy("defg", 4)), 0);
	assert_string_equal(content(&q), "abcdefg");
	assert_int_equal(bufq_pop(&q, 0).len, 0);
	s = bufq_pop(&q, 2);
	assert_int_equal(s.len, 2);
	assert_memory_equal(s.data, "ab", 2);
	s = bufq_pop(&q, 100);
	assert_int_equal(s.len, 1); /* one slice at a time */
	s = bufq_pop(&q, 2);
	assert_memory_equal(s.data, "de", 2);
	slice_release(&s);
	assert_string_equal(content(&q), "fg");
	bufq_free(&q);
	bufq_free(&q);
	assert_int_equal(q.bytes, 0);
	assert_int_equal(bufq_push(&q, view("again")), 0);
	assert_string_equal(content(&q), "again");
	bufq_free(&q);
}

static void test_limit_of_bytes(void **state)
{
	struct bufq q;

	(void)state;
	bufq_init(&q, 10, 8);
	assert_false(bufq_full(&q, 8));
	assert_true(bufq_full(&q, 9));
	assert_true(bufq_full(&q, SIZE_MAX));
	assert_int_equal(bufq_push(&q, view("123456789")), -1);
	assert_int_equal(bufq_push(&q, view("12345")), 0);
	assert_int_equal(bufq_push(&q, view("6789")), -1);
	assert_int_equal(bufq_push(&q, view("678")), 0);
	assert_int_equal(bufq_push(&q, view("9")), -1);
	assert_int_equal(bufq_push(&q, view("")), 0);
	assert_string_equal(content(&q), "12345678");
	bufq_drop(&q, 1);
	assert_int_equal(bufq_push(&q, view("9")), 0);
	bufq_free(&q);
}

static void test_limit_of_slices(void **state)
{
	struct bufq q;

	(void)state;
	for (size_t max = 1; max < 40; max++) {
		bufq_init(&q, max, 1000);
		for (size_t i = 0; i < max; i++)
			assert_int_equal(bufq_push(&q, view("x")), 0);
		assert_true(bufq_full(&q, 0));
		assert_int_equal(bufq_push(&q, view("x")), -1);
		assert_int_equal(q.bytes, max);
		bufq_free(&q);
	}
}

/* What is refused stays the caller's; what is empty is taken and released. */
static void test_ownership(void **state)
{
	struct block *b = block_new(4);
	struct slice s = slice_of(b, 0, 4);
	struct bufq q;

	(void)state;
	bufq_init(&q, 1, 3);
	assert_int_equal(bufq_push(&q, s), -1);
	assert_false(block_is_unshared(b));
	slice_release(&s);
	assert_true(block_is_unshared(b));
	assert_int_equal(bufq_push(&q, slice_of(b, 2, 0)), 0);
	assert_true(block_is_unshared(b));
	assert_int_equal(bufq_push(&q, slice_of(b, 0, 3)), 0);
	s = bufq_pop(&q, 1);
	bufq_drop(&q, 2);
	assert_false(block_is_unshared(b));
	slice_release(&s);
	assert_true(block_is_unshared(b));
	assert_int_equal(bufq_push(&q, slice_of(b, 0, 3)), 0);
	bufq_free(&q);
	assert_true(block_is_unshared(b));
	block_unref(b);
}

static void test_peek(void **state)
{
	struct bufq q;
	struct iovec iov[3];

	(void)state;
	bufq_init(&q, 10, 100);
	assert_int_equal(bufq_peek(&q, iov, 3, 100), 0);
	bufq_push(&q, view("abc"));
	bufq_push(&q, view("def"));
	bufq_push(&q, view("ghi"));
	bufq_push(&q, view("jkl"));
	assert_int_equal(bufq_peek(&q, iov, 3, 100), 3);
	assert_memory_equal(iov[2].iov_base, "ghi", 3);
	assert_int_equal(bufq_peek(&q, iov, 3, 4), 2);
	assert_int_equal(iov[0].iov_len, 3);
	assert_int_equal(iov[1].iov_len, 1);
	assert_int_equal(bufq_peek(&q, iov, 3, 3), 1);
	assert_int_equal(bufq_peek(&q, iov, 3, 0), 0);
	assert_int_equal(bufq_peek(&q, iov, 0, 3), 0);
	assert_int_equal(q.bytes, 12);
	bufq_free(&q);
}

static void test_move(void **state)
{
	struct bufq a, b;

	(void)state;
	bufq_init(&a, 4, 10);
	bufq_init(&b, 4, 10);
	assert_int_equal(bufq_move(&a, &b), 0);
	bufq_push(&a, view("12"));
	bufq_push(&b, slice_copy("345", 3));
	bufq_push(&b, slice_copy("6789", 4));
	assert_int_equal(bufq_move(&a, &b), 0);
	assert_string_equal(content(&a), "123456789");
	assert_string_equal(content(&b), "");
	/* One byte too many, then one slice too many: nothing moves. */
	bufq_push(&b, slice_copy("ab", 2));
	assert_int_equal(bufq_move(&a, &b), -1);
	assert_string_equal(content(&b), "ab");
	bufq_drop(&b, 1);
	assert_int_equal(bufq_move(&a, &b), 0);
	assert_string_equal(content(&a), "123456789b");
	bufq_drop(&a, 1);
	bufq_push(&b, view("c"));
	assert_int_equal(bufq_move(&a, &b), -1);
	assert_string_equal(content(&b), "c");
	assert_string_equal(content(&a), "23456789b");
	bufq_free(&a);
	bufq_free(&b);
}

/* The same bytes, and the pool has its blocks back. */
static void test_settle(void **state)
{
	struct pool *p = pool_create(4096, 2);
	struct pool_stats stats;
	struct bufq q;

	(void)state;
	bufq_init(&q, 64, 256);
	assert_int_equal(bufq_settle(&q), 0);
	for (size_t i = 0; i < 2; i++) {
		struct block *b = block_get(p);

		memcpy(block_data(b), i == 0 ? "first " : "second", 6);
		bufq_push(&q, slice_of(b, 0, 6));
		block_unref(b);
	}
	bufq_push(&q, view(" third"));
	bufq_drop(&q, 2);
	assert_int_equal(bufq_settle(&q), 0);
	assert_string_equal(content(&q), "rst second third");
	assert_int_equal(q.count, 1);
	assert_int_equal(block_size(q.ring[0].owner), 16);
	pool_stats(p, &stats);
	assert_int_equal(stats.live, 0);
	pool_free(p);
	bufq_push(&q, view("!"));
	assert_string_equal(content(&q), "rst second third!");
	bufq_free(&q);
}

/* A numbered stream in and out, in sizes from a generator, around the ring many times. */
struct model {
	struct bufq q;
	uint8_t in, out;
	uint32_t random;
};

static size_t next_size(struct model *m, uint32_t below)
{
	m->random = m->random * 1664525 + 1013904223;
	return (m->random >> 16) % below;
}

static void model_push(struct model *m)
{
	uint8_t bytes[40];
	size_t n = next_size(m, sizeof(bytes));
	bool full = bufq_full(&m->q, n);

	assert_int_equal(full, m->q.count >= 13 || m->q.bytes + n > 200);
	for (size_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)(m->in + i);

	struct slice s = slice_copy(bytes, n);
	if (bufq_push(&m->q, s) != 0) {
		assert_true(full && n > 0);
		slice_release(&s);
		return;
	}
	assert_true(!full || n == 0);
	m->in = (uint8_t)(m->in + n);
}

static void model_pop(struct model *m)
{
	struct slice s = bufq_pop(&m->q, next_size(m, 50));

	for (size_t i = 0; i < s.len; i++)
		assert_int_equal(s.data[i], m->out++);
	slice_release(&s);
}

static void model_drop(struct model *m)
{
	size_t n = next_size(m, (uint32_t)m->q.bytes + 1);

	bufq_drop(&m->q, n);
	m->out = (uint8_t)(m->out + n);
}

static void model_move(struct model *m)
{
	struct bufq other;

	bufq_init(&other, 13, 200);
	assert_int_equal(bufq_move(&other, &m->q), 0);
	assert_int_equal(bufq_move(&m->q, &other), 0);
	bufq_free(&other);
}

static void model_check(struct model *m)
{
	struct iovec iov[13];
	size_t n = bufq_peek(&m->q, iov, 13, SIZE_MAX);
	uint8_t at = m->out;

	assert_int_equal(n, m->q.count);
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < iov[i].iov_len; j++)
			assert_int_equal(((uint8_t *)iov[i].iov_base)[j], at++);
	assert_int_equal(at, m->in);
}

static void test_against_a_model(void **state)
{
	struct model m = { .random = 1 };

	(void)state;
	bufq_init(&m.q, 13, 200);
	for (unsigned i = 0; i < 20000; i++) {
		switch (next_size(&m, 32)) {
		case 0:
			assert_int_equal(bufq_settle(&m.q), 0);
			break;
		case 1:
			model_move(&m);
			break;
		case 2:
			model_drop(&m);
			break;
		default:
			if (next_size(&m, 100) < 55)
				model_push(&m);
			else
				model_pop(&m);
		}
		model_check(&m);
	}
	bufq_free(&m.q);
}

static void drop_too_much(void)
{
	struct bufq q;

	bufq_init(&q, 4, 10);
	bufq_push(&q, view("abc"));
	bufq_drop(&q, 4);
}

static void test_faults_end_the_program(void **state)
{
	(void)state;
	assert_true(deaths_abort(drop_too_much));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		leaks_test(test_first_in_first_out),
		leaks_test(test_limit_of_bytes),
		leaks_test(test_limit_of_slices),
		leaks_test(test_ownership),
		leaks_test(test_peek),
		leaks_test(test_move),
		leaks_test(test_settle),
		leaks_test(test_against_a_model),
		leaks_test(test_faults_end_the_program),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
