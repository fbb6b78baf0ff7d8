/* What a gateway that is broken, or none of ours, can make a supervisor do, and for how long. */
#include <arpa/inet.h>
#include <netdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "app.h"
#include "base/log.h"
#include "foreign.h"
#include "relay/backoff.h"
#include "relay/lines.h"
#include "relay/served.h"
#include "relay/uplink.h"
#include "relay/wire.h"
#include "rig.h"
#include "rpc/address.h"
#include "rpc/limits.h"
#include "support/lines.h"

#define SHORT_MS 60
#define SLACK_MS 20 /* clocks of milliseconds */

struct scene {
	struct rig *rig;
	struct foreign gateway;
	struct app app;
	int lines; /* of the log */
	uint64_t begun_us;
};

static void begin(struct scene *s, const struct foreign_ways *ways)
{
	s->lines = lines_open();
	log_setup(s->lines, LOG_FORMAT_LOGFMT, LOG_LEVEL_INFO);
	s->rig = rig_create(1, NULL);
	foreign_create(&s->gateway, s->rig);
	s->gateway.ways = *ways;
	s->begun_us = loop_now_us();
}

static void end(struct scene *s)
{
	app_hang_up(&s->app);
	foreign_free(&s->gateway);
	rig_free(s->rig);
	log_setup(STDERR_FILENO, LOG_FORMAT_LOGFMT, LOG_LEVEL_ERROR);
	close(s->lines);
}

static void dial(struct scene *s)
{
	app_dial_within(&s->app, s->rig, s->gateway.url, 0, 0);
	assert_true(app_until(s->rig, &s->app.connected, 1));
}

static struct dialer_stats stats(struct scene *s)
{
	struct dialer_stats now;

	dialer_stats(s->app.dialer, &now);
	return now;
}

static uint64_t passed_ms(const struct scene *s)
{
	return (loop_now_us() - s->begun_us) / 1000;
}

/* Waits for the gateway. */

static void test_hello_is_not_answered(void **state)
{
	const struct foreign_ways ways = { .mute = true };
	struct scene s;

	(void)state;
	begin(&s, &ways);
	app_dial_within(&s.app, s.rig, s.gateway.url, SHORT_MS, 0);
	assert_true(app_until(s.rig, &s.gateway.connects, 2));
	assert_true(passed_ms(&s) >= SHORT_MS + DIALER_BACKOFF_MIN_MS - SLACK_MS);
	assert_int_equal(s.app.connected, 0);
	assert_int_equal(lines_count(s.lines, "event=disconnected"), 1);
	assert_int_equal(lines_count(s.lines, "nothing heard of the gateway"), 1);
	end(&s);
}

