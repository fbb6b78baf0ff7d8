/* Sockets and pipes as pump ends: half-closes, failures, full buffers, no credit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "ends.h"
#include "relay/pump.h"
#include "support/alloc.h"
#include "support/leak.h"

#define MIB    ((size_t)1 << 20)
#define FILLER ((size_t)100000) /* bytes; more than a tiny buffer takes */

/* A turn that finds nothing to do costs some 10 us: a spinning loop all of the time. */
#define IDLE_MS     100
#define IDLE_CPU_MS 30

struct fixture {
	struct leak *leak;
	struct loop *loop;
	struct end end;
	int peer; /* the other end of what ${end} has; -1: closed */
	uint64_t peer_read, peer_wrote;
	uint64_t want; /* bytes */
	size_t sip;    /* bytes the peer reads at once */
	bool peer_eof;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->leak = leak_begin();
	f->loop = loop_create(0, NULL);
	assert_non_null(f->loop);
	loop_ignore_sigpipe();
	f->peer = -1;
	f->sip = 64 << 10;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	struct leak *leak = f->leak;

	end_close(&f->end);
	if (f->peer >= 0)
		close(f->peer);
	loop_free(f->loop);
	free(f);
	return leak_end(leak);
}

/* The peer. */

static void set_nonblocking(int fd)
{
	assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
}

static void open_sockets(struct fixture *f, size_t window, int buffer)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	if (buffer > 0)
		setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
	set_nonblocking(fds[1]);
	f->peer = fds[1];
	end_open(&f->end, f->loop, fds[0], fds[0], window);
}

/* ${end} reads what the peer writes, or the other way round. */
static void open_pipe(struct fixture *f, bool end_reads)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	f->peer = fds[end_reads];
	set_nonblocking(f->peer);
	if (end_reads)
		end_open(&f->end, f->loop, fds[0], -1, 0);
	else
		end_open(&f->end, f->loop, -1, fds[1], 0);
}

static void peer_close(struct fixture *f)
{
	close(f->peer);
	f->peer = -1;
}

static void peer_write(struct fixture *f, size_t len)
{
	uint8_t *bytes = malloc(len);

	assert_non_null(bytes);
	for (size_t i = 0; i < len; i++)
		bytes[i] = end_byte(f->peer_wrote + i);
	assert_int_equal(write(f->peer, bytes, len), len);
	f->peer_wrote += len;
	free(bytes);
}

/* Reads one sip; true when all that is wanted is there, or the end. */
static bool peer_reads(void *cookie)
{
	struct fixture *f = cookie;
	uint8_t bytes[64 << 10];
	ssize_t n = read(f->peer, bytes, f->sip);

	assert_true(n >= 0 || errno == EAGAIN || errno == ECONNRESET);
	f->peer_eof = n == 0;
	if (n > 0) {
		assert_true(end_is_pattern(bytes, (size_t)n, f->peer_read));
		f->peer_read += (uint64_t)n;
	}
	return f->peer_eof || (f->want > 0 && f->peer_read >= f->want);
}

static void peer_gets(struct fixture *f, uint64_t want)
{
	f->want = want;
	ends_wait(f->loop, peer_reads, f);
	assert_int_equal(f->peer_read, want);
	assert_false(f->peer_eof);
}

static void peer_gets_eof(struct fixture *f)
{
	f->want = 0;
	ends_wait(f->loop, peer_reads, f);
}

/* What is waited for. */

static bool has_eof(void *cookie)
{
	return ((struct end *)cookie)->eofs > 0;
}

static bool has_write_failed(void *cookie)
{
	return ((struct end *)cookie)->write_fails > 0;
}

static bool has_read_failed(void *cookie)
{
	return ((struct end *)cookie)->read_fails > 0;
}

static bool is_freed(void *cookie)
{
	return ((struct end *)cookie)->fdio == NULL;
}

static bool has_got(void *cookie)
{
	struct fixture *f = cookie;

	return f->end.len >= f->want;
}

