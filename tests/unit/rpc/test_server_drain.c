/*
 * A server that is told to end: what is on its way is served, nothing new is taken, and
 * nobody waits for longer than was said.
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

#define ANY     "127.0.0.1:0"
#define LONG_MS 20000 /* a drain that is not to be cut */

#define ANY_STREAM 0x7fffffffu /* of a GOAWAY that refuses nothing */

struct hand {
	struct net net;
	struct peer peer;
};

static void begin(struct hand *h)
{
	net_open(&h->net, ANY, NULL, NULL);
	peer_connect(&h->peer, h->net.loop, h->net.bound, NULL);
	peer_begin(&h->peer, true, PEER_WINDOW_MAX);
}

/* With a call that waits to be answered. */
static void begin_call(struct hand *h)
{
	begin(h);
	peer_request(&h->peer, 1, "/test/Hold", NULL);
	net_wait_count(h->net.loop, &h->net.opened, 1);
}

static void end(struct hand *h)
{
	peer_free(&h->peer);
	net_close(&h->net);
}

static void wait_goaways(struct hand *h, unsigned n)
{
	net_wait_count(h->net.loop, &h->peer.frames[PEER_GOAWAY], n);
}

static void expect_ok(struct hand *h, uint32_t id)
{
	struct peer_stream *s = peer_stream(&h->peer, id);

	net_wait(h->net.loop, &s->ended);
	if (strstr(s->head, "grpc-status: 0\n") == NULL)
		fail_msg("%s", s->head);
}

static void a_call_on_its_way_is_served(void **state)
{
	struct hand h;

	(void)state;
	begin_call(&h);
	net_drain(&h.net, LONG_MS);
	wait_goaways(&h, 2);
	assert_int_equal(h.peer.first_last, ANY_STREAM);
	assert_int_equal(h.peer.goaway_last, 1);
	assert_int_equal(h.peer.goaway, 0);
	net_run(h.net.loop, 30);
	assert_false(h.net.drained || h.peer.eof);
	rpc_call_finish(h.net.held, NULL);
	expect_ok(&h, 1);
	net_wait(h.net.loop, &h.peer.eof);
	assert_false(h.peer.broken);
	end(&h);
}

/* It was sent before the peer could know: until it has answered the first GOAWAY's PING. */
static void a_call_between_the_two_is_served(void **state)
{
	struct hand h;

	(void)state;
	begin(&h);
	net_wait_count(h.net.loop, &h.peer.frames[PEER_SETTINGS], 1);
	net_run(h.net.loop, 5);
	h.peer.silent = true;
	net_drain(&h.net, LONG_MS);
	wait_goaways(&h, 1);
	assert_int_equal(h.peer.frames[PEER_PING], 1);
	peer_request(&h.peer, 1, "/test/Hold", NULL);
	net_wait_count(h.net.loop, &h.net.opened, 1);
	assert_int_equal(h.peer.frames[PEER_GOAWAY], 1);
	rpc_call_finish(h.net.held, NULL);
	expect_ok(&h, 1);
	net_wait(h.net.loop, &h.peer.eof); /* it has waited for the answer for long enough */
	assert_int_equal(h.peer.frames[PEER_GOAWAY], 2);
	assert_int_equal(h.peer.goaway_last, 1);
	end(&h);
}

static void a_call_after_both_is_not_served(void **state)
{
	struct hand h;

	(void)state;
	begin_call(&h);
	net_drain(&h.net, LONG_MS);
	wait_goaways(&h, 2);
	peer_request(&h.peer, 3, "/test/Hold", NULL);
	net_run(h.net.loop, 30);
	assert_int_equal(h.net.opened, 1);
	assert_int_equal(peer_stream(&h.peer, 3)->blocks, 0);
	rpc_call_finish(h.net.held, NULL);
	expect_ok(&h, 1);
	net_wait(h.net.loop, &h.peer.eof);
	end(&h);
}

static void the_deadline_cuts(void **state)
{
	struct hand h;
	uint64_t begun;

	(void)state;
	begin_call(&h);
	begun = loop_now_us();
	net_drain(&h.net, 60);
	net_wait(h.net.loop, &h.net.drained);
	assert_true(loop_now_us() - begun > 40000);
	assert_int_equal(h.net.lost, 1);
	assert_int_equal(h.net.why.code, GRPC_UNAVAILABLE);
	assert_non_null(strstr(h.net.why.text, "shutting down"));
	net_wait(h.net.loop, &h.peer.eof);
	end(&h);
}

