/* What a stream has queued: where it lies, what it pins, and that it has an end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pair.h"
#include "rpc/call.h"
#include "rpc/limits.h"

#define WINDOW_BORN 65535u /* of RFC 9113 */

enum { INITIAL_WINDOW_SIZE = 4 };

static void respond(struct pair_stream *s)
{
	pair_respond(s, false);
}

/* A server session by hand that may send ${window} bytes a stream. */
static void open_by_hand(struct pair *p, uint32_t window)
{
	struct rpc_options o = rpc_options_default();

	pair_open(p, 1, NULL, &o);
	p->server.hooks.head = respond;
	pair_put_preface(p);
	pair_put_settings(p, INITIAL_WINDOW_SIZE, window);
	pair_put_frame(p, PAIR_SETTINGS, PAIR_ACK, 0, NULL, 0);
	pair_put_request(p, 1, false);
	pair_run(p);
}

/* Takes what the server has sent: bytes of DATA. */
static uint64_t take_data(struct pair *p, size_t *frames)
{
	struct pair_frame f;
	uint64_t sum = 0;

	*frames = 0;
	while (pair_take_type(p, PAIR_DATA, &f)) {
		sum += f.len;
		*frames += f.len > 0;
	}
	return sum;
}

static bool is_out(struct pair_end *e, const uint8_t *data, size_t len)
{
	struct iovec iov[64];
	size_t n = outq_peek(&e->out, iov, 64);

	for (size_t i = 0; i < n; i++)
		if (iov[i].iov_base == data && iov[i].iov_len == len)
			return true;
	return false;
}

/* What a relay does: from the receive block of one stream to the out-queue of another. */
static void payload_is_not_copied_on_its_way(void **state)
{
	struct rpc_options o = rpc_options_default();
	size_t sizes[] = { OUTQ_COPY_MAX + 1, 4096, 16384, 100000 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct pair p;
		uint64_t steps = 0;

		pair_open(&p, i, &o, &o);
		p.server.hooks.head = respond;
		p.server.keeps = true;
		struct pair_stream *c = pair_request(&p);
		pair_run(&p);
		assert_int_equal(pair_write(c, sizes[i]), 0);
		while (pair_output(&p.client, SIZE_MAX))
			assert_true(steps++ < 10);
		assert_true(pair_input(&p.server, SIZE_MAX)); /* one block */
		struct pair_stream *s = p.server.streams;
		assert_int_equal(s->last.len, sizes[i]);
		assert_true(s->last.data >= block_data(s->last.owner));
		assert_true(block_size(s->last.owner) > sizes[i]); /* it lies among frames */

		const uint8_t *data = s->last.data;
		assert_int_equal(h2_stream_write(s->h2, slice_dup(&s->last)), 0);
		s->written += sizes[i];
		p.server.hooks.sent = NULL;
		p.server.shut = false;
		assert_true(pair_output(&p.server, 0));
		assert_true(is_out(&p.server, data, sizes[i]));
		while (pair_output(&p.server, SIZE_MAX))
			continue;
		pair_detach(c);
		pair_close(&p);
	}
}

static void small_slices_are_gathered(void **state)
{
	size_t frames;
	struct pair p;

	(void)state;
	open_by_hand(&p, 1);
	struct pair_stream *s = p.server.streams;
	for (unsigned i = 0; i < 3000; i++)
		assert_int_equal(pair_write(s, 1 + i % 7), 0);
	uint64_t total = s->written;
	assert_true(s->h2->queue.count <= 2); /* the first slice, and a block of 4 KiB */
	assert_int_equal(h2_stream_queued(s->h2), total);
	assert_int_equal(h2_queued(p.server.h2), total);
	pair_run(&p);
	pair_put_u32(&p, PAIR_WINDOW_UPDATE, 1, 60000);
	pair_run(&p);
	assert_int_equal(take_data(&p, &frames), total);
	assert_int_equal(frames, 2); /* one of the first byte of window */
	assert_int_equal(h2_queued(p.server.h2), 0);
	assert_int_equal(s->sent, total);
	pair_close(&p);
}

