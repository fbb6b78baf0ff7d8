/*
 * Calls over sockets: how they are made, answered, cancelled, cut short by deadlines, and
 * refused. Both ends are real where both can say what is tested; what they would never say
 * is said by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "net.h"
#include "peer.h"
#include "rpc/address.h"
#include "support/leak.h"

#define ANY "127.0.0.1:0"

enum { H2_NO_ERROR = 0, H2_CANCEL = 8 };

struct scene {
	struct net net;
	struct net_client client;
	struct net_call call;
};

static void begin(struct scene *s)
{
	net_open(&s->net, ANY, NULL, NULL);
	net_connect(&s->net, &s->client, NULL);
}

static void end(struct scene *s)
{
	net_hang_up(&s->client);
	net_close(&s->net);
}

/* The whole life of a call whose request is one message. */
static void ask(struct scene *s, const char *path, const struct rpc_meta *meta, const char *text)
{
	net_start(&s->client, &s->call, path, meta, 0);
	net_ask(&s->call, text, strlen(text));
	net_wait(s->net.loop, &s->call.closed);
}

/* Answers. */

static void a_message_there_and_back(void **state)
{
	struct scene s;
	struct err err;
	char reply[64];

	(void)state;
	begin(&s);
	assert_int_equal(net_unary(&s.client, "/test/Echo", "hello", 5, reply, &err), GRPC_OK);
	assert_string_equal(reply, "hello");
	assert_int_equal(net_unary(&s.client, "/test/Echo", "", 0, reply, &err), GRPC_OK);
	assert_string_equal(reply, "");
	end(&s);
}

static void over_a_unix_socket(void **state)
{
	struct net net;
	struct net_client client;
	struct err err;
	char address[160], reply[64];

	snprintf(address, sizeof(address), "unix:%s", leak_path(*state, "socket"));
	net_open(&net, address, NULL, NULL);
	net_connect(&net, &client, NULL);
	assert_int_equal(net_unary(&client, "/test/Echo", "hello", 5, reply, &err), GRPC_OK);
	net_echo_many(&client, 3 << 20);
	net_hang_up(&client);
	net_close(&net);
}

static void a_method_that_is_not_there(void **state)
{
	struct scene s;
	struct err err;
	char reply[64];

	(void)state;
	begin(&s);
	assert_int_equal(
	    net_unary(&s.client, "/test/None", "", 0, reply, &err), GRPC_UNIMPLEMENTED);
	assert_non_null(strstr(err.text, "/test/None"));
	assert_int_equal(net_unary(&s.client, "/test/Echo", "x", 1, reply, &err), GRPC_OK);
	end(&s);
}

/* Statuses. */

static void say(struct scene *s, enum grpc_code code, const char *text)
{
	struct rpc_meta meta;
	struct err err;
	char number[4];

	rpc_meta_init(&meta);
	snprintf(number, sizeof(number), "%d", (int)code);
	assert_int_equal(rpc_meta_add_text(&meta, "code", number, &err), 0);
	assert_int_equal(rpc_meta_add(&meta, "text-bin", text, strlen(text), &err), 0);
	ask(s, "/test/Say", &meta, "");
	rpc_meta_free(&meta);
}

static void every_code_and_its_text_arrive(void **state)
{
	static const char *const texts[] = { "plain", "", " spaces at both ends ", " ", "100%",
		"%41", "two\nlines\r\n\ttab", "gr\xc3\xbc\xc3\x9f", "\x7f\x01", "a  b" };
	struct scene s;

	(void)state;
	begin(&s);
	for (unsigned code = 1; code <= GRPC_UNAUTHENTICATED; code++) {
		say(&s, (enum grpc_code)code, "why");
		assert_int_equal(s.call.status.code, code);
		net_call_free(&s.call);
	}
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char text[64];

		snprintf(text, sizeof(text), "%s", texts[i]);
		say(&s, GRPC_NOT_FOUND, text);
		assert_true(s.call.ended);
		assert_int_equal(s.call.status.code, GRPC_NOT_FOUND);
		assert_int_equal(s.call.why.code, GRPC_OK);
		/* What is not printable is made so by whoever shows it. */
		if (strpbrk(text, "\x7f\x01\n\r\t") == NULL)
			assert_string_equal(s.call.status.text, text);
		net_call_free(&s.call);
	}
	end(&s);
}