static void end_gets(struct fixture *f, size_t want)
{
	f->want = want;
	ends_wait(f->loop, has_got, f);
	assert_int_equal(f->end.len, want);
	assert_true(end_is_pattern(f->end.got, want, 0));
}

/* The tests. */

static void test_both_ways(void **state)
{
	struct fixture *f = *state;

	open_sockets(f, 0, 0);
	end_write(&f->end, 0, 100);
	peer_gets(f, 100);
	peer_write(f, 200);
	end_gets(f, 200);
	assert_int_equal(f->end.sent, 100);
	assert_int_equal(f->end.owed, 0);
}

static void test_a_mebibyte_through_a_tiny_buffer(void **state)
{
	struct fixture *f = *state;

	open_sockets(f, 0, 1);
	end_write(&f->end, 0, MIB);
	assert_int_equal(fdio_queued(f->end.fdio), MIB);
	peer_gets(f, MIB);
	assert_int_equal(f->end.sent, MIB);
	assert_int_equal(fdio_queued(f->end.fdio), 0);
}

/* Each write is offered again and again, and little of it is taken. */
static void test_a_peer_that_sips(void **state)
{
	struct fixture *f = *state;

	open_sockets(f, 0, 1);
	f->sip = 100;
	end_write(&f->end, 0, 40000);
	fdio_finish(f->end.fdio);
	peer_gets_eof(f);
	assert_int_equal(f->peer_read, 40000);
	assert_int_equal(f->end.sent, 40000);
}

static void test_end_of_writing_leaves_reading(void **state)
{
	struct fixture *f = *state;

	open_sockets(f, 0, 1);
	end_write(&f->end, 0, 50000);
	fdio_finish(f->end.fdio);
	assert_int_equal(fdio_write(f->end.fdio, (struct slice){ 0 }), -1);
	peer_gets_eof(f);
	assert_int_equal(f->peer_read, 50000);
	peer_write(f, 10);
	end_gets(f, 10);
	peer_close(f);
	ends_wait(f->loop, has_eof, &f->end);
	assert_int_equal(f->end.read_fails + f->end.write_fails, 0);
}

static void test_end_of_reading_leaves_writing(void **state)
{
	struct fixture *f = *state;

	open_sockets(f, 0, 0);
	peer_write(f, 1000);
	shutdown(f->peer, SHUT_WR);
	ends_wait(f->loop, has_eof, &f->end);
	end_gets(f, 1000);
	end_write(&f->end, 0, 3 * MIB);
	peer_gets(f, 3 * MIB);
	fdio_finish(f->end.fdio);
	peer_gets_eof(f);
	assert_true(ends_idle(f->loop, IDLE_MS) < IDLE_CPU_MS);
	assert_int_equal(f->end.eofs, 1);
}

static void test_finish_with_nothing_written(void **state)
{
	struct fixture *f = *state;

	open_sockets(f, 0, 0);
	fdio_finish(f->end.fdio);
	fdio_finish(f->end.fdio);
	peer_gets_eof(f);
	assert_int_equal(f->peer_read, 0);
}

static void test_pipe_out(void **state)
{
	struct fixture *f = *state;

	open_pipe(f, false);
	end_write(&f->end, 0, 5 * MIB);
	fdio_finish(f->end.fdio);
	peer_gets_eof(f);
	assert_int_equal(f->peer_read, 5 * MIB);
	assert_int_equal(f->end.sent, 5 * MIB);
}

static void test_pipe_in(void **state)
{
	struct fixture *f = *state;

	open_pipe(f, true);
	peer_write(f, 60000);
	peer_close(f);
	ends_wait(f->loop, has_eof, &f->end);
	assert_int_equal(f->end.len, 60000);
	assert_true(end_is_pattern(f->end.got, 60000, 0));
	assert_int_equal(fdio_write(f->end.fdio, (struct slice){ 0 }), -1);
	fdio_finish(f->end.fdio);
}

/* All that was written is told of, once, although it went nowhere: credit must not be
 * lost with it. */
