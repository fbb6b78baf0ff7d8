/*
 * Everything of a connection that may not take too long, each wait shortened by the
 * connection's options, over TCP and over Unix sockets. That a wait ends what is late, that
 * it leaves alone what is not, and what the calls of the connection are told.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "net.h"
#include "peer.h"
#include "rpc/conn.h"
#include "base/log.h"
#include "support/leak.h"
#include "support/lines.h"

#define SHORT_MS 60u
#define EARLY_MS (SHORT_MS / 2) /* clocks of milliseconds, and timers of a loop's turn */
#define LONG_MS  (4 * SHORT_MS) /* what is not late lasts as long */

static int lines; /* the log of a test */

struct scene {
	struct loop *loop;
	struct rpc_options options;
	struct rpc_conn *conn; /* NULL: closed */
	bool ready, closed;
	struct err why;
	uint64_t begun_us, closed_us;
	struct peer peer;
	int listener; /* -1: none */

	struct rpc_call *call; /* the newest */
	unsigned calls, lost;
	struct err lost_why;
	uint64_t received;
};

/* Our side's calls: what comes is counted, nothing is answered. */

static void call_data(void *cookie, struct slice bytes)
{
	struct scene *s = cookie;

	s->received += bytes.len;
	rpc_call_credit(s->call, bytes.len);
	slice_release(&bytes);
}

static void call_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	(void)cookie;
	(void)status;
	(void)trailers;
}

static void call_closed(void *cookie, const struct err *why)
{
	struct scene *s = cookie;

	s->call = NULL;
	s->lost++;
	s->lost_why = *why;
}

static const struct rpc_call_ops call_ops = {
	.data = call_data, .end = call_end, .closed = call_closed
};

static void on_call(void *cookie, struct rpc_call *call)
{
	struct scene *s = cookie;

	s->call = call;
	s->calls++;
	rpc_call_bind(call, &call_ops, s);
}

static void on_ready(void *cookie)
{
	((struct scene *)cookie)->ready = true;
}

static void on_closed(void *cookie, const struct err *why)
{
	struct scene *s = cookie;

	s->conn = NULL;
	s->closed = true;
	s->why = *why;
	s->closed_us = loop_now_us();
}

static const struct conn_ops ops = { .call = on_call, .ready = on_ready, .closed = on_closed };

/* Sockets. */

enum kind { TCP, UNIX };

static const enum kind kinds[] = { TCP, UNIX };