/* Metadata. */

static const char *value_of(const struct rpc_meta *meta, const char *name)
{
	const char *value = rpc_meta_get(meta, name);

	if (value == NULL)
		fail_msg("no %s among %zu", name, meta->count);
	return value;
}

static void metadata_there_and_back(void **state)
{
	static const uint8_t bytes[] = { 0, 255, 1, ',', '=', 0, 128 };
	struct rpc_meta meta;
	struct scene s;
	struct err err;

	(void)state;
	begin(&s);
	rpc_meta_init(&meta);
	assert_int_equal(rpc_meta_add_text(&meta, "key", "a value, with: signs", &err), 0);
	assert_int_equal(rpc_meta_add(&meta, "some-bin", bytes, sizeof(bytes), &err), 0);
	assert_int_equal(rpc_meta_add(&meta, "none-bin", "", 0, &err), 0);
	net_start(&s.client, &s.call, "/test/Meta", &meta, 0);
	net_wait(s.net.loop, &s.call.headers);
	rpc_call_end(s.call.call, NULL);
	net_expect(&s.net, &s.call, GRPC_OK, NULL);
	const struct rpc_meta *const both[] = { &s.call.head, &s.call.trailers };
	for (size_t i = 0; i < 2; i++) {
		assert_string_equal(value_of(both[i], "key"), "a value, with: signs");
		assert_memory_equal(value_of(both[i], "some-bin"), bytes, sizeof(bytes));
		assert_string_equal(value_of(both[i], "none-bin"), "");
	}
	rpc_meta_free(&meta);
	net_call_free(&s.call);
	end(&s);
}

/* Refused before they begin, by hand. */

struct hand {
	struct net net;
	struct peer peer;
	uint32_t id; /* of the last call */
};

static void begin_by_hand(struct hand *h)
{
	net_open(&h->net, ANY, NULL, NULL);
	peer_connect(&h->peer, h->net.loop, h->net.bound, NULL);
	peer_begin(&h->peer, true, PEER_WINDOW_MAX);
	h->id = (uint32_t)-1;
}

static void end_by_hand(struct hand *h)
{
	peer_free(&h->peer);
	net_close(&h->net);
}

static bool is_answered(void *cookie)
{
	struct hand *h = cookie;
	struct peer_stream *s = peer_stream(&h->peer, h->id);

	return s->ended || s->was_reset || h->peer.eof;
}

static const char *answer(struct hand *h)
{
	net_until(h->net.loop, is_answered, h);
	assert_false(h->peer.eof);
	return peer_stream(&h->peer, h->id)->head;
}

static void expect_part(const char *head, const char *part)
{
	if (strstr(head, part) == NULL)
		fail_msg("\"%s\" is not in:\n%s", part, head);
}

static uint32_t request(struct hand *h, const char *path, const char *name, const char *value)
{
	const char *const more[] = { name, value, NULL };

	h->id += 2;
	peer_request(&h->peer, h->id, path, name != NULL ? more : NULL);
	return h->id;
}

static void trailers_only(void **state)
{
	struct hand h;

	(void)state;
	begin_by_hand(&h);
	request(&h, "/test/None", NULL, NULL);
	const char *head = answer(&h);
	expect_part(head, ":status: 200\ncontent-type: application/grpc\n");
	expect_part(head, "grpc-status: 12\n");
	assert_int_equal(peer_stream(&h.peer, 1)->blocks, 1);
	end_by_hand(&h);
}