static void test_reader_of_a_pipe_goes(void **state)
{
	struct fixture *f = *state;

	open_pipe(f, false);
	end_write(&f->end, 0, MIB);
	ends_idle(f->loop, 10);
	peer_close(f);
	ends_wait(f->loop, has_write_failed, &f->end);
	assert_int_equal(f->end.why.code, GRPC_UNAVAILABLE);
	assert_int_equal(f->end.sent, MIB);
	assert_int_equal(fdio_queued(f->end.fdio), 0);
	assert_int_equal(fdio_write(f->end.fdio, (struct slice){ 0 }), -1);
	assert_true(ends_idle(f->loop, IDLE_MS) < IDLE_CPU_MS);
}

/* A service that reads no more may still have something to say. */
static void test_writing_fails_alone(void **state)
{
	struct fixture *f = *state;

	open_sockets(f, 0, 0);
	shutdown(f->peer, SHUT_RD);
	end_write(&f->end, 0, 10);
	ends_wait(f->loop, has_write_failed, &f->end);
	assert_int_equal(f->end.sent, 10);
	peer_write(f, 5000);
	end_gets(f, 5000);
	peer_close(f);
	ends_wait(f->loop, has_eof, &f->end);
	assert_int_equal(f->end.read_fails, 0);
}

/* Two ends of a TCP connection. */
static void open_tcp(int fds[2])
{
	struct sockaddr_in at = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(listener, (struct sockaddr *)&at, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fds[0], (struct sockaddr *)&at, len), 0);
	fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fds[1] >= 0);
	close(listener);
}

static void test_connection_reset(void **state)
{
	const struct linger at_once = { .l_onoff = 1, .l_linger = 0 };
	struct fixture *f = *state;
	int fds[2];

	open_tcp(fds);
	end_open(&f->end, f->loop, fds[0], fds[0], 0);
	ends_idle(f->loop, 5);
	setsockopt(fds[1], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(fds[1]);
	ends_wait(f->loop, has_read_failed, &f->end);
	assert_int_equal(f->end.why.code, GRPC_UNAVAILABLE);
	end_write(&f->end, 0, 10);
	ends_wait(f->loop, has_write_failed, &f->end);
	assert_int_equal(f->end.sent, 10);
	assert_true(ends_idle(f->loop, IDLE_MS) < IDLE_CPU_MS);
}

/* Without credit a window is read and not a byte more; nobody spins, not even when the
 * peer is gone. */
static void test_window(void **state)
{
	static const size_t windows[] = { 1, 7, 4096, 10000 };
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]); i++) {
		size_t window = windows[i], all = 20 * window + window / 2;
		f->peer_wrote = 0;
		open_sockets(f, window, 0);
		f->end.hold = true;
		peer_write(f, all);
		peer_close(f);
		end_gets(f, window);
		assert_true(ends_idle(f->loop, IDLE_MS) < IDLE_CPU_MS);
		assert_int_equal(f->end.len, window);
		assert_true(f->end.largest <= window);
		while (f->end.len < all) {
			size_t more = all - f->end.len;
			end_give_credit(&f->end, window);
			end_gets(f, f->end.len + (more < window ? more : window));
		}
		end_give_credit(&f->end, f->end.owed);
		ends_wait(f->loop, has_eof, &f->end);
		end_close(&f->end);
	}
}

/* Credit that trickles in is saved up: reads stay large. */
static void test_credit_is_saved_up(void **state)
{
	struct fixture *f = *state;

	open_sockets(f, 1000, 0);
	f->end.hold = true;
	peer_write(f, 5000);
	end_gets(f, 1000);
	for (int i = 0; i < 249; i++)
		end_give_credit(&f->end, 1);
	ends_idle(f->loop, 10);
	assert_int_equal(f->end.len, 1000);
	end_give_credit(&f->end, 1);
	end_gets(f, 1250);
}