/* A connected pair, as accepting gives it. */
static void connected(struct scene *s, enum kind kind, int fds[2])
{
	char bound[ADDRESS_TEXT_MAX];
	struct address address;
	struct err err;

	(void)s;
	if (kind == UNIX) {
		assert_int_equal(
		    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
		return;
	}
	assert_int_equal(address_parse("127.0.0.1:0", &address, &err), 0);
	int listener = address_listen(&address, bound, &err);
	assert_true(listener >= 0);
	assert_int_equal(address_parse(bound, &address, &err), 0);
	fds[1] = address_connect(&address, &err);
	assert_true(fds[1] >= 0);
	fds[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(fds[0] >= 0);
	close(listener);
}

static void begin(struct scene *s)
{
	memset(s, 0, sizeof(*s));
	s->options = rpc_options_default();
	s->loop = loop_create(0, NULL);
	assert_non_null(s->loop);
}

static void open_fd(struct scene *s, int fd, bool is_server, bool connecting)
{
	const struct conn_options o = {
		.fd = fd,
		.is_server = is_server,
		.connecting = connecting,
		.authority = "test",
		.options = &s->options,
		.ops = &ops,
		.cookie = s,
	};
	struct err err;

	s->begun_us = loop_now_us();
	s->conn = conn_create(s->loop, &o, &err);
	assert_non_null(s->conn);
}

static void open_conn(struct scene *s, enum kind kind, bool is_server)
{
	int fds[2];

	connected(s, kind, fds);
	open_fd(s, fds[0], is_server, false);
	peer_open(&s->peer, s->loop, fds[1], NULL);
}

/* Both have said what a connection begins with. */
static void open_ready(struct scene *s, enum kind kind, bool is_server)
{
	open_conn(s, kind, is_server);
	peer_begin(&s->peer, is_server, PEER_WINDOW_MAX);
	if (!is_server)
		net_wait(s->loop, &s->ready);
}

static void end(struct scene *s)
{
	if (s->conn != NULL)
		conn_close(s->conn, NULL);
	net_wait(s->loop, &s->closed);
	peer_free(&s->peer);
	loop_free(s->loop);
}

/* It ends, for this, which is said in a line, and not before the wait is over. */
static void expect_end(struct scene *s, const char *part)
{
	unsigned before = lines_count(lines, "event=conn_timeout");

	net_wait(s->loop, &s->closed);
	assert_true(lines_count(lines, "event=conn_timeout") > before);
	if (strstr(s->why.text, part) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", part, s->why.text);
	assert_int_equal(s->why.code, GRPC_UNAVAILABLE);
	assert_true(s->closed_us >= s->begun_us + EARLY_MS * 1000);
}

static void expect_life(struct scene *s)
{
	net_run(s->loop, LONG_MS);
	if (s->closed)
		fail_msg("closed: %s", s->why.text);
}

static void start_call(struct scene *s)
{
	struct err err;

	s->call = call_create(s->conn, "/test/Call", NULL, 0, &call_ops, s, &err);
	assert_non_null(s->call);
	s->calls++;
}

static bool is_eof(void *cookie)
{
	return ((struct scene *)cookie)->peer.eof;
}

/* Connecting: the listener's queue is full, so that the kernel drops the SYN. */

static void a_connect_that_nobody_answers(void **state)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	char bound[ADDRESS_TEXT_MAX];
	struct address address;
	int fillers[8];
	struct scene s;
	struct err err;

	(void)state;
	begin(&s);
	s.options.connect_ms = SHORT_MS;
	assert_int_equal(address_parse("127.0.0.1:0", &address, &err), 0);
	int listener = address_listen(&address, bound, &err);
	assert_int_equal(listen(listener, 0), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&sa, &len), 0);
	assert_int_equal(address_parse(bound, &address, &err), 0);
	for (size_t i = 0; i < sizeof(fillers) / sizeof(fillers[0]); i++)
		fillers[i] = address_connect(&address, &err);
	open_fd(&s, address_connect(&address, &err), false, true);
	start_call(&s);
	expect_end(&s, "accept the connection");
	assert_int_equal(s.lost, 1);
	assert_int_equal(s.lost_why.code, GRPC_UNAVAILABLE);
	for (size_t i = 0; i < sizeof(fillers) / sizeof(fillers[0]); i++)
		close(fillers[i]);
	close(listener);
	loop_free(s.loop);
}

static void a_connect_that_is_refused(void **state)
{
	char bound[ADDRESS_TEXT_MAX];
	struct address address;
	struct scene s;
	struct err err;

	(void)state;
	begin(&s);
	assert_int_equal(address_parse("127.0.0.1:0", &address, &err), 0);
	close(address_listen(&address, bound, &err));
	assert_int_equal(address_parse(bound, &address, &err), 0);
	open_fd(&s, address_connect(&address, &err), false, true);
	net_wait(s.loop, &s.closed);
	assert_int_equal(s.why.code, GRPC_UNAVAILABLE);
	assert_non_null(strstr(s.why.text, "Connection refused"));
	loop_free(s.loop);
}

/* The beginning. */

static void silence_instead_of_a_preface(void **state)
{
	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct scene s;

		begin(&s);
		s.options.preface_ms = SHORT_MS;
		open_conn(&s, kinds[i / 2], i % 2);
		s.peer.silent = true; /* even an acknowledgement would be a word */
		expect_end(&s, "HTTP/2 preface");
		assert_false(s.ready);
		net_until(s.loop, is_eof, &s);
		assert_int_equal(s.peer.frames[PEER_GOAWAY], 1);
		end(&s);
	}
}