static void compressed_calls_are_refused(void **state)
{
	struct hand h;

	(void)state;
	begin_by_hand(&h);
	request(&h, "/test/Echo", "grpc-encoding", "gzip");
	const char *head = answer(&h);
	expect_part(head, "grpc-status: 12\n");
	expect_part(head, "grpc-accept-encoding: identity\n");
	request(&h, "/test/Echo", "grpc-encoding", "identity");
	peer_message(&h.peer, PEER_END_STREAM, h.id, "x");
	expect_part(answer(&h), "grpc-status: 0\n");
	end_by_hand(&h);
}

static void a_compressed_message_is_refused(void **state)
{
	struct hand h;

	(void)state;
	begin_by_hand(&h);
	request(&h, "/test/Echo", NULL, NULL);
	peer_frame(&h.peer, PEER_DATA, PEER_END_STREAM, h.id, "\1\0\0\0\1x", 6);
	expect_part(answer(&h), "grpc-status: 12\n");
	request(&h, "/test/Echo", NULL, NULL);
	peer_frame(&h.peer, PEER_DATA, PEER_END_STREAM, h.id, "\2\0\0\0\1x", 6);
	expect_part(answer(&h), "grpc-status: 13\n");
	end_by_hand(&h);
}

static void one_message_is_what_a_unary_call_has(void **state)
{
	struct hand h;

	(void)state;
	begin_by_hand(&h);
	request(&h, "/test/Echo", NULL, NULL);
	peer_frame(&h.peer, PEER_DATA, PEER_END_STREAM, h.id, "", 0);
	expect_part(answer(&h), "grpc-status: 3\n");
	expect_part(answer(&h), "none came");
	request(&h, "/test/Echo", NULL, NULL);
	peer_frame(&h.peer, PEER_DATA, PEER_END_STREAM, h.id, "\0\0\0\0\2x", 6);
	expect_part(answer(&h), "grpc-status: 3\n");
	expect_part(answer(&h), "part of one");
	request(&h, "/test/Echo", NULL, NULL);
	peer_message(&h.peer, 0, h.id, "one");
	peer_message(&h.peer, 0, h.id, "two");
	expect_part(answer(&h), "grpc-status: 3\n");
	expect_part(answer(&h), "a second came");
	end_by_hand(&h);
}

static void who_speaks_no_grpc_is_told_so(void **state)
{
	static const char *const get[] = { ":method", "GET", ":scheme", "http", ":path", "/",
		":authority", "hand", NULL };
	static const char *const web[] = { ":method", "POST", ":scheme", "http", ":path",
		"/test/Echo", ":authority", "hand", "content-type", "application/grpc-web", NULL };
	struct hand h;

	(void)state;
	begin_by_hand(&h);
	h.id = 1;
	peer_headers(&h.peer, PEER_END_STREAM, h.id, get);
	expect_part(answer(&h), ":status: 405\n");
	h.id = 3;
	peer_headers(&h.peer, PEER_END_STREAM, h.id, web);
	expect_part(answer(&h), ":status: 415\n");
	end_by_hand(&h);
}

/* Deadlines. */

static void a_malformed_timeout_is_refused(void **state)
{
	static const char *const bad[] = { "", "1", "S", "-1S", "1.5S", "123456789S", "1 S", "1s" };
	struct hand h;

	(void)state;
	begin_by_hand(&h);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		request(&h, "/test/Hold", "grpc-timeout", bad[i]);
		expect_part(answer(&h), "grpc-status: 3\n");
		expect_part(answer(&h), "grpc-timeout");
	}
	assert_int_equal(h.net.opened, 0);
	end_by_hand(&h);
}

static void no_time_at_all(void **state)
{
	struct hand h;

	(void)state;
	begin_by_hand(&h);
	request(&h, "/test/Hold", "grpc-timeout", "0m");
	expect_part(answer(&h), "grpc-status: 4\n");
	assert_int_equal(h.net.opened, h.net.lost);
	end_by_hand(&h);
}

