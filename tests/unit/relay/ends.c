#include "ends.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define PIECE ((size_t)64 << 10)

/* The loop. */

struct waiting {
	struct loop *loop;
	struct timer *timer;
	bool (*is)(void *cookie);
	void *cookie;
	uint64_t until_ms;
	bool done;
};

static void look(void *cookie)
{
	struct waiting *w = cookie;

	w->done = w->is != NULL && w->is(w->cookie);
	if (w->done || loop_now_us() / 1000 >= w->until_ms)
		loop_stop(w->loop);
	else
		timer_start(w->timer, 1);
}

static bool run(struct loop *loop, bool (*is)(void *cookie), void *cookie, uint32_t ms)
{
	struct waiting w = { .loop = loop, .is = is, .cookie = cookie };

	w.until_ms = loop_now_us() / 1000 + ms;
	w.timer = timer_create_on(loop, look, &w);
	assert_non_null(w.timer);
	timer_start(w.timer, 0);
	loop_run(loop);
	timer_free(w.timer);
	return w.done;
}

void ends_wait(struct loop *loop, bool (*is)(void *cookie), void *cookie)
{
	assert_true(run(loop, is, cookie, ENDS_WAIT_MS));
}

static uint64_t cpu_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t ends_idle(struct loop *loop, uint32_t ms)
{
	uint64_t before = cpu_us();

	run(loop, NULL, NULL, ms);
	return (cpu_us() - before) / 1000;
}

/* The pattern. */

uint8_t end_byte(uint64_t at)
{
	return (uint8_t)(at ^ at >> 8 ^ at >> 16);
}

bool end_is_pattern(const uint8_t *bytes, size_t len, uint64_t from)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i] != end_byte(from + i))
			return false;
	return true;
}

/* An end. */

static void maybe_free(struct end *e, unsigned where)
{
	if (e->free_at != where)
		return;
	fdio_free(e->fdio);
	e->fdio = NULL;
}

static void keep_bytes(struct end *e, const struct slice *s)
{
	while (e->len + s->len > e->cap) {
		e->cap = e->cap > 0 ? 2 * e->cap : PIECE;
		e->got = realloc(e->got, e->cap);
		assert_non_null(e->got);
	}
	memcpy(e->got + e->len, s->data, s->len);
	e->len += s->len;
}

static void on_data(void *cookie, struct slice s)
{
	struct end *e = cookie;
	size_t len = s.len;

	assert_true(len > 0);
	assert_int_equal(e->eofs + e->read_fails, 0);
	keep_bytes(e, &s);
	slice_release(&s);
	e->datas++;
	e->owed += len;
	e->largest = len > e->largest ? len : e->largest;
	if (!e->hold)
		end_give_credit(e, len);
	maybe_free(e, END_IN_DATA);
}

static void on_eof(void *cookie)
{
	struct end *e = cookie;

	e->eofs++;
	assert_int_equal(e->eofs + e->read_fails, 1);
	maybe_free(e, END_IN_EOF);
}

static void on_sent(void *cookie, size_t bytes)
{
	struct end *e = cookie;

	assert_true(bytes > 0);
	e->sent += bytes;
	maybe_free(e, END_IN_SENT);
}

static void on_failed(void *cookie, bool reading, const struct err *why)
{
	struct end *e = cookie;

	assert_int_not_equal(why->code, GRPC_OK);
	e->why = *why;
	if (reading)
		e->read_fails++;
	else
		e->write_fails++;
	assert_true(e->eofs + e->read_fails <= 1);
	assert_true(e->write_fails <= 1);
	maybe_free(e, END_IN_FAILED);
}

static const struct fdio_ops end_ops = {
	.data = on_data,
	.eof = on_eof,
	.sent = on_sent,
	.failed = on_failed,
};

void end_open(struct end *e, struct loop *loop, int read_fd, int write_fd, size_t window)
{
	const struct fdio_options options = {
		.read_fd = read_fd,
		.write_fd = write_fd,
		.window = window,
		.ops = &end_ops,
		.cookie = e,
	};
	struct err why;

	*e = (struct end){ .loop = loop };
	e->fdio = fdio_create(loop, &options, &why);
	assert_non_null(e->fdio);
}

void end_close(struct end *e)
{
	fdio_free(e->fdio);
	e->fdio = NULL;
	free(e->got);
	e->got = NULL;
}

void end_write(struct end *e, uint64_t from, size_t len)
{
	while (len > 0) {
		size_t n = len < PIECE ? len : PIECE;
		struct block *b = block_new(n);
		assert_non_null(b);
		for (size_t i = 0; i < n; i++)
			block_data(b)[i] = end_byte(from + i);
		assert_int_equal(fdio_write(e->fdio, slice_of(b, 0, n)), 0);
		block_unref(b);
		from += n;
		len -= n;
	}
}

void end_give_credit(struct end *e, size_t bytes)
{
	assert_true(bytes <= e->owed);
	e->owed -= bytes;
	fdio_credit(e->fdio, bytes);
}
