/*
 * What one connection, or many that come at once, may take of a loop's turn and of its
 * receive blocks; and what becomes of those for whom there is no descriptor.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "net.h"
#include "peer.h"
#include "rpc/conn.h"
#include "rpc/limits.h"
#include "rpc/listener.h"
#include "support/lines.h"

/* How much of something there was in the turn that had most. */
struct share {
	struct post post; /* at the turn's end */
	struct loop *loop;
	uint64_t total, turn, most;
};

static void turn_ends(struct post *post)
{
	struct share *s = (struct share *)post;

	if (s->turn > s->most)
		s->most = s->turn;
	s->turn = 0;
}

static void share_add(struct share *s, uint64_t n)
{
	s->post.run = turn_ends;
	s->total += n;
	s->turn += n;
	if (!s->post.pending)
		loop_post(s->loop, &s->post);
}

/* Many who connect at once. */

#define CROWD 200

struct door {
	struct share share;
	struct listener *listener;
	struct address address;
	int in[CROWD], out[CROWD];
	size_t want;
};

static void accepted(void *cookie, int fd, struct rpc_tls *tls)
{
	struct door *d = cookie;

	assert_null(tls);
	d->in[d->share.total] = fd;
	share_add(&d->share, 1);
}

/* All of them are in the backlog before the loop runs. */
static void begin_crowd(struct door *d, size_t count)
{
	char bound[ADDRESS_TEXT_MAX];
	struct err err;

	memset(d, 0, sizeof(*d));
	d->share.loop = loop_create(0, NULL);
	assert_non_null(d->share.loop);
	d->listener = listener_create(d->share.loop, "127.0.0.1:0", NULL, accepted, d, bound, &err);
	assert_non_null(d->listener);
	assert_int_equal(address_parse(bound, &d->address, &err), 0);
	for (size_t i = 0; i < count; i++) {
		d->out[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(
		    connect(d->out[i], (struct sockaddr *)&d->address.sa, d->address.sa_len), 0);
	}
}

static bool are_in(void *cookie)
{
	struct door *d = cookie;

	return d->share.total >= d->want;
}

static void wait_for(struct door *d, size_t want)
{
	d->want = want;
	net_until(d->share.loop, are_in, d);
}

static void end_crowd(struct door *d, size_t closed, size_t count)
{
	for (size_t i = 0; i < count; i++)
		close(d->out[i]);
	for (size_t i = closed; i < d->share.total; i++)
		close(d->in[i]);
	listener_free(d->listener);
	loop_free(d->share.loop);
}

static void a_backlog_is_taken_in_portions(void **state)
{
	struct door d;

	(void)state;
	begin_crowd(&d, CROWD);
	wait_for(&d, CROWD);
	assert_int_equal(d.share.most, LISTENER_BACKLOG_BUDGET);
	end_crowd(&d, 0, CROWD);
}

/* So many descriptors are left. */
static void leave_descriptors(struct rlimit *before, size_t count)
{
	struct rlimit few;
	int next = dup(STDERR_FILENO);

	assert_true(next >= 0);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, before), 0);
	few = *before;
	few.rlim_cur = (rlim_t)next + count;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
}

static uint64_t passed_ms(uint64_t since_us)
{
	return (loop_now_us() - since_us) / 1000;
}