/* Large and small ones by turns keep their order. */
static void slices_of_all_sizes_keep_their_order(void **state)
{
	static const size_t sizes[] = { 1, 4095, 4096, 4097, 20, 9000, 3000, 3000, 3000 };

	(void)state;
	for (uint64_t seed = 0; seed < 40; seed++) {
		struct rpc_options o = pair_options(5000, WINDOW_BORN);
		struct pair p;
		uint64_t total = 0;

		pair_open(&p, seed, &o, &o);
		pair_run(&p);
		struct pair_stream *c = pair_request(&p);
		for (unsigned i = 0; i < 200; i++) {
			size_t len = sizes[pair_random(&p, sizeof(sizes) / sizeof(sizes[0]))];

			assert_int_equal(pair_write(c, len), 0);
			total += len;
			if (pair_random(&p, 3) == 0)
				pair_step(&p);
		}
		h2_stream_end(c->h2, false);
		pair_run(&p);
		assert_int_equal(p.server.streams->received, total);
		assert_int_equal(p.server.streams->ends, 1);
		pair_close(&p);
	}
}

static void writing_nothing_takes_nothing(void **state)
{
	struct rpc_options o = pair_options(5000, WINDOW_BORN);
	struct pair p;

	(void)state;
	pair_open(&p, 3, &o, &o);
	struct pair_stream *c = pair_request(&p);
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(pair_write(c, 0), 0);
		if (i % 10 == 9)
			assert_int_equal(pair_write(c, i), 0);
		if (i % 20 == 0)
			pair_run(&p);
	}
	h2_stream_end(c->h2, false);
	pair_run(&p);
	assert_int_equal(p.server.streams->received, c->written);
	assert_int_equal(p.server.streams->ends, 1);
	pair_close(&p);
}

static void what_stalls_pins_no_receive_block(void **state)
{
	struct block *big = block_new(1 << 20);
	struct pair p;
	size_t frames;

	(void)state;
	assert_non_null(big);
	memset(block_data(big), 0, 1 << 20);
	open_by_hand(&p, 0);
	struct pair_stream *s = p.server.streams;
	assert_int_equal(h2_stream_write(s->h2, slice_of(big, 100, 5000)), 0);
	assert_int_equal(h2_stream_write(s->h2, slice_of(big, 300000, 5000)), 0);
	s->written += 10000;
	pair_run(&p);
	h2_settle(p.server.h2); /* has just come: may still move */
	assert_false(block_is_unshared(big));
	h2_settle(p.server.h2);
	assert_true(block_is_unshared(big));

	assert_int_equal(h2_stream_write(s->h2, slice_of(big, 500000, 5000)), 0);
	s->written += 5000;
	h2_settle(p.server.h2); /* has stalled before */
	assert_true(block_is_unshared(big));
	block_unref(big);

	pair_put_u32(&p, PAIR_WINDOW_UPDATE, 1, 60000);
	pair_run(&p);
	assert_int_equal(take_data(&p, &frames), 15000);
	assert_int_equal(s->sent, 15000);
	pair_close(&p);
}

/* What was gathered behind a stall is its own block, and counted with the rest. */
static void settling_keeps_what_is_queued(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 20; seed++) {
		struct rpc_options o = pair_options(3000, WINDOW_BORN);
		struct pair p;

		pair_open(&p, seed, &o, &o);
		pair_run(&p);
		struct pair_stream *c = pair_request(&p);
		for (unsigned i = 0; i < 100; i++) {
			assert_int_equal(pair_write(c, 1 + pair_random(&p, 9000)), 0);
			pair_step(&p);
			if (pair_random(&p, 4) == 0)
				h2_settle(p.client.h2);
		}
		h2_stream_end(c->h2, true);
		pair_run(&p);
		assert_int_equal(p.server.streams->received, c->written);
		assert_int_equal(c->sent, c->written);
		pair_close(&p);
	}
}

static void a_queue_has_an_end(void **state)
{
	struct pair p;

	(void)state;
	open_by_hand(&p, 0);
	struct pair_stream *s = p.server.streams;
	for (size_t i = 0; i < RPC_CALL_QUEUE_MAX >> 20; i++)
		assert_int_equal(pair_write(s, 1 << 20), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pair_write(s, i < 2 ? 1 : 5000), -1);
	assert_int_equal(h2_stream_queued(s->h2), RPC_CALL_QUEUE_MAX);
	pair_put_u32(&p, PAIR_WINDOW_UPDATE, 1, 10);
	pair_run(&p);
	assert_int_equal(pair_write(s, 11), -1);
	assert_int_equal(pair_write(s, 10), 0);
	pair_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(payload_is_not_copied_on_its_way),
		cmocka_unit_test(small_slices_are_gathered),
		cmocka_unit_test(slices_of_all_sizes_keep_their_order),
		cmocka_unit_test(writing_nothing_takes_nothing),
		cmocka_unit_test(what_stalls_pins_no_receive_block),
		cmocka_unit_test(settling_keeps_what_is_queued),
		cmocka_unit_test(a_queue_has_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