static void test_free_in_callbacks(void **state)
{
	static const unsigned places[] = { END_IN_DATA, END_IN_EOF, END_IN_SENT, END_IN_FAILED };
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		f->peer_wrote = 0;
		open_sockets(f, 0, 0);
		f->end.free_at = places[i];
		peer_write(f, 10);
		end_write(&f->end, 0, 10);
		if (places[i] == END_IN_FAILED)
			shutdown(f->peer, SHUT_RD);
		if (places[i] == END_IN_EOF)
			shutdown(f->peer, SHUT_WR);
		ends_wait(f->loop, is_freed, &f->end);
		ends_idle(f->loop, 2);
		end_close(&f->end);
		peer_close(f);
	}
}

static void test_free_with_all_pending(void **state)
{
	struct fixture *f = *state;

	open_sockets(f, 0, 1);
	end_write(&f->end, 0, MIB);
	ends_idle(f->loop, 5);
	peer_write(f, 10);
	end_close(&f->end);
	assert_int_equal(f->end.len, 0);
}

/* What does not fit is not left out: the direction fails, and nothing goes out behind
 * the gap. */
static void test_queue_has_an_end(void **state)
{
	struct fixture *f = *state;
	struct block *b = block_new(MIB);

	memset(block_data(b), 0, MIB);
	open_sockets(f, 0, 1);
	for (size_t i = 0; i < FDIO_QUEUE_MAX / MIB; i++)
		assert_int_equal(fdio_write(f->end.fdio, slice_of(b, 0, MIB)), 0);
	struct slice last = slice_of(b, 0, 1);
	assert_int_equal(fdio_write(f->end.fdio, last), -1);
	slice_release(&last);
	assert_int_equal(f->end.write_fails, 0); /* it is told from the loop */
	ends_wait(f->loop, has_write_failed, &f->end);
	assert_int_equal(f->end.why.code, GRPC_RESOURCE_EXHAUSTED);
	assert_int_equal(f->end.sent, FDIO_QUEUE_MAX);
	assert_true(block_is_unshared(b));
	block_unref(b);
}

/* A byte a slice, more slices than are queued. */
static void test_many_slices(void **state)
{
	struct fixture *f = *state;
	size_t count = 3 * FDIO_SLICES_MAX + 17;

	open_sockets(f, 0, 1);
	for (size_t i = 0; i < count; i++)
		end_write(&f->end, i, 1);
	peer_gets(f, count);
	assert_int_equal(f->end.sent, count);
}

/* Slices of many receive blocks that wait for a peer that does not read: most are copied
 * out, and the blocks are free for others. */
static void test_stalled_writer_pins_few_blocks(void **state)
{
	struct fixture *f = *state;
	struct pool *pool = loop_pool(f->loop);
	struct pool_stats stats;

	open_sockets(f, 0, 1);
	end_write(&f->end, 0, FILLER);
	ends_idle(f->loop, 5); /* blocked from here on */
	for (size_t i = 0; i < LOOP_BLOCKS_MAX; i++) {
		struct block *b = block_get(pool);
		assert_non_null(b);
		for (size_t j = 0; j < 64; j++)
			block_data(b)[j] = end_byte(FILLER + 64 * i + j);
		assert_int_equal(fdio_write(f->end.fdio, slice_of(b, 0, 64)), 0);
		block_unref(b);
	}
	pool_stats(pool, &stats);
	assert_true(stats.live <= LOOP_BLOCKS_MAX / 4);
	peer_gets(f, FILLER + (size_t)64 * LOOP_BLOCKS_MAX);
	pool_stats(pool, &stats);
	assert_int_equal(stats.live, 0);
}

/* Others hold every block of the loop: reading goes on without. */
static void test_reading_without_blocks(void **state)
{
	static struct block *all[LOOP_BLOCKS_MAX];
	struct fixture *f = *state;

	for (size_t i = 0; i < LOOP_BLOCKS_MAX; i++)
		assert_non_null(all[i] = block_get(loop_pool(f->loop)));
	open_sockets(f, 0, 0);
	peer_write(f, 100000);
	end_gets(f, 100000);
	for (size_t i = 0; i < LOOP_BLOCKS_MAX; i++)
		block_unref(all[i]);
}