static void the_servers_deadline_passes(void **state)
{
	struct hand h;

	(void)state;
	begin_by_hand(&h);
	request(&h, "/test/Hold", "grpc-timeout", "30m");
	expect_part(answer(&h), "grpc-status: 4\n");
	assert_int_equal(h.net.opened, 1);
	net_wait_count(h.net.loop, &h.net.lost, 1);
	assert_int_equal(h.net.why.code, GRPC_DEADLINE_EXCEEDED);
	end_by_hand(&h);
}

static void a_method_has_a_time_limit(void **state)
{
	struct hand h;

	(void)state;
	begin_by_hand(&h);
	request(&h, "/test/Brief", NULL, NULL);
	expect_part(answer(&h), "grpc-status: 4\n");
	request(&h, "/test/Brief", "grpc-timeout", "99999999H");
	expect_part(answer(&h), "grpc-status: 4\n");
	assert_int_equal(h.net.lost, 2);
	end_by_hand(&h);
}

/* A server that answers nothing, made by hand, so that only the client has a clock. */
struct mute {
	struct net net; /* for its loop and its count of connections */
	struct peer peer;
	struct net_client client;
	struct net_call call;
	int listener;
};

static void begin_mute(struct mute *m)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	char text[ADDRESS_TEXT_MAX], url[ADDRESS_TEXT_MAX + 8];
	struct address address;
	struct err err;

	net_open(&m->net, ANY, NULL, NULL);
	assert_int_equal(address_parse(ANY, &address, &err), 0);
	m->listener = address_listen(&address, text, &err);
	assert_true(m->listener >= 0);
	snprintf(url, sizeof(url), "http://%s", text);
	net_dial(&m->net, &m->client, url, NULL);
	net_run(m->net.loop, 5);
	int fd = accept4(m->listener, (struct sockaddr *)&sa, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(fd >= 0);
	peer_open(&m->peer, m->net.loop, fd, NULL);
	peer_begin(&m->peer, false, PEER_WINDOW_MAX);
	net_wait(m->net.loop, &m->client.ready);
}

static void end_mute(struct mute *m)
{
	net_hang_up(&m->client);
	peer_free(&m->peer);
	close(m->listener);
	net_close(&m->net);
}

static bool is_asked(void *cookie)
{
	struct mute *m = cookie;

	return m->peer.streams[0].blocks > 0;
}

static bool is_let_go(void *cookie)
{
	struct mute *m = cookie;

	return m->peer.streams[0].was_reset;
}

static void the_clients_deadline_passes(void **state)
{
	struct mute m;

	(void)state;
	begin_mute(&m);
	net_start(&m.client, &m.call, "/test/Echo", NULL, 30);
	net_expect(&m.net, &m.call, GRPC_DEADLINE_EXCEEDED, "deadline");
	assert_false(m.call.ended);
	net_until(m.net.loop, is_let_go, &m);
	assert_int_equal(m.peer.streams[0].reset, H2_CANCEL);
	expect_part(m.peer.streams[0].head, "grpc-timeout: 30m\n");
	net_call_free(&m.call);
	end_mute(&m);
}

static void a_call_in_time_is_left_alone(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	net_start(&s.client, &s.call, "/test/Echo", NULL, 60);
	net_ask(&s.call, "x", 1);
	net_expect(&s.net, &s.call, GRPC_OK, NULL);
	net_run(s.net.loop, 120);
	assert_int_equal(s.call.why.code, GRPC_OK);
	net_call_free(&s.call);
	end(&s);
}

/* Endings that are not the usual one. */