static void a_preface_a_byte_at_a_time(void **state)
{
	static const char magic[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct scene s;

		begin(&s);
		s.options.preface_ms = SHORT_MS;
		open_conn(&s, kinds[i], true);
		s.peer.silent = true;
		for (size_t n = 0; n < sizeof(magic) - 1 && !s.closed; n++) {
			peer_put(&s.peer, magic + n, 1);
			net_run(s.loop, SHORT_MS / 8); /* each is a sign of life, and no excuse */
		}
		expect_end(&s, "HTTP/2 preface");
		end(&s);
	}
}

static void a_preface_in_time(void **state)
{
	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct scene s;

		begin(&s);
		s.options.preface_ms = SHORT_MS;
		open_conn(&s, kinds[i / 2], i % 2);
		s.peer.silent = true; /* even an acknowledgement would be a word */
		net_run(s.loop, 10);
		peer_begin(&s.peer, i % 2, PEER_WINDOW_MAX);
		s.peer.silent = false;
		expect_life(&s);
		assert_true(s.ready);
		end(&s);
	}
}

/* Header blocks. */

static const char fields[] = "\x83\x86\x84\x41\1a\x5f\x10"
			     "application/grpc";

static void a_block_that_does_not_end(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct scene s;

		begin(&s);
		s.options.headers_ms = SHORT_MS;
		open_ready(&s, kinds[i], true);
		net_wait(s.loop, &s.ready);
		s.begun_us = loop_now_us();
		peer_frame(&s.peer, PEER_HEADERS, 0, 1, fields, sizeof(fields) - 1);
		for (size_t n = 0; n < 6 && !s.closed; n++) { /* slowly is not better */
			net_run(s.loop, SHORT_MS / 4);
			peer_frame(&s.peer, PEER_CONTINUATION, 0, 1, "\x84", 0);
		}
		expect_end(&s, "header block");
		assert_int_equal(s.calls, 0);
		end(&s);
	}
}

/* The header of a frame, and no more of it. */
static void a_frame_that_does_not_end(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	s.options.headers_ms = SHORT_MS;
	open_ready(&s, TCP, true);
	net_wait(s.loop, &s.ready);
	s.begun_us = loop_now_us();
	peer_put(&s.peer, "\0\1\0\1\4\0\0\0\1\x83", 10);
	expect_end(&s, "header block");
	end(&s);
}

static void a_block_in_two_parts(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	s.options.headers_ms = SHORT_MS;
	open_ready(&s, TCP, true);
	net_wait(s.loop, &s.ready);
	peer_frame(&s.peer, PEER_HEADERS, 0, 1, fields, 4);
	net_run(s.loop, 10);
	peer_frame(&s.peer, PEER_CONTINUATION, PEER_END_HEADERS, 1, fields + 4, sizeof(fields) - 5);
	expect_life(&s);
	assert_int_equal(s.calls, 1);
	end(&s);
}

/* Output. */

static void write_much(struct scene *s, size_t len)
{
	static const uint8_t much[6 << 20];

	assert_true(len <= sizeof(much));
	assert_int_equal(rpc_call_write(s->call, (struct slice){ .data = much, .len = len }), 0);
}

static void begin_stalled(struct scene *s, enum kind kind)
{
	const int small = 16 << 10;

	begin(s);
	s->options.stall_ms = SHORT_MS;
	open_ready(s, kind, true);
	setsockopt(s->peer.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	peer_request(&s->peer, 1, "/test/Call", NULL);
	net_wait_count(s->loop, &s->calls, 1);
}

static void output_that_nobody_takes(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct scene s;

		begin_stalled(&s, kinds[i]);
		s.peer.deaf = true;
		s.begun_us = loop_now_us();
		write_much(&s, 6 << 20);
		expect_end(&s, "take what was sent");
		assert_int_equal(s.lost, 1);
		assert_int_equal(s.lost_why.code, GRPC_UNAVAILABLE);
		end(&s);
	}
}