static void without_descriptors_accepting_pauses(void **state)
{
	enum { WAITING = 6, LEFT = 2 };
	int lines = lines_open();
	struct rlimit before;
	struct door d;

	(void)state;
	log_setup(lines, LOG_FORMAT_LOGFMT, LOG_LEVEL_INFO);
	begin_crowd(&d, WAITING);
	leave_descriptors(&before, LEFT);
	uint64_t from = loop_now_us();
	net_run(d.share.loop, 50); /* many turns, if nobody pauses */
	assert_int_equal(d.share.total, LEFT);
	assert_in_range(
	    lines_count(lines, "event=accept_paused"), 1, 1 + passed_ms(from) / LISTENER_PAUSE_MS);
	for (size_t i = 0; i < LEFT; i++)
		close(d.in[i]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	wait_for(&d, WAITING);
	assert_true(passed_ms(from) >= LISTENER_PAUSE_MS - 20); /* clocks of milliseconds */
	end_crowd(&d, LEFT, WAITING);
	log_setup(STDERR_FILENO, LOG_FORMAT_LOGFMT, LOG_LEVEL_ERROR);
	close(lines);
}

/* One who sends much. */

struct scene {
	struct share share;
	struct rpc_options options;
	struct rpc_conn *conn;
	bool closed;
	struct peer peer;
	bool returns; /* what comes is sent back, else thrown away */
	unsigned calls;
};

struct call {
	struct scene *scene;
	struct rpc_call *call;
};

static void call_data(void *cookie, struct slice bytes)
{
	struct call *c = cookie;

	share_add(&c->scene->share, bytes.len);
	if (c->scene->returns) {
		assert_int_equal(rpc_call_write(c->call, bytes), 0);
		return;
	}
	rpc_call_credit(c->call, bytes.len);
	slice_release(&bytes);
}

static void call_closed(void *cookie, const struct err *why)
{
	(void)why;
	free(cookie);
}

static const struct rpc_call_ops call_ops = { .data = call_data, .closed = call_closed };

static void on_call(void *cookie, struct rpc_call *call)
{
	struct call *c = malloc(sizeof(*c));

	assert_non_null(c);
	*c = (struct call){ .scene = cookie, .call = call };
	c->scene->calls++;
	rpc_call_bind(call, &call_ops, c);
}

static void on_closed(void *cookie, const struct err *why)
{
	(void)why;
	((struct scene *)cookie)->closed = true;
}

static const struct conn_ops ops = { .call = on_call, .closed = on_closed };

static void begin(struct scene *s)
{
	memset(s, 0, sizeof(*s));
	s->options = rpc_options_default();
	s->share.loop = loop_create(0, NULL);
	assert_non_null(s->share.loop);
}

/* ${window} is what the peer takes of each call. */
static void open_calls(struct scene *s, unsigned count, uint32_t window)
{
	struct err err;
	int fds[2];

	assert_int_equal(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	s->conn = conn_create(s->share.loop,
	    &(struct conn_options){
		.fd = fds[0],
		.is_server = true,
		.options = &s->options,
		.ops = &ops,
		.cookie = s,
	    },
	    &err);
	assert_non_null(s->conn);
	peer_open(&s->peer, s->share.loop, fds[1], NULL);
	peer_begin(&s->peer, true, window);
	for (unsigned i = 0; i < count; i++)
		peer_request(&s->peer, 2 * i + 1, "/test/Call", NULL);
	net_wait_count(s->share.loop, &s->calls, count);
}

static void end(struct scene *s)
{
	conn_close(s->conn, NULL);
	net_wait(s->share.loop, &s->closed);
	peer_free(&s->peer);
	loop_free(s->share.loop);
}

#define PIECE ((size_t)16 << 10)
#define WHOLE ((size_t)RPC_WINDOW)

static void send_window(struct scene *s, uint32_t id)
{
	static const uint8_t zeros[PIECE];

	for (size_t n = 0; n < WHOLE; n += PIECE)
		peer_frame(&s->peer, PEER_DATA, 0, id, zeros, PIECE);
}

struct arrival {
	struct scene *scene;
	uint64_t bytes;
};

static bool has_arrived(void *cookie)
{
	const struct arrival *a = cookie;

	return a->scene->share.total >= a->bytes;
}

static void wait_bytes(struct scene *s, uint64_t bytes)
{
	struct arrival a = { s, bytes };

	net_until(s->share.loop, has_arrived, &a);
	assert_false(s->closed);
}

static void a_turn_reads_so_many_bytes(void **state)
{
	enum { BUDGET = 40000 };
	struct scene s;

	(void)state;
	begin(&s);
	s.options.read_budget = BUDGET;
	open_calls(&s, 1, PEER_WINDOW_MAX);
	send_window(&s, 1);
	wait_bytes(&s, WHOLE);
	assert_int_equal(s.share.total, WHOLE);
	assert_in_range(s.share.most, BUDGET / 2, BUDGET);
	end(&s);
}

static bool few_are_held(void *cookie)
{
	const struct scene *s = cookie;
	struct pool_stats stats;

	pool_stats(loop_pool(s->share.loop), &stats);
	return stats.live <= 1; /* the one that is read into */
}

/* A peer that sends and does not read holds what it has sent, but not the blocks that its
 * neighbours read into. */
static void what_does_not_move_leaves_its_blocks(void **state)
{
	enum { CALLS = 4 };
	struct scene s;

	(void)state;
	begin(&s);
	s.options.sweep_ms = NET_WAIT_MS;
	s.returns = true;
	open_calls(&s, CALLS, 0);
	for (unsigned i = 0; i < CALLS; i++)
		send_window(&s, 2 * i + 1);
	wait_bytes(&s, CALLS * WHOLE);
	assert_false(few_are_held(&s));
	s.options.sweep_ms = RPC_SWEEP_MS;
	peer_frame(&s.peer, PEER_PING, 0, 0, "8 bytes.", 8); /* so that the wait is set anew */
	net_until(s.share.loop, few_are_held, &s);
	for (unsigned i = 0; i < CALLS; i++) /* and nothing is lost by it */
		peer_u32(&s.peer, PEER_WINDOW_UPDATE, 2 * i + 1, WHOLE);
	for (unsigned i = 0; i < CALLS; i++)
		while (peer_stream(&s.peer, 2 * i + 1)->data < WHOLE)
			net_run(s.share.loop, 5);
	end(&s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, net_setup, net_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_backlog_is_taken_in_portions),
		TEST(without_descriptors_accepting_pauses),
		TEST(a_turn_reads_so_many_bytes),
		TEST(what_does_not_move_leaves_its_blocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