static void a_cancelled_call(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	net_start(&s.client, &s.call, "/test/Hold", NULL, 0);
	net_wait_count(s.net.loop, &s.net.opened, 1);
	rpc_call_cancel(s.call.call, NULL);
	s.call.call = NULL;
	net_wait_count(s.net.loop, &s.net.lost, 1);
	assert_int_equal(s.net.why.code, GRPC_CANCELLED);
	assert_false(s.call.ended || s.call.closed);
	net_call_free(&s.call);
	end(&s);
}

static void the_server_cancels(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	net_start(&s.client, &s.call, "/test/Hold", NULL, 0);
	net_wait_count(s.net.loop, &s.net.opened, 1);
	rpc_call_cancel(s.net.held, NULL);
	net_expect(&s.net, &s.call, GRPC_CANCELLED, NULL);
	assert_false(s.call.ended);
	net_call_free(&s.call);
	end(&s);
}

static void an_early_answer_is_no_error(void **state)
{
	static uint8_t much[1 << 20];
	struct scene s;

	(void)state;
	begin(&s);
	net_start(&s.client, &s.call, "/test/Early", NULL, 0);
	for (unsigned i = 0; i < 7; i++) /* more than the window of a call that is not read */
		assert_int_equal(rpc_call_copy(s.call.call, much, sizeof(much)), 0);
	net_expect(&s.net, &s.call, GRPC_OK, NULL);
	assert_true(s.call.ended);
	assert_int_equal(s.call.why.code, GRPC_OK);
	assert_memory_equal(s.call.got, "\0\0\0\0\6enough", 11);
	net_call_free(&s.call);
	end(&s);
}

static void an_early_answer_lets_go_of_the_stream(void **state)
{
	struct hand h;

	(void)state;
	begin_by_hand(&h);
	request(&h, "/test/Early", NULL, NULL);
	peer_message(&h.peer, 0, h.id, "and more to come");
	expect_part(answer(&h), "grpc-status: 0\n");
	struct peer_stream *s = peer_stream(&h.peer, h.id);
	net_wait(h.net.loop, &s->was_reset);
	assert_int_equal(s->reset, H2_NO_ERROR);
	assert_true(s->ended);
	end_by_hand(&h);
}

static void the_client_vanishes(void **state)
{
	struct hand h;

	(void)state;
	begin_by_hand(&h);
	request(&h, "/test/Hold", NULL, NULL);
	request(&h, "/test/Stream", NULL, NULL);
	peer_message(&h.peer, 0, h.id, "half a conversation");
	net_wait_count(h.net.loop, &h.net.opened, 1);
	peer_close(&h.peer);
	net_wait_count(h.net.loop, &h.net.lost, 1);
	assert_int_equal(h.net.why.code, GRPC_UNAVAILABLE);
	end_by_hand(&h);
}

static void the_server_vanishes(void **state)
{
	struct mute m;

	(void)state;
	begin_mute(&m);
	net_start(&m.client, &m.call, "/test/Echo", NULL, 0);
	net_until(m.net.loop, is_asked, &m);
	peer_close(&m.peer);
	net_expect(&m.net, &m.call, GRPC_UNAVAILABLE, "closed");
	assert_int_equal(m.client.why.code, GRPC_UNAVAILABLE);
	net_call_free(&m.call);
	end_mute(&m);
}

/* Answers by hand. */

static void answered(
    struct mute *m, const char *const *head, const char *const *trailers, enum grpc_code code)
{
	begin_mute(m);
	net_start(&m->client, &m->call, "/test/Echo", NULL, 0);
	rpc_call_end(m->call.call, NULL);
	net_until(m->net.loop, is_asked, m);
	peer_headers(&m->peer, trailers == NULL ? PEER_END_STREAM : 0, 1, head);
	if (trailers != NULL)
		peer_headers(&m->peer, PEER_END_STREAM, 1, trailers);
	net_expect(&m->net, &m->call, code, NULL);
	assert_true(m->call.ended);
	if (code == GRPC_NOT_FOUND) /* it comes with trailers alone */
		assert_false(m->call.headers);
	net_call_free(&m->call);
	end_mute(m);
}

