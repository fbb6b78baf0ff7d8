/*
 * The limits of a connection, crossed by a peer made by hand: it writes frames to a socket
 * and looks at what comes back. Waits are shortened by the connection's options.
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

#include "base/log.h"
#include "base/loop.h"
#include "rpc/conn.h"
#include "rpc/limits.h"
#include "rpc/meta.h"
#include "rpc/server.h"
#include "support/leak.h"

#define SCRIPT_SIZE ((size_t)512 << 10)
#define GUARD_MS    10000
#define TICK_MS     2

enum frame_type {
	DATA,
	HEADERS,
	PRIORITY,
	RST_STREAM,
	SETTINGS,
	PING = 6,
	GOAWAY,
	WINDOW_UPDATE,
	CONTINUATION,
	UNKNOWN = 0xfa
};
enum { FLAG_ACK = 1, FLAG_END_HEADERS = 4 };
enum { NO_ERROR = 0, PROTOCOL_ERROR = 1, FRAME_SIZE_ERROR = 6, ENHANCE_YOUR_CALM = 11 };

struct scene {
	struct loop *loop;
	struct timer *guard, *tick;
	struct rpc_options options;
	struct rpc_conn *conn; /* NULL: closed */
	struct err why;
	unsigned floods;
	uint64_t closed_ms, goaway_ms;

	int fd; /* the peer's; -1: closed */
	uint8_t *script;
	size_t len, at;
	bool deaf;  /* does not read */
	bool stays; /* does not close after a GOAWAY */
	uint8_t got[8192];
	size_t got_len;
	int goaway; /* its code; -1: none came */
	unsigned pings;
};

/* The peer's side. */

static void put(struct scene *s, const void *bytes, size_t len)
{
	assert_true(s->len + len <= SCRIPT_SIZE);
	memcpy(s->script + s->len, bytes, len);
	s->len += len;
}

