/*
 * Whole exchanges through the gateway, with each allocation failing in turn: clients and
 * supervisors may get errors, and connections may end, but everybody is told, nobody is told
 * of a success that was none, nothing is left, and the next exchange is as good as the first.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "app.h"
#include "base/log.h"
#include "relay/registry.h"
#include "rig.h"
#include "support/alloc.h"

#define PIECE    ((size_t)6000) /* bytes: more than is gathered by copy */
#define PIECES   4              /* that each end sends */
#define BRIEF_MS 3              /* to wait for a supervisor that will not answer */
#define CLAIM_MS 100            /* and for one that may have been refused memory */

/* One exchange, whose ${fail_at}-th allocation is the first to fail; 0: none. */
struct trial {
	struct rig *rig;
	unsigned long fail_at;
	bool for_good;
	bool has_failed;

	struct rig_supervisor super;
	struct rpc_client *line; /* of the client; NULL: none, or lost */
	struct rig_call client, tunnel;
	struct app app;
};

static void arm(const struct trial *t)
{
	alloc_fail_at(t->fail_at, t->for_good);
}

/* Nothing is refused any more from here on. */
static void disarm(struct trial *t)
{
	t->has_failed = alloc_has_failed();
	alloc_fail_at(0, false);
}

/* What has come of a call that is over. */
static const struct err *verdict(const struct rig_call *c)
{
	assert_true(c->closed);
	return c->ended ? &c->status : &c->why;
}

/* A failure that was to be expected has its code; one for want of memory has any. */
static void assert_failed(const struct trial *t, const struct rig_call *c, enum grpc_code code)
{
	assert_int_not_equal(verdict(c)->code, GRPC_OK);
	if (!t->has_failed)
		assert_int_equal(verdict(c)->code, code);
}

/* Waiting. What is waited for need not come if the call it is about is over. */

static bool is_met(void *cookie)
{
	const struct trial *t = cookie;

	return t->super.accepted || t->super.control.closed;
}

static bool is_asked(void *cookie)
{
	const struct trial *t = cookie;

	return t->super.open_next < t->super.open_count || t->client.closed;
}

static bool have_both_got_all(void *cookie)
{
	const struct trial *t = cookie;

	return t->client.closed || t->tunnel.closed ||
	    (t->client.total >= PIECE * PIECES && t->tunnel.total >= PIECE * PIECES);
}

static bool has_client_ended(void *cookie)
{
	const struct trial *t = cookie;

	return t->client.closed || t->tunnel.closed || t->tunnel.ended;
}

static bool is_over(void *cookie)
{
	const struct trial *t = cookie;

	return t->client.closed && (t->tunnel.rig == NULL || t->tunnel.closed);
}

static bool are_lines_down(void *cookie)
{
	const struct trial *t = cookie;

	return t->rig->clients == 0;
}

static void assert_came(const struct trial *t, bool came)
{
	if (came)
		return;
	alloc_fail_at(0, false);
	fail_msg(
	    "hangs without allocation %lu%s", t->fail_at, t->for_good ? " and those after it" : "");
}

static void until(struct trial *t, bool (*is)(void *cookie))
{
	assert_came(t, rig_until(t->rig, is, t));
}

/* The steps of an exchange. */

/* For the channels from now on; there is none. */
static void set_claim_ms(struct rig *rig, uint32_t ms)
{
	rig->tunnels->claim_ms = ms;
	timer_stop(rig->tunnels->expiry);
}

/* Who is told of a failure ends its own direction, too. */
static void end_if_failed(struct rig_call *c)
{
	if (c->status.code != GRPC_OK)
		rpc_call_end(c->call, NULL);
}

static void meet(struct trial *t, bool foreign)
{
	rig_connect_at(t->rig, &t->line);
	rig_greet(t->rig, &t->super, &(struct rig_hello){ .sandbox = "a", .foreign = foreign });
	t->super.control.on_end = end_if_failed;
	until(t, is_met);
}

static void ask(struct trial *t)
{
	const char *const names[] = { "sandbox", "a", "tcp", "localhost", NULL };

	t->client.on_end = end_if_failed;
	rig_start(t->rig, &t->client, t->line, RIG_ECHO, names, 0);
	rig_write(&t->client, "\0\0\0\0\5first", 10);
}