static void statuses_that_servers_send(void **state)
{
	static const char *const ok[] = { ":status", "200", "content-type", "application/grpc",
		NULL };
	static const char *const busy[] = { ":status", "503", NULL };
	static const char *const only[] = { ":status", "200", "content-type", "application/grpc",
		"grpc-status", "5", "grpc-message", "not%20here", NULL };
	static const char *const zero[] = { "grpc-status", "0", NULL };
	static const char *const odd[] = { "grpc-status", "99", NULL };
	static const char *const none[] = { "other", "x", NULL };
	struct mute m;

	(void)state;
	answered(&m, ok, zero, GRPC_OK);
	answered(&m, only, NULL, GRPC_NOT_FOUND);
	assert_string_equal(m.call.status.text, "not here");
	answered(&m, ok, odd, GRPC_UNKNOWN);
	answered(&m, ok, none, GRPC_UNAVAILABLE);
	answered(&m, busy, NULL, GRPC_UNAVAILABLE);
}

/* A reply that is none, or two. */

#define NOT_YET ((enum grpc_code)99)

struct replies {
	const char *bytes;
	size_t len;
	enum grpc_code code;
};

static void on_reply(void *cookie, const uint8_t *reply, size_t len, const struct err *err)
{
	(void)reply;
	(void)len;
	*(struct err *)cookie = *err;
}

static bool is_told(void *cookie)
{
	return ((struct err *)cookie)->code != NOT_YET;
}

static void one_reply_is_what_a_unary_call_gets(void **state)
{
	static const struct replies cases[] = {
		{ "\0\0\0\0\1x", 6, GRPC_OK },
		{ "", 0, GRPC_INTERNAL },
		{ "\0\0\0\0\1x\0\0\0\0\1y", 12, GRPC_INTERNAL },
		{ "\1\0\0\0\1x", 6, GRPC_UNIMPLEMENTED },
	};
	static const char *const ok[] = { ":status", "200", "content-type", "application/grpc",
		NULL };
	static const char *const zero[] = { "grpc-status", "0", NULL };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err err = { 0 };
		struct mute m;

		begin_mute(&m);
		assert_non_null(rpc_client_unary(
		    m.client.client, "/test/Echo", NULL, 5000, "", 0, on_reply, &err, &err));
		err.code = NOT_YET;
		net_until(m.net.loop, is_asked, &m);
		peer_headers(&m.peer, 0, 1, ok);
		peer_frame(&m.peer, PEER_DATA, 0, 1, cases[i].bytes, cases[i].len);
		peer_headers(&m.peer, PEER_END_STREAM, 1, zero);
		net_until(m.net.loop, is_told, &err);
		assert_int_equal(err.code, cases[i].code);
		end_mute(&m);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, net_setup, net_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_message_there_and_back),
		TEST(over_a_unix_socket),
		TEST(a_method_that_is_not_there),
		TEST(every_code_and_its_text_arrive),
		TEST(metadata_there_and_back),
		TEST(trailers_only),
		TEST(compressed_calls_are_refused),
		TEST(a_compressed_message_is_refused),
		TEST(one_message_is_what_a_unary_call_has),
		TEST(who_speaks_no_grpc_is_told_so),
		TEST(a_malformed_timeout_is_refused),
		TEST(no_time_at_all),
		TEST(the_servers_deadline_passes),
		TEST(a_method_has_a_time_limit),
		TEST(the_clients_deadline_passes),
		TEST(a_call_in_time_is_left_alone),
		TEST(a_cancelled_call),
		TEST(the_server_cancels),
		TEST(an_early_answer_is_no_error),
		TEST(an_early_answer_lets_go_of_the_stream),
		TEST(the_client_vanishes),
		TEST(the_server_vanishes),
		TEST(statuses_that_servers_send),
		TEST(one_reply_is_what_a_unary_call_gets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