/* Longer than a stall, and than a PING may take, but never still. */
static void output_that_is_taken_slowly(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct scene s;

		begin_stalled(&s, kinds[i]);
		s.peer.pace = 16 << 10;
		s.options.sweep_ms = SHORT_MS / 4;
		write_much(&s, 6 << 20);
		expect_life(&s);
		s.peer.pace = 0;
		end(&s);
	}
}

/* Keepalive. */

static void a_ping_that_nobody_answers(void **state)
{
	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct scene s;

		begin(&s);
		s.options.keepalive_ms = SHORT_MS;
		s.options.keepalive_timeout_ms = SHORT_MS;
		open_ready(&s, kinds[i / 2], i % 2);
		net_wait(s.loop, &s.ready);
		net_run(s.loop, 10);
		s.peer.silent = true;
		s.begun_us = loop_now_us();
		if (!(i % 2))
			start_call(&s);
		expect_end(&s, "answer a PING");
		assert_int_equal(s.peer.frames[PEER_PING], 1);
		assert_int_equal(s.lost, s.calls);
		assert_int_equal(s.lost_why.code, i % 2 ? GRPC_OK : GRPC_UNAVAILABLE);
		end(&s);
	}
}

static void pings_that_are_answered(void **state)
{
	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct scene s;

		begin(&s);
		s.options.keepalive_ms = SHORT_MS / 2;
		s.options.keepalive_timeout_ms = SHORT_MS;
		open_ready(&s, kinds[i / 2], i % 2);
		expect_life(&s);
		assert_in_range(s.peer.frames[PEER_PING], 3, 2 * LONG_MS / SHORT_MS);
		end(&s);
	}
}

static void who_speaks_is_not_asked(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	s.options.keepalive_ms = SHORT_MS;
	open_ready(&s, TCP, true);
	for (unsigned i = 0; i < 20; i++) {
		peer_frame(&s.peer, PEER_PING, 0, 0, "12345678", 8);
		net_run(s.loop, SHORT_MS / 5);
	}
	assert_int_equal(s.peer.frames[PEER_PING], 0);
	assert_false(s.closed);
	end(&s);
}

/* Lingering: after a fault the peer has a moment to read why. */

static void a_fault(struct scene *s)
{
	peer_frame(&s->peer, PEER_DATA, 0, 0, "x", 1); /* of no stream */
	s->begun_us = loop_now_us();
}

static bool has_goaway(void *cookie)
{
	return ((struct scene *)cookie)->peer.frames[PEER_GOAWAY] > 0;
}

static void who_stays_after_a_fault(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct scene s;

		begin(&s);
		s.options.linger_ms = SHORT_MS;
		open_ready(&s, kinds[i], true);
		net_wait(s.loop, &s.ready);
		a_fault(&s);
		for (unsigned n = 0; n < 100 && !s.closed; n++) { /* and goes on talking */
			peer_frame(&s.peer, PEER_PING, 0, 0, "12345678", 8);
			net_run(s.loop, 2);
		}
		net_wait(s.loop, &s.closed);
		assert_int_equal(s.peer.goaway, 1); /* PROTOCOL_ERROR */
		assert_true(s.closed_us >= s.begun_us + EARLY_MS * 1000);
		end(&s);
	}
}

static void who_leaves_after_a_fault(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct scene s;

		begin(&s);
		open_ready(&s, kinds[i], true);
		net_wait(s.loop, &s.ready);
		a_fault(&s);
		net_until(s.loop, has_goaway, &s);
		assert_false(s.closed);
		peer_close(&s.peer);
		net_wait(s.loop, &s.closed);
		assert_true(s.closed_us < s.begun_us + s.options.linger_ms * 1000);
		end(&s);
	}
}

/* Receive blocks: all of the loop's are held by somebody else for a while. */