/* A pipe whose reader goes while nothing fits in, and a socket both of whose directions
 * the peer has left. */
static void test_gone_while_blocked(void **state)
{
	struct fixture *f = *state;

	open_sockets(f, 1000, 1);
	f->end.hold = true;
	peer_write(f, 5000);
	end_write(&f->end, 0, MIB);
	ends_idle(f->loop, 5);
	assert_true(fdio_queued(f->end.fdio) > 0);
	peer_close(f);
	ends_wait(f->loop, has_write_failed, &f->end);
	assert_int_equal(f->end.sent, MIB);
	assert_true(ends_idle(f->loop, IDLE_MS) < IDLE_CPU_MS);
	assert_int_equal(f->end.len, 1000);
}

static void test_bad_descriptors(void **state)
{
	struct fixture *f = *state;
	struct fdio_options o = { .read_fd = 1000, .write_fd = -1 };
	struct err why = { 0 };
	int fds[2], file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);

	assert_null(fdio_create(f->loop, &o, &why));
	assert_int_not_equal(why.code, GRPC_OK);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	o.read_fd = fds[0];
	o.write_fd = file; /* not to be waited for */
	assert_null(fdio_create(f->loop, &o, &why));
	assert_int_equal(close(fds[0]), 0); /* they are ours still */
	assert_int_equal(close(fds[1]), 0);
	assert_int_equal(close(file), 0);
	fdio_free(NULL);
}

/* Two descriptors, two pumps, and a peer at either end. */
struct relay {
	struct fdio *a, *b;
	struct pump *there, *back;
	unsigned dones;
};

static void a_data(void *cookie, struct slice s)
{
	pump_push(((struct relay *)cookie)->there, s);
}

static void a_eof(void *cookie)
{
	pump_eof(((struct relay *)cookie)->there);
}

static void a_sent(void *cookie, size_t bytes)
{
	pump_sent(((struct relay *)cookie)->back, bytes);
}

static void a_failed(void *cookie, bool reading, const struct err *why)
{
	struct relay *r = cookie;

	pump_fail(reading ? r->there : r->back, why);
}

static void b_data(void *cookie, struct slice s)
{
	pump_push(((struct relay *)cookie)->back, s);
}

static void b_eof(void *cookie)
{
	pump_eof(((struct relay *)cookie)->back);
}

static void b_sent(void *cookie, size_t bytes)
{
	pump_sent(((struct relay *)cookie)->there, bytes);
}

static void b_failed(void *cookie, bool reading, const struct err *why)
{
	struct relay *r = cookie;

	pump_fail(reading ? r->back : r->there, why);
}

static const struct fdio_ops a_ops = { a_data, a_eof, a_sent, a_failed };
static const struct fdio_ops b_ops = { b_data, b_eof, b_sent, b_failed };

static void relay_done(void *cookie, const struct err *why)
{
	assert_int_equal(why->code, GRPC_OK);
	((struct relay *)cookie)->dones++;
}

static bool relay_is_done(void *cookie)
{
	return ((struct relay *)cookie)->dones == 2;
}

static struct fdio *relay_end(
    struct relay *r, struct loop *loop, int fd, const struct fdio_ops *ops)
{
	const struct fdio_options o = {
		.read_fd = fd, .write_fd = fd, .window = 30000, .ops = ops, .cookie = r
	};

	return fdio_create(loop, &o, NULL);
}