/* A connection that has said nothing, and one whose peer does not leave. */
static void connections_without_calls_end_soon(void **state)
{
	struct peer quiet;
	struct hand h;

	(void)state;
	begin(&h);
	peer_connect(&quiet, h.net.loop, h.net.bound, NULL);
	quiet.silent = true;
	net_wait_count(h.net.loop, &quiet.frames[PEER_SETTINGS], 1);
	net_run(h.net.loop, 10);
	uint64_t begun = loop_now_us();
	net_drain(&h.net, LONG_MS);
	net_wait(h.net.loop, &h.net.drained);
	assert_true(loop_now_us() - begun < 5000000);
	net_wait(h.net.loop, &h.peer.eof);
	assert_int_equal(h.peer.frames[PEER_GOAWAY], 2);
	assert_int_equal(h.peer.goaway_last, 0);
	net_wait(h.net.loop, &quiet.eof);
	peer_free(&quiet);
	end(&h);
}

static void nobody_is_let_in_any_more(void **state)
{
	struct address address;
	struct err err;
	struct hand h;

	(void)state;
	begin_call(&h);
	net_drain(&h.net, LONG_MS);
	assert_int_equal(address_parse(h.net.bound, &address, &err), 0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address.sa, address.sa_len), -1);
	close(fd);
	rpc_call_finish(h.net.held, NULL);
	expect_ok(&h, 1);
	end(&h);
}

static void a_unix_socket_is_removed(void **state)
{
	struct net net;
	struct net_client client;
	char address[160];

	snprintf(address, sizeof(address), "unix:%s", leak_path(*state, "socket"));
	net_open(&net, address, NULL, NULL);
	net_connect(&net, &client, NULL);
	net_wait(net.loop, &client.ready);
	assert_int_equal(access(leak_path(*state, "socket"), F_OK), 0);
	net_drain(&net, LONG_MS);
	assert_int_equal(access(leak_path(*state, "socket"), F_OK), -1);
	net_wait(net.loop, &client.closed);
	net_close(&net);
}

/* A client of ours. */

static void a_client_takes_its_leave(void **state)
{
	struct rpc_client_call again = { .path = "/test/Echo" };
	struct net net;
	struct net_client client;
	struct net_call held, echo;
	struct err err;

	(void)state;
	net_open(&net, ANY, NULL, NULL);
	net_connect(&net, &client, NULL);
	net_start(&client, &held, "/test/Hold", NULL, 0);
	net_start(&client, &echo, "/test/Stream", NULL, 0);
	net_wait_count(net.loop, &net.opened, 1);
	uint64_t begun = loop_now_us();
	net_drain(&net, LONG_MS);
	net_run(net.loop, 50);
	assert_null(rpc_client_call(client.client, &again, &err));
	assert_int_equal(err.code, GRPC_UNAVAILABLE);
	net_ask(&echo, "still here", 10); /* a call that was there goes on */
	net_expect(&net, &echo, GRPC_OK, NULL);
	assert_int_equal(echo.total, 15);
	assert_false(client.closed);
	rpc_call_finish(net.held, NULL);
	net_expect(&net, &held, GRPC_OK, NULL);
	net_wait(net.loop, &client.closed);
	assert_int_equal(client.why.code, GRPC_UNAVAILABLE);
	net_wait(net.loop, &net.drained);
	assert_true(loop_now_us() - begun < 5000000);
	net_call_free(&held);
	net_call_free(&echo);
	net_close(&net);
}

/* The answer lies in the kernel when the last call is over, and the peer goes on giving
 * credit: a socket closed then would answer that with a reset, and the rest be lost. */
static void a_large_answer_arrives_whole(void **state)
{
	static const uint8_t much[1 << 20];
	struct hand h;

	(void)state;
	begin_call(&h);
	h.peer.pace = 8 << 10;
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(rpc_call_copy(h.net.held, much, sizeof(much)), 0);
	rpc_call_finish(h.net.held, NULL);
	net_drain(&h.net, LONG_MS);
	net_wait(h.net.loop, &h.peer.eof);
	assert_int_equal(peer_stream(&h.peer, 1)->data, 3 * sizeof(much));
	expect_ok(&h, 1);
	end(&h);
}

static void nothing_to_drain(void **state)
{
	struct net net;

	(void)state;
	net_open(&net, ANY, NULL, NULL);
	uint64_t begun = loop_now_us();
	net_drain(&net, LONG_MS);
	net_wait(net.loop, &net.drained);
	assert_true(loop_now_us() - begun < 1000000);
	net_close(&net);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, net_setup, net_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_call_on_its_way_is_served),
		TEST(a_call_between_the_two_is_served),
		TEST(a_call_after_both_is_not_served),
		TEST(the_deadline_cuts),
		TEST(connections_without_calls_end_soon),
		TEST(nobody_is_let_in_any_more),
		TEST(a_unix_socket_is_removed),
		TEST(a_client_takes_its_leave),
		TEST(a_large_answer_arrives_whole),
		TEST(nothing_to_drain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