static void put_head(struct scene *s, size_t len, unsigned type, unsigned flags, uint32_t stream)
{
	const uint8_t head[9] = { (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len,
		(uint8_t)type, (uint8_t)flags, (uint8_t)(stream >> 24), (uint8_t)(stream >> 16),
		(uint8_t)(stream >> 8), (uint8_t)stream };

	put(s, head, sizeof(head));
}

static void put_frame(struct scene *s, unsigned type, unsigned flags, uint32_t stream,
    const void *payload, size_t len)
{
	put_head(s, len, type, flags, stream);
	put(s, payload, len);
}

static void put_preface(struct scene *s)
{
	static const char magic[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

	put(s, magic, sizeof(magic) - 1);
	put_frame(s, SETTINGS, 0, 0, "", 0);
}

/* POST / of application/grpc (RFC 7541, appendix A has the numbers). */
static const char call_fields[] = "\x83\x86\x84\x41\x01"
				  "a"
				  "\x5f\x10"
				  "application/grpc";

static void put_call(struct scene *s, uint32_t stream)
{
	put_frame(s, HEADERS, FLAG_END_HEADERS, stream, call_fields, sizeof(call_fields) - 1);
}

static void read_frames(struct scene *s)
{
	while (s->got_len >= 9) {
		const uint8_t *p = s->got;
		size_t len = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];

		if (s->got_len < 9 + len)
			return;
		if (p[3] == GOAWAY) {
			s->goaway = p[9 + 7];
			s->goaway_ms = loop_now_us() / 1000;
		}
		s->pings += p[3] == PING && !(p[4] & FLAG_ACK) && memcmp(p + 9, "trip", 5) != 0;
		s->got_len -= 9 + len;
		memmove(s->got, s->got + 9 + len, s->got_len);
	}
}

static void peer_close(struct scene *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

static void peer_read(struct scene *s)
{
	ssize_t n;

	while ((n = read(s->fd, s->got + s->got_len, sizeof(s->got) - s->got_len)) > 0) {
		s->got_len += (size_t)n;
		read_frames(s);
	}
	if ((n == 0 || s->goaway >= 0) && !s->stays)
		peer_close(s);
}

static void on_tick(void *cookie)
{
	struct scene *s = cookie;
	ssize_t n;

	if (s->fd < 0)
		return;
	while (s->at < s->len && (n = write(s->fd, s->script + s->at, s->len - s->at)) > 0)
		s->at += (size_t)n;
	if (!s->deaf)
		peer_read(s);
	timer_start(s->tick, TICK_MS);
}

/* Our side. */

static void call_closed(void *cookie, const struct err *why)
{
	(void)cookie;
	(void)why;
}

static void on_call(void *cookie, struct rpc_call *call)
{
	static const struct rpc_call_ops ops = { .closed = call_closed };

	(void)cookie;
	rpc_call_bind(call, &ops, NULL); /* and is never answered */
}

static void on_flood(void *cookie)
{
	((struct scene *)cookie)->floods++;
}

static void on_closed(void *cookie, const struct err *why)
{
	struct scene *s = cookie;

	s->conn = NULL;
	s->why = *why;
	s->closed_ms = loop_now_us() / 1000;
	loop_stop(s->loop);
}

static void on_guard(void *cookie)
{
	loop_stop(((struct scene *)cookie)->loop);
}

static const struct conn_ops ops = { .call = on_call, .flood = on_flood, .closed = on_closed };

static int setup(void **state)
{
	loop_ignore_sigpipe();
	loop_free(loop_create(0, NULL));
	log_setup(STDERR_FILENO, LOG_FORMAT_LOGFMT, LOG_LEVEL_ERROR);
	*state = leak_begin();
	return 0;
}

static int teardown(void **state)
{
	return leak_end(*state);
}

static void begin(struct scene *s)
{
	memset(s, 0, sizeof(*s));
	s->goaway = s->fd = -1;
	s->options = rpc_options_default();
	s->script = malloc(SCRIPT_SIZE);
	s->loop = loop_create(0, NULL);
	assert_non_null(s->script);
	s->guard = timer_create_on(s->loop, on_guard, s);
	s->tick = timer_create_on(s->loop, on_tick, s);
}

/* The peer plays its script until our side has closed the connection. */
static void play(struct scene *s)
{
	const int small =
	    1; /* as small as the system allows: a peer that reads nothing shows soon */
	struct err err;
	int pair[2];

	assert_int_equal(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	if (s->deaf)
		setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	s->fd = pair[1];
	s->conn = conn_create(s->loop,
	    &(struct conn_options){
		.fd = pair[0],
		.is_server = true,
		.options = &s->options,
		.ops = &ops,
		.cookie = s,
	    },
	    &err);
	assert_non_null(s->conn);
	timer_start(s->guard, GUARD_MS);
	timer_start(s->tick, 0);
	loop_run(s->loop);
	assert_null(s->conn);
}

static void end(struct scene *s)
{
	peer_close(s);
	timer_free(s->guard);
	timer_free(s->tick);
	loop_free(s->loop);
	free(s->script);
}

static void assert_why(const struct scene *s, const char *part)
{
	if (strstr(s->why.text, part) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", part, s->why.text);
}

static void plays_flood(struct scene *s, const char *of)
{
	play(s);
	assert_why(s, of);
	assert_int_equal(s->why.code, GRPC_RESOURCE_EXHAUSTED);
	assert_int_equal(s->floods, 1);
	if (!s->deaf)
		assert_int_equal(s->goaway, ENHANCE_YOUR_CALM);
	end(s);
}

/* Floods. */

#define BURST 50

static void begin_flood(struct scene *s)
{
	begin(s);
	s->options.flood_burst = BURST;
	s->options.flood_rate = 1;
	put_preface(s);
}

static void frames_that_mean_nothing_are_counted(void **state)
{
	static const struct {
		unsigned type;
		uint32_t stream;
		const char *payload;
		size_t len;
		const char *of;
	} kinds[] = {
		{ SETTINGS, 0, "", 0, "SETTINGS" },
		{ PING, 0, "12345678", 8, "PING" },
		{ PRIORITY, 1, "\0\0\0\0\x10", 5, "PRIORITY" },
		{ WINDOW_UPDATE, 0, "\0\0\0\1", 4, "WINDOW_UPDATE" },
		{ DATA, 1, "", 0, "empty DATA" },
		{ UNKNOWN, 0, "", 0, "mean nothing" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct scene s;

		begin_flood(&s);
		if (kinds[i].type == DATA)
			put_call(&s, 1);
		for (size_t n = 0; n < (size_t)4 * BURST; n++)
			put_frame(
			    &s, kinds[i].type, 0, kinds[i].stream, kinds[i].payload, kinds[i].len);
		plays_flood(&s, kinds[i].of);
	}
}

static void rapid_resets_are_counted(void **state)
{
	struct scene s;

	(void)state;
	begin_flood(&s);
	for (uint32_t n = 0; n < 4 * BURST; n++) {
		put_call(&s, 2 * n + 1);
		put_frame(&s, RST_STREAM, 0, 2 * n + 1, "\0\0\0\x08", 4);
	}
	plays_flood(&s, "RST_STREAM");
}

/* A name in capitals is none of HTTP/2's: the stream has to be reset. */
static void resets_that_we_are_made_to_send_are_counted(void **state)
{
	struct scene s;

	(void)state;
	begin_flood(&s);
	for (uint32_t n = 0; n < 4 * BURST; n++)
		put_frame(&s, HEADERS, FLAG_END_HEADERS, 2 * n + 1, "\0\1X\1y", 5);
	plays_flood(&s, "reset");
}

static void answers_that_are_not_read_have_an_end(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	put_preface(&s);
	s.deaf = true;
	for (size_t n = 0; n < 2000; n++)
		put_frame(&s, PING, 0, 0, "12345678", 8);
	plays_flood(&s, "answered");
}

static void settings_have_an_end(void **state)
{
	uint8_t entries[33 * 6] = { 0 };
	struct scene s;

	(void)state;
	begin(&s);
	put_preface(&s);
	for (size_t i = 0; i < 33; i++)
		entries[6 * i + 1] = 1; /* HEADER_TABLE_SIZE = 0 */
	put_frame(&s, SETTINGS, 0, 0, entries, sizeof(entries));
	play(&s);
	assert_int_equal(s.goaway, ENHANCE_YOUR_CALM);
	end(&s);
}

/* Header blocks. */

static void a_small_block_of_large_fields(void **state)
{
	/* To be remembered: x = 4000 bytes... */
	static const uint8_t begins[] = { 0x40, 1, 'x', 0x7f, 0xa1, 0x1e };
	uint8_t block[sizeof(begins) + 4000 + 20];
	struct scene s;

	(void)state;
	memcpy(block, begins, sizeof(begins));
	memset(block + sizeof(begins), 'v', 4000);
	memset(block + sizeof(begins) + 4000, 0xbe, 20); /* ...and again and again */
	begin(&s);
	put_preface(&s);
	put_frame(&s, HEADERS, FLAG_END_HEADERS, 1, block, sizeof(block));
	plays_flood(&s, "header fields");
}

static void a_header_frame_that_is_too_long(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	put_preface(&s);
	put_head(&s, RPC_META_BYTES_MAX + 1, HEADERS, FLAG_END_HEADERS, 1);
	play(&s);
	assert_int_equal(s.goaway, FRAME_SIZE_ERROR);
	end(&s);
}

static void continuations_have_an_end(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	put_preface(&s);
	put_frame(&s, HEADERS, 0, 1, "\x84", 1);
	for (size_t n = 0; n < 20; n++)
		put_frame(&s, CONTINUATION, 0, 1, "\x84", 1);
	play(&s);
	assert_why(&s, "CONTINUATION");
	assert_int_equal(s.goaway, PROTOCOL_ERROR);
	end(&s);
}

/* Streams and connections. */

static void one_stream_too_many(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	s.options.max_streams = 2;
	put_preface(&s);
	put_frame(&s, SETTINGS, FLAG_ACK, 0, "", 0);
	for (uint32_t n = 0; n < 3; n++)
		put_call(&s, 2 * n + 1);
	play(&s);
	assert_int_equal(s.goaway, PROTOCOL_ERROR);
	end(&s);
}

struct servers {
	struct loop *loop;
	struct rpc_server *server;
	int peers[3];
};

static void on_drained(void *cookie)
{
	loop_stop(((struct servers *)cookie)->loop);
}

/* All three are in the backlog when the loop begins. */
static void on_connected(void *cookie)
{
	struct servers *v = cookie;
	struct rpc_server_stats stats;
	char byte;

	assert_int_equal(read(v->peers[2], &byte, 1), 0);
	rpc_server_stats(v->server, &stats);
	assert_int_equal(stats.refused, 1);
	assert_int_equal(stats.open_connections, 2);
	for (size_t i = 0; i < 3; i++)
		close(v->peers[i]);
	rpc_server_drain(v->server, 1000, on_drained, v);
}

static void one_connection_too_many(void **state)
{
	struct servers v = { .loop = loop_create(0, NULL) };
	const struct rpc_server_options o = {
		.loops = &v.loop, .loop_count = 1, .max_connections = 2
	};
	struct timer *later = timer_create_on(v.loop, on_connected, &v);
	char bound[ADDRESS_TEXT_MAX];
	struct address address;
	struct err err;

	(void)state;
	log_setup(STDERR_FILENO, LOG_FORMAT_LOGFMT, LOG_LEVEL_ERROR);
	v.server = rpc_server_create(&o, &err);
	assert_non_null(v.server);
	assert_int_equal(
	    rpc_server_listen(v.server, "127.0.0.1:0", NULL, bound, sizeof(bound), &err), 0);
	assert_int_equal(address_parse(bound, &address, &err), 0);
	for (size_t i = 0; i < 3; i++) {
		v.peers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(
		    connect(v.peers[i], (struct sockaddr *)&address.sa, address.sa_len), 0);
	}
	timer_start(later, 50);
	loop_run(v.loop);
	timer_free(later);
	rpc_server_free(v.server);
	loop_free(v.loop);
}

/* Waits. */

#define SHORT_MS 40u

static void a_peer_that_says_nothing(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	s.options.preface_ms = SHORT_MS;
	play(&s);
	assert_why(&s, "preface");
	assert_int_equal(s.goaway, NO_ERROR);
	end(&s);
}

static void a_header_block_that_does_not_end(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	s.options.headers_ms = SHORT_MS;
	put_preface(&s);
	put_frame(&s, HEADERS, 0, 1, "\x84", 1);
	play(&s);
	assert_why(&s, "header block");
	end(&s);
}

static void a_peer_that_does_not_answer(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	s.options.keepalive_ms = SHORT_MS;
	s.options.keepalive_timeout_ms = SHORT_MS;
	put_preface(&s);
	play(&s);
	assert_why(&s, "PING");
	assert_int_equal(s.pings, 1);
	end(&s);
}

static void a_peer_that_takes_nothing(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	s.options.stall_ms = SHORT_MS;
	s.deaf = true;
	put_preface(&s);
	for (size_t n = 0; n < 900; n++)
		put_frame(&s, PING, 0, 0, "12345678", 8);
	play(&s);
	assert_why(&s, "take what was sent");
	end(&s);
}

static void a_peer_that_stays_after_a_fault(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	s.options.linger_ms = SHORT_MS;
	s.stays = true;
	put_preface(&s);
	put_head(&s, RPC_META_BYTES_MAX + 1, HEADERS, FLAG_END_HEADERS, 1);
	play(&s);
	assert_int_equal(s.goaway, FRAME_SIZE_ERROR);
	assert_true(s.closed_ms >= s.goaway_ms + SHORT_MS / 2);
	end(&s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(frames_that_mean_nothing_are_counted),
		TEST(rapid_resets_are_counted),
		TEST(resets_that_we_are_made_to_send_are_counted),
		TEST(answers_that_are_not_read_have_an_end),
		TEST(settings_have_an_end),
		TEST(a_small_block_of_large_fields),
		TEST(a_header_frame_that_is_too_long),
		TEST(continuations_have_an_end),
		TEST(one_stream_too_many),
		TEST(one_connection_too_many),
		TEST(a_peer_that_says_nothing),
		TEST(a_header_block_that_does_not_end),
		TEST(a_peer_that_does_not_answer),
		TEST(a_peer_that_takes_nothing),
		TEST(a_peer_that_stays_after_a_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