static void test_two_descriptors_make_a_relay(void **state)
{
	struct fixture *f = *state;
	struct relay r = { 0 };
	int fds[2];

	open_tcp(fds);
	open_sockets(f, 0, 1); /* one user... */
	int inner = f->peer;
	r.a = relay_end(&r, f->loop, inner, &a_ops);
	r.b = relay_end(&r, f->loop, fds[0], &b_ops);
	r.there = pump_create(f->loop, fdio_source(r.a), fdio_sink(r.b), relay_done, &r);
	r.back = pump_create(f->loop, fdio_source(r.b), fdio_sink(r.a), relay_done, &r);
	set_nonblocking(fds[1]);
	f->peer = fds[1]; /* ...and the other */

	end_write(&f->end, 0, MIB);
	fdio_finish(f->end.fdio);
	peer_gets_eof(f);
	assert_int_equal(f->peer_read, MIB);
	peer_write(f, 100000);
	end_gets(f, 100000);
	peer_close(f);
	ends_wait(f->loop, has_eof, &f->end);
	ends_wait(f->loop, relay_is_done, &r);
	pump_free(r.there);
	pump_free(r.back);
	fdio_free(r.a);
	fdio_free(r.b);
}

/* Whatever allocation fails: either the byte comes, or it is said that it does not. */
struct tally {
	size_t got, sent;
	unsigned ends, write_fails;
};

static void count_data(void *cookie, struct slice s)
{
	((struct tally *)cookie)->got += s.len;
	slice_release(&s);
}

static void count_eof(void *cookie)
{
	((struct tally *)cookie)->ends++;
}

static void count_sent(void *cookie, size_t bytes)
{
	((struct tally *)cookie)->sent += bytes;
}

static void count_failed(void *cookie, bool reading, const struct err *why)
{
	struct tally *t = cookie;

	assert_int_equal(why->code, GRPC_RESOURCE_EXHAUSTED);
	assert_true(alloc_has_failed());
	if (reading)
		t->ends++;
	else
		t->write_fails++;
}

static const struct fdio_ops counting = { count_data, count_eof, count_sent, count_failed };

static void torture(void *cookie)
{
	static const uint8_t byte = 'x';
	struct tally t = { 0 };
	struct loop *loop = loop_create(0, NULL);
	struct fdio *fdio = NULL;
	int fds[2];

	(void)cookie;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(write(fds[1], &byte, 1), 1);
	shutdown(fds[1], SHUT_WR);
	struct fdio_options o = { fds[0], fds[0], 0, &counting, &t };
	if (loop != NULL)
		fdio = fdio_create(loop, &o, NULL);
	if (fdio != NULL) {
		int r = fdio_write(fdio, (struct slice){ .data = &byte, .len = 1 });
		loop_run_idle(loop);
		assert_int_equal(t.ends, 1);
		assert_int_equal(t.sent + t.write_fails, 1);
		assert_true(r == 0 || t.write_fails == 1);
		assert_true(alloc_has_failed() || t.got + t.sent == 2);
	} else {
		assert_true(alloc_has_failed());
		close(fds[0]);
	}
	fdio_free(fdio);
	loop_free(loop);
	close(fds[1]);
}

static void test_no_memory(void **state)
{
	alloc_torture(torture, *state);
}

#define fdio_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		fdio_test(test_both_ways),
		fdio_test(test_a_mebibyte_through_a_tiny_buffer),
		fdio_test(test_a_peer_that_sips),
		fdio_test(test_end_of_writing_leaves_reading),
		fdio_test(test_end_of_reading_leaves_writing),
		fdio_test(test_finish_with_nothing_written),
		fdio_test(test_pipe_out),
		fdio_test(test_pipe_in),
		fdio_test(test_reader_of_a_pipe_goes),
		fdio_test(test_writing_fails_alone),
		fdio_test(test_connection_reset),
		fdio_test(test_window),
		fdio_test(test_credit_is_saved_up),
		fdio_test(test_free_in_callbacks),
		fdio_test(test_free_with_all_pending),
		fdio_test(test_queue_has_an_end),
		fdio_test(test_many_slices),
		fdio_test(test_stalled_writer_pins_few_blocks),
		fdio_test(test_reading_without_blocks),
		fdio_test(test_gone_while_blocked),
		fdio_test(test_bad_descriptors),
		fdio_test(test_two_descriptors_make_a_relay),
		fdio_test(test_no_memory),
	};

	/* The first loop of a process opens what all of them share. */
	loop_free(loop_create(0, NULL));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