static void test_heartbeat_interval(void **state)
{
	static const struct {
		uint32_t secs;
		int64_t ms;
		uint64_t want;
	} kinds[] = {
		{ UINT32_MAX, 0, UPLINK_HEARTBEAT_MS },
		{ 1, 1, UPLINK_HEARTBEAT_MIN_MS },
		{ 1, 3600 * 1000, UPLINK_HEARTBEAT_MAX_MS },
		{ 100000, 0, UPLINK_HEARTBEAT_MAX_MS },
		{ 20, 0, 20000 },
		{ 20, 250, 250 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const struct foreign_ways ways = { .beat_secs = kinds[i].secs,
			.beat_ms = kinds[i].ms };
		struct scene s;

		begin(&s, &ways);
		dial(&s);
		assert_int_equal(stats(&s).heartbeat_ms, kinds[i].want);
		end(&s);
	}
}

/* And we do not speak more often, however little the gateway says. */
static void test_heartbeats_that_would_spin(void **state)
{
	const struct foreign_ways ways = { .beat_secs = 1, .beat_ms = 1 };
	struct scene s;

	(void)state;
	begin(&s, &ways);
	dial(&s);
	assert_true(app_until(s.rig, &s.app.disconnected, 1)); /* three of them unanswered */
	assert_true(
	    passed_ms(&s) + SLACK_MS >= UPLINK_HEARTBEAT_MIN_MS * (UPLINK_HEARTBEATS_MISSED - 1));
	assert_true(s.gateway.heartbeats <= UPLINK_HEARTBEATS_MISSED);
	end(&s);
}

static void test_backoff(void **state)
{
	struct backoff b = { DIALER_BACKOFF_MIN_MS, DIALER_BACKOFF_MAX_MS, 0 };
	uint32_t base = DIALER_BACKOFF_MIN_MS;

	(void)state;
	for (unsigned i = 0; i < 12; i++) {
		uint32_t wait = backoff_next(&b);

		assert_in_range(wait, base, base + base / 4);
		base = base * 2 < DIALER_BACKOFF_MAX_MS ? base * 2 : DIALER_BACKOFF_MAX_MS;
	}
	assert_int_equal(base, DIALER_BACKOFF_MAX_MS);
	backoff_reset(&b);
	assert_in_range(backoff_next(&b), DIALER_BACKOFF_MIN_MS, DIALER_BACKOFF_MIN_MS * 5 / 4);
}

/* What it says, and asks for. */

static void test_message_that_is_too_long(void **state)
{
	const size_t len = WIRE_MESSAGE_MAX + 1;
	const uint8_t head[] = { 0, (uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8),
		(uint8_t)len };
	const struct foreign_ways ways = { 0 };
	struct scene s;

	(void)state;
	begin(&s, &ways);
	dial(&s);
	assert_int_equal(rpc_call_copy(s.gateway.control, head, sizeof(head)), 0);
	assert_true(app_until(s.rig, &s.app.disconnected, 1));
	assert_int_equal(s.app.why.code, GRPC_RESOURCE_EXHAUSTED);
	assert_non_null(strstr(s.app.why.text, "4259841 bytes"));
	assert_true(app_until(s.rig, &s.app.connected, 2));
	end(&s);
}

static void ask(struct scene *s, unsigned count)
{
	Openshell__V1__TcpRelayTarget tcp = OPENSHELL__V1__TCP_RELAY_TARGET__INIT;
	Openshell__V1__RelayOpen open = OPENSHELL__V1__RELAY_OPEN__INIT;
	char id[32];

	tcp.host = (char *)"127.0.0.1";
	tcp.port = 8080;
	open.target_case = OPENSHELL__V1__RELAY_OPEN__TARGET_TCP;
	open.tcp = &tcp;
	open.channel_id = id;
	for (unsigned i = 0; i < count; i++) {
		snprintf(id, sizeof(id), "tcp-%u", i);
		foreign_send_open(&s->gateway, &open);
	}
}

static void test_one_channel_too_many(void **state)
{
	const struct foreign_ways ways = {
		.manner = FOREIGN_HOLDS, .streams = RPC_MAX_TUNNEL_STREAMS, .beat_secs = 60
	};
	struct scene s;

	(void)state;
	begin(&s, &ways);
	dial(&s);
	ask(&s, DIALER_CHANNELS_MAX + 1);
	assert_true(app_until(s.rig, &s.gateway.ended, 1));
	assert_int_equal(s.gateway.status.code, GRPC_RESOURCE_EXHAUSTED);
	assert_string_equal(s.gateway.status.text, "4096 calls are open in this sandbox; end some");
	assert_int_equal(s.app.opened, DIALER_CHANNELS_MAX);
	assert_int_equal(s.gateway.results, 0);
	end(&s);
}

/* A gateway that asks and asks, and lets no stream be opened for the answers. */
static void test_refusals_that_cannot_leave(void **state)
{
	enum { MORE = 20 };
	const struct foreign_ways ways = { .manner = FOREIGN_HOLDS, .streams = 1, .beat_secs = 60 };
	struct scene s;

	(void)state;
	begin(&s, &ways);
	dial(&s);
	ask(&s, DIALER_CHANNELS_MAX + DIALER_REFUSALS_MAX + MORE);
	assert_true(app_until(s.rig, &s.gateway.results, MORE));
	assert_string_equal(s.gateway.error, "4096 calls are open in this sandbox; end some");
	assert_int_equal(stats(&s).channels, DIALER_CHANNELS_MAX + DIALER_REFUSALS_MAX);
	assert_int_equal(s.app.opened, DIALER_CHANNELS_MAX);
	assert_int_equal(s.gateway.relays, 0);
	assert_int_equal(s.app.disconnected, 0);
	end(&s);
}

static void ask_and_take_back(struct scene *s, const char *id)
{
	Openshell__V1__TcpRelayTarget tcp = OPENSHELL__V1__TCP_RELAY_TARGET__INIT;
	Openshell__V1__RelayOpen open = OPENSHELL__V1__RELAY_OPEN__INIT;
	Openshell__V1__RelayClose close = OPENSHELL__V1__RELAY_CLOSE__INIT;
	Openshell__V1__GatewayMessage m = OPENSHELL__V1__GATEWAY_MESSAGE__INIT;

	tcp.host = (char *)"127.0.0.1";
	open.target_case = OPENSHELL__V1__RELAY_OPEN__TARGET_TCP;
	open.tcp = &tcp;
	open.channel_id = (char *)id;
	foreign_send_open(&s->gateway, &open);
	close.channel_id = (char *)id;
	m.payload_case = OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_RELAY_CLOSE;
	m.relay_close = &close;
	assert_int_equal(wire_send(s->gateway.control, &m.base), 0);
}

static void test_channel_ids(void **state)
{
	const struct foreign_ways ways = { .manner = FOREIGN_HOLDS, .beat_secs = 60 };
	char id[SERVED_ID_MAX + 2] = "";
	struct scene s;

	(void)state;
	begin(&s, &ways);
	dial(&s);
	memset(id, 'i', SERVED_ID_MAX);
	ask_and_take_back(&s, id);
	assert_true(app_until(s.rig, &s.app.closed, 1));
	assert_int_equal(s.app.why.code, GRPC_CANCELLED);
	assert_int_equal(s.gateway.results, 0);
	id[SERVED_ID_MAX] = 'i';
	ask_and_take_back(&s, id);
	assert_true(app_until(s.rig, &s.gateway.results, 1));
	assert_string_equal(s.gateway.error, "RelayOpen has a channel_id that is too long");
	assert_int_equal(s.app.opened, 1);
	end(&s);
}

/* Each refusal says the id again, until no more of them can be kept. */
static void test_gateway_that_does_not_read(void **state)
{
	const size_t len = RPC_WINDOW, enough = RPC_CALL_QUEUE_MAX / len + 2;
	const struct foreign_ways ways = { .deaf = true, .beat_secs = 60 };
	char *id = malloc(len + 1);
	struct scene s;

	(void)state;
	assert_non_null(id);
	memset(id, 'i', len);
	id[len] = '\0';
	begin(&s, &ways);
	dial(&s);
	for (size_t i = 0; i < enough && s.app.disconnected == 0; i++) {
		ask_and_take_back(&s, id);
		rig_run(s.rig, 2);
	}
	assert_true(app_until(s.rig, &s.app.disconnected, 1));
	assert_non_null(strstr(s.app.why.text, "does not read its end of the session"));
	end(&s);
	free(id);
}

static void ask_call(struct scene *s, int64_t seconds, int32_t nanos)
{
	Google__Protobuf__Duration deadline = GOOGLE__PROTOBUF__DURATION__INIT;
	Towline__V1__CallTarget call = TOWLINE__V1__CALL_TARGET__INIT;
	Openshell__V1__RelayOpen open = OPENSHELL__V1__RELAY_OPEN__INIT;

	deadline.seconds = seconds;
	deadline.nanos = nanos;
	call.method = (char *)RIG_ECHO;
	call.deadline = &deadline;
	open.channel_id = (char *)"call";
	open.target_case = OPENSHELL__V1__RELAY_OPEN__TARGET_CALL;
	open.call = &call;
	foreign_send_open(&s->gateway, &open);
}

/* The status of a call that is late cannot leave either: its stream is given up. */
static void test_late_status(void **state)
{
	const struct foreign_ways ways = { .manner = FOREIGN_HOLDS, .streams = 1, .beat_secs = 60 };
	struct scene s;

	(void)state;
	begin(&s, &ways);
	app_dial_within(&s.app, s.rig, s.gateway.url, 0, 2 * SHORT_MS);
	assert_true(app_until(s.rig, &s.app.connected, 1));
	ask_call(&s, 0, SHORT_MS * 1000000);
	s.begun_us = loop_now_us();
	assert_true(app_until(s.rig, &s.app.closed, 1));
	assert_true(passed_ms(&s) >= 3 * SHORT_MS - SLACK_MS);
	assert_int_equal(s.app.why.code, GRPC_DEADLINE_EXCEEDED);
	assert_int_equal(stats(&s).channels, 0);
	assert_int_equal(s.app.disconnected, 0);
	end(&s);
}

/* However far away, it does not come round to the near side. */
static void test_deadlines_that_never_come(void **state)
{
	static const int64_t seconds[] = { INT64_MAX, INT64_MAX / 1000, 315576000000 };
	const struct foreign_ways ways = { .manner = FOREIGN_HOLDS, .beat_secs = 60 };
	struct scene s;

	(void)state;
	begin(&s, &ways);
	app_dial_within(&s.app, s.rig, s.gateway.url, 0, 2000);
	assert_true(app_until(s.rig, &s.app.connected, 1));
	for (unsigned i = 0; i < 3; i++) {
		ask_call(&s, seconds[i], 999999999);
		assert_true(app_until(s.rig, &s.app.opened, i + 1));
		assert_int_equal(s.app.timeout_ms, RPC_DEADLINE_NONE);
	}
	rig_run(s.rig, SHORT_MS);
	assert_int_equal(s.app.closed, 0);
	end(&s);
}

/* Data connections. */

static uint32_t open_at_gateway(struct scene *s)
{
	struct rpc_server_stats server;

	rpc_server_stats(s->gateway.server, &server);
	return server.open_connections;
}

static void test_more_lines_than_there_may_be(void **state)
{
	const struct foreign_ways ways = {
		.manner = FOREIGN_HOLDS, .lines = 1000, .beat_secs = 60
	};
	struct scene s;

	(void)state;
	begin(&s, &ways);
	dial(&s);
	assert_true(app_until(s.rig, &s.gateway.relays, DIALER_CONNECTIONS_MAX));
	rig_run(s.rig, SHORT_MS);
	assert_int_equal(s.gateway.relays, DIALER_CONNECTIONS_MAX);
	assert_int_equal(open_at_gateway(&s), 1 + DIALER_CONNECTIONS_MAX);
	end(&s);
}

/* They are all on one loop, so that some are given up for others, but not for ever. */
static void test_lines_that_double_each_other(void **state)
{
	enum { WANTED = 4 };
	const struct foreign_ways ways = {
		.manner = FOREIGN_PLACES, .lines = WANTED, .beat_secs = 60
	};
	struct scene s;

	(void)state;
	begin(&s, &ways);
	dial(&s);
	assert_true(app_connected(&s.app, 1 + WANTED));
	rig_run(s.rig, SHORT_MS);
	assert_int_equal(stats(&s).connections, 1 + WANTED);
	assert_int_equal(s.gateway.relays, WANTED * (1 + LINES_SPARE_ATTEMPTS));
	assert_int_equal(open_at_gateway(&s), 1 + WANTED);
	end(&s);
}

/* A resolver that is asked, in the place of the system's. */
static struct {
	unsigned asked, failures; /* the first of them are */
	struct addrinfo answer;
	struct sockaddr_in sa;
} resolver;

int getaddrinfo(const char *restrict host, const char *restrict port,
    const struct addrinfo *restrict hints, struct addrinfo **restrict found)
{
	(void)hints;
	assert_string_equal(host, "gateway.test");
	if (resolver.asked++ < resolver.failures)
		return EAI_AGAIN;
	resolver.sa = (struct sockaddr_in){ .sin_family = AF_INET,
		.sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	resolver.answer = (struct addrinfo){ .ai_addr = (struct sockaddr *)&resolver.sa,
		.ai_addrlen = sizeof(resolver.sa) };
	*found = &resolver.answer;
	return 0;
}

void freeaddrinfo(struct addrinfo *found)
{
	assert_ptr_equal(found, &resolver.answer);
}

/* One that is slow holds attempts up, but not what there is. */
static void test_names_are_looked_up_once(void **state)
{
	enum { WANTED = 2 };
	const struct foreign_ways ways = {
		.manner = FOREIGN_PLACES, .lines = WANTED, .beat_secs = 60
	};
	struct scene s;
	char url[128];

	(void)state;
	begin(&s, &ways);
	snprintf(url, sizeof(url), "http://gateway.test%s", strrchr(s.gateway.url, ':'));
	resolver.failures = 1;
	app_dial_within(&s.app, s.rig, url, 0, 0);
	assert_true(app_connected(&s.app, 1 + WANTED));
	assert_int_equal(s.gateway.connects, 1);
	assert_int_equal(s.gateway.relays, WANTED * (1 + LINES_SPARE_ATTEMPTS));
	assert_int_equal(resolver.asked, 2);
	assert_int_equal(lines_count(s.lines, "look up gateway.test"), 1);
	end(&s);
}

struct closing {
	struct lines *lines;
	bool done;
};

static void lines_are_closed(void *cookie)
{
	((struct closing *)cookie)->done = true;
}

static bool is_closed(void *cookie)
{
	return ((struct closing *)cookie)->done;
}

static bool one_is_ready(void *cookie)
{
	return lines_ready(((struct closing *)cookie)->lines) == 1;
}

static void test_probe_is_not_answered(void **state)
{
	const struct foreign_ways ways = { .manner = FOREIGN_HOLDS };
	struct address address;
	struct rpc_meta meta;
	struct closing c = { 0 };
	struct scene s = { 0 };
	struct err e;

	(void)state;
	begin(&s, &ways);
	assert_int_equal(address_parse(s.gateway.url, &address, &e), 0);
	rpc_meta_init(&meta);
	c.lines = lines_create(s.rig->loop,
	    &(struct lines_options){
		.address = &address, .meta = &meta, .count = 1, .probe_ms = SHORT_MS },
	    &e);
	assert_non_null(c.lines);
	assert_true(app_until(s.rig, &s.gateway.closed, 1));
	assert_int_equal(s.gateway.relays, 1);
	s.gateway.ways.manner = FOREIGN_PLACES;
	assert_true(rig_until(s.rig, one_is_ready, &c));
	assert_true(passed_ms(&s) >= SHORT_MS + LINES_REDIAL_MS - SLACK_MS);
	assert_int_equal(s.gateway.relays, 2);
	assert_int_equal(lines_count(s.lines, "event=line_refused code=DEADLINE_EXCEEDED"), 1);
	lines_close(c.lines, lines_are_closed, &c);
	assert_true(rig_until(s.rig, is_closed, &c));
	rpc_meta_free(&meta);
	end(&s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_hello_is_not_answered),
		TEST(test_heartbeat_interval),
		TEST(test_heartbeats_that_would_spin),
		TEST(test_backoff),
		TEST(test_message_that_is_too_long),
		TEST(test_one_channel_too_many),
		TEST(test_refusals_that_cannot_leave),
		TEST(test_channel_ids),
		TEST(test_gateway_that_does_not_read),
		TEST(test_late_status),
		TEST(test_deadlines_that_never_come),
		TEST(test_more_lines_than_there_may_be),
		TEST(test_lines_that_double_each_other),
		TEST(test_names_are_looked_up_once),
		TEST(test_probe_is_not_answered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