static void a_read_that_finds_no_block(void **state)
{
	struct block **held = calloc(LOOP_BLOCKS_MAX + 1, sizeof(*held));
	size_t count = 0;
	struct scene s;

	(void)state;
	assert_non_null(held);
	begin(&s);
	s.options.starve_ms = SHORT_MS / 4;
	open_ready(&s, TCP, true);
	peer_request(&s.peer, 1, "/test/Call", NULL);
	net_wait_count(s.loop, &s.calls, 1);
	/* The block that is being filled is in nobody's hands: its last bytes first. */
	size_t room;
	struct slice rest = { 0 };
	if (loop_recv_reserve(s.loop, LOOP_BLOCK_SIZE, &room) != NULL)
		rest = loop_recv_take(s.loop, room);
	while ((held[count] = block_get(loop_pool(s.loop))) != NULL)
		count++;
	peer_message(&s.peer, 0, 1, "hello");
	net_run(s.loop, SHORT_MS);
	assert_int_equal(s.received, 0);
	assert_int_not_equal(lines_count(lines, "event=receive_blocks_exhausted"), 0);
	while (count > 0)
		block_unref(held[--count]);
	slice_release(&rest);
	net_run(s.loop, SHORT_MS);
	assert_int_equal(s.received, 10);
	assert_false(s.closed);
	free(held);
	end(&s);
}

/* Small frames: a turn has its budget of them, and then others have theirs. */

struct neighbour {
	struct scene *scene;
	uint64_t seen, most; /* what was received between two of its turns */
};

static void on_neighbour(void *cookie, unsigned events)
{
	struct neighbour *n = cookie;

	(void)events;
	if (n->scene->received - n->seen > n->most)
		n->most = n->scene->received - n->seen;
	n->seen = n->scene->received;
}

#define SMALL_FRAMES 200000u

static bool has_all(void *cookie)
{
	struct scene *s = cookie;

	return s->received == SMALL_FRAMES || s->closed;
}

static void many_small_frames_leave_turns_to_others(void **state)
{
	struct neighbour neighbour = { 0 };
	struct watch *watch;
	struct scene s;
	struct err err;
	int pair[2];

	(void)state;
	begin(&s);
	neighbour.scene = &s;
	open_ready(&s, TCP, true);
	peer_request(&s.peer, 1, "/test/Call", NULL);
	net_wait_count(s.loop, &s.calls, 1);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(write(pair[1], "x", 1), 1); /* ready, always */
	watch = watch_create(s.loop, pair[0], on_neighbour, &neighbour, &err);
	assert_non_null(watch);
	watch_want(watch, WATCH_READ);
	for (size_t i = 0; i < SMALL_FRAMES; i++)
		peer_frame(&s.peer, PEER_DATA, 0, 1, "x", 1);
	net_until(s.loop, has_all, &s);
	assert_false(s.closed);
	/* A turn can pass its budget by what the library is given at once. */
	assert_in_range(neighbour.most, 1, SMALL_FRAMES / 4);
	watch_free(watch);
	close(pair[0]);
	close(pair[1]);
	end(&s);
}

static int setup(void **state)
{
	int result = net_setup(state);

	lines = lines_open();
	log_setup(lines, LOG_FORMAT_LOGFMT, LOG_LEVEL_DEBUG);
	return result;
}

static int teardown(void **state)
{
	close(lines);
	return net_teardown(state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_connect_that_nobody_answers),
		TEST(a_connect_that_is_refused),
		TEST(silence_instead_of_a_preface),
		TEST(a_preface_a_byte_at_a_time),
		TEST(a_preface_in_time),
		TEST(a_block_that_does_not_end),
		TEST(a_frame_that_does_not_end),
		TEST(a_block_in_two_parts),
		TEST(output_that_nobody_takes),
		TEST(output_that_is_taken_slowly),
		TEST(a_ping_that_nobody_answers),
		TEST(pings_that_are_answered),
		TEST(who_speaks_is_not_asked),
		TEST(who_stays_after_a_fault),
		TEST(who_leaves_after_a_fault),
		TEST(a_read_that_finds_no_block),
		TEST(many_small_frames_leave_turns_to_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