/* The supervisor's answer, if it was asked. */
static void claim(struct trial *t)
{
	const Openshell__V1__RelayOpen *open;

	until(t, is_asked);
	if (t->super.open_next == t->super.open_count)
		return;
	open = t->super.opens[t->super.open_next++]->relay_open;
	t->tunnel.on_end = end_if_failed;
	rig_claim(t->rig, &t->tunnel, t->super.client, "a", t->super.session_id, open->channel_id);
}

static void exchange_bytes(struct trial *t)
{
	static const uint8_t bytes[PIECE];

	for (int i = 0; i < PIECES && t->tunnel.rig != NULL; i++) {
		rig_write(&t->client, bytes, sizeof(bytes));
		rig_write(&t->tunnel, bytes, sizeof(bytes));
	}
	if (t->tunnel.rig != NULL)
		until(t, have_both_got_all);
}

static void end_both(struct trial *t)
{
	if (t->client.call != NULL)
		rpc_call_end(t->client.call, NULL);
	if (t->tunnel.rig != NULL)
		until(t, has_client_ended);
	if (t->tunnel.call != NULL)
		rig_end_with(&t->tunnel, GRPC_OK, "");
	until(t, is_over);
}

/* All of it, and what the client may have been told. */
static void relay(struct trial *t)
{
	claim(t);
	exchange_bytes(t);
	end_both(t);
	if (verdict(&t->client)->code != GRPC_OK) {
		assert_true(alloc_has_failed());
		return;
	}
	assert_int_equal(t->client.total, PIECE * PIECES);
	assert_int_equal(t->tunnel.total, PIECE * PIECES);
	assert_int_equal(verdict(&t->tunnel)->code, GRPC_OK);
}

static void part(struct trial *t)
{
	if (t->super.rig != NULL)
		rig_supervisor_free(&t->super);
	if (t->line != NULL)
		rpc_client_close(t->line);
	rig_call_free(&t->client);
	rig_call_free(&t->tunnel);
	until(t, are_lines_down);
	assert_came(t, rig_settled(t->rig, 0, 0, 0));
	disarm(t);
}

/* The exchanges. */

static void call_is_relayed(struct trial *t)
{
	arm(t);
	meet(t, false);
	ask(t);
	relay(t);
	part(t);
}

static void tcp_is_relayed(struct trial *t)
{
	arm(t);
	meet(t, true);
	ask(t);
	relay(t);
	part(t);
}

static void stranger_claims(struct trial *t)
{
	const struct rig_hello stranger = { .sandbox = "b" };
	struct rig_supervisor other;
	struct rig_call wrong = { .on_end = end_if_failed };

	meet(t, false);
	rig_greet(t->rig, &other, &stranger);
	assert_true(rig_accepted(&other));
	arm(t);
	ask(t);
	until(t, is_asked);
	if (t->super.open_count > 0) {
		rig_claim(t->rig, &wrong, other.client, "b", other.session_id,
		    t->super.opens[0]->relay_open->channel_id);
		assert_came(t, rig_closed(&wrong));
		t->has_failed = alloc_has_failed();
		assert_failed(t, &wrong, GRPC_PERMISSION_DENIED);
	}
	relay(t);
	rig_call_free(&wrong);
	rig_supervisor_free(&other);
	part(t);
}

static void nobody_claims(struct trial *t)
{
	meet(t, false);
	set_claim_ms(t->rig, BRIEF_MS);
	arm(t);
	ask(t);
	until(t, is_over);
	part(t);
	assert_failed(t, &t->client, GRPC_DEADLINE_EXCEEDED);
}

static void supervisor_refuses(struct trial *t)
{
	Openshell__V1__RelayOpenResult result = OPENSHELL__V1__RELAY_OPEN_RESULT__INIT;
	Openshell__V1__SupervisorMessage m = OPENSHELL__V1__SUPERVISOR_MESSAGE__INIT;

	meet(t, false);
	arm(t);
	ask(t);
	until(t, is_asked);
	if (t->super.open_count > 0 && t->super.control.call != NULL) {
		result.channel_id = t->super.opens[0]->relay_open->channel_id;
		result.error = (char *)"not today";
		m.payload_case = OPENSHELL__V1__SUPERVISOR_MESSAGE__PAYLOAD_RELAY_OPEN_RESULT;
		m.relay_open_result = &result;
		rig_send(&t->super, &m);
	}
	until(t, is_over);
	part(t);
	assert_failed(t, &t->client, GRPC_UNAVAILABLE);
}

static void supervisor_goes_before_it_claims(struct trial *t)
{
	meet(t, false);
	set_claim_ms(t->rig, BRIEF_MS);
	arm(t);
	ask(t);
	rig_supervisor_free(&t->super);
	t->super = (struct rig_supervisor){ 0 };
	until(t, is_over);
	part(t);
	assert_failed(t, &t->client, GRPC_UNAVAILABLE);
}

static void supervisor_goes_amid_a_relay(struct trial *t)
{
	meet(t, false);
	arm(t);
	ask(t);
	claim(t);
	exchange_bytes(t);
	rig_supervisor_free(&t->super);
	t->super = (struct rig_supervisor){ 0 };
	until(t, is_over);
	part(t);
	assert_failed(t, &t->client, GRPC_UNAVAILABLE);
}

static void client_goes_before_it_is_claimed(struct trial *t)
{
	meet(t, false);
	arm(t);
	ask(t);
	until(t, is_asked);
	rig_cancel(&t->client);
	assert_came(t, rig_settled(t->rig, t->super.control.closed ? 0 : 1, 0, 0));
	part(t);
}

static void client_goes_amid_a_relay(struct trial *t)
{
	meet(t, false);
	arm(t);
	ask(t);
	claim(t);
	exchange_bytes(t);
	rig_cancel(&t->client);
	until(t, is_over);
	part(t);
	if (t->tunnel.rig != NULL)
		assert_failed(t, &t->tunnel, GRPC_CANCELLED);
}

/* The torture. */

typedef void exchange(struct trial *);

static bool try(exchange *run, struct rig *rig, unsigned long fail_at, bool for_good)
{
	struct trial t = { .rig = rig, .fail_at = fail_at, .for_good = for_good };

	set_claim_ms(rig, fail_at > 0 ? CLAIM_MS : TUNNEL_CLAIM_MS);
	run(&t);
	return t.has_failed;
}

/* Each allocation fails alone, and with all after it, until an exchange has fewer. */
static void torture(exchange *run)
{
	struct rig *rig = rig_create(1, NULL);
	unsigned long n = 0;
	bool failed;

	try(run, rig, 0, false);
	do {
		n++;
		failed = try(run, rig, n, false);
		if (failed)
			failed = try(run, rig, n, true);
		try(run, rig, 0, false);
	} while (failed);
	rig_free(rig);
}

/* Tests: one an exchange. ${*state} is the exchange until it is taken. */

struct subject {
	const char *name;
	exchange *run;
	void *leak;
};

static int set_up(void **state)
{
	log_setup(2, LOG_FORMAT_LOGFMT, LOG_LEVEL_ERROR);
	return rig_setup(&((struct subject *)*state)->leak);
}

static int tear_down(void **state)
{
	return rig_teardown(&((struct subject *)*state)->leak);
}

static void fails_well(void **state)
{
	torture(((struct subject *)*state)->run);
}

int main(void)
{
	struct subject subjects[] = {
		{ "call is relayed", call_is_relayed, NULL },
		{ "tcp is relayed", tcp_is_relayed, NULL },
		{ "stranger claims", stranger_claims, NULL },
		{ "nobody claims", nobody_claims, NULL },
		{ "supervisor refuses", supervisor_refuses, NULL },
		{ "supervisor goes before it claims", supervisor_goes_before_it_claims, NULL },
		{ "supervisor goes amid a relay", supervisor_goes_amid_a_relay, NULL },
		{ "client goes before it is claimed", client_goes_before_it_is_claimed, NULL },
		{ "client goes amid a relay", client_goes_amid_a_relay, NULL },
	};
	enum { COUNT = sizeof(subjects) / sizeof(subjects[0]) };
	struct CMUnitTest tests[COUNT];

	for (size_t i = 0; i < COUNT; i++)
		tests[i] = (struct CMUnitTest){ subjects[i].name, fails_well, set_up, tear_down,
			&subjects[i] };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
