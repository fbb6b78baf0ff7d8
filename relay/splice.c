#include "relay/splice.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "relay/handover.h"
#include "relay/pump.h"

struct splice {
	struct leg *client, *tunnel;
	struct pump *up, *down;
	struct handover *hand_up, *hand_down; /* NULL on one loop */
	atomic_uint live;                     /* legs not over */
	struct post start;                    /* starts the client's leg on its loop */
	splice_done *done;
	void *cookie;
	bool needs_status;
};

static void splice_report(struct splice *s)
{
	const struct pump_stats *up = leg_stats(s->client);
	const struct pump_stats *down = leg_stats(s->tunnel);
	const struct splice_result result = {
		.bytes_up = up->bytes,
		.bytes_down = down->bytes,
		.stalls_up = up->stalls,
		.stalls_down = down->stalls,
		.cross_loop = s->hand_up != NULL,
		.status = leg_verdict(s->client),
	};

	s->done(s->cookie, &result);
}

static void splice_leg_over(void *cookie, struct leg *leg)
{
	struct splice *s = cookie;

	if (s->hand_up != NULL && leg == s->client) {
		handover_leave_near(s->hand_up);
		handover_leave_far(s->hand_down);
	} else if (s->hand_up != NULL) {
		handover_leave_far(s->hand_up);
		handover_leave_near(s->hand_down);
	}
	if (atomic_fetch_sub(&s->live, 1) == 1)
		splice_report(s);
}

/* A pump has no queue, and its ends report their own endings: nothing is left to do. */
static void splice_pump_done(void *cookie, const struct err *why)
{
	(void)cookie;
	(void)why;
}

static void splice_credit_leg(void *cookie, size_t bytes)
{
	leg_credit(cookie, bytes);
}

static void splice_credit_handover(void *cookie, size_t bytes)
{
	handover_sent(cookie, bytes);
}

static void splice_attach_client(struct splice *s)
{
	bool cross = s->hand_up != NULL;

	leg_attach(s->client,
	    &(struct leg_joint){
		.in = s->up,
		.far = cross ? handover_sink(s->hand_up) : leg_sink(s->tunnel),
		.sent = cross ? splice_credit_handover : splice_credit_leg,
		.sent_cookie = cross ? (void *)s->hand_down : (void *)s->tunnel,
		.over = splice_leg_over,
		.over_cookie = s,
		.other = s->tunnel,
	    });
}

static void splice_attach_tunnel(struct splice *s)
{
	bool cross = s->hand_up != NULL;

	leg_attach(s->tunnel,
	    &(struct leg_joint){
		.in = s->down,
		.far = cross ? handover_sink(s->hand_down) : leg_sink(s->client),
		.sent = cross ? splice_credit_handover : splice_credit_leg,
		.sent_cookie = cross ? (void *)s->hand_up : (void *)s->client,
		.over = splice_leg_over,
		.over_cookie = s,
		.needs_status = s->needs_status,
	    });
}

static void splice_run_start(struct post *post)
{
	struct splice *s = (struct splice *)((char *)post - offsetof(struct splice, start));

	splice_attach_client(s);
	leg_start(s->client);
}

/* The post to the client's loop goes out before anything the tunnel's leg hands over,
 * and posts of one thread run in their order. */
static void splice_start(struct splice *s)
{
	splice_attach_tunnel(s);
	if (s->hand_up != NULL) {
		s->start.run = splice_run_start;
		loop_post(leg_loop(s->client), &s->start);
		leg_start(s->tunnel);
		return;
	}
	splice_attach_client(s);
	leg_start(s->client);
	leg_start(s->tunnel);
}

static int splice_make_direct(struct splice *s)
{
	struct loop *loop = leg_loop(s->client);

	s->up = pump_create(loop, leg_source(s->client), leg_sink(s->tunnel), splice_pump_done, s);
	s->down =
	    pump_create(loop, leg_source(s->tunnel), leg_sink(s->client), splice_pump_done, s);
	return s->up != NULL && s->down != NULL ? 0 : -1;
}

static int splice_make_cross(struct splice *s)
{
	struct loop *here = leg_loop(s->client), *there = leg_loop(s->tunnel);

	s->hand_up =
	    handover_create(here, there, leg_sink(s->tunnel), splice_credit_leg, s->client);
	s->hand_down =
	    handover_create(there, here, leg_sink(s->client), splice_credit_leg, s->tunnel);
	if (s->hand_up == NULL || s->hand_down == NULL)
		return -1;
	s->up = pump_create(
	    here, leg_source(s->client), handover_sink(s->hand_up), splice_pump_done, s);
	s->down = pump_create(
	    there, leg_source(s->tunnel), handover_sink(s->hand_down), splice_pump_done, s);
	return s->up != NULL && s->down != NULL ? 0 : -1;
}

static void splice_unmake(struct splice *s)
{
	pump_free(s->up);
	pump_free(s->down);
	if (s->hand_up != NULL) {
		handover_leave_near(s->hand_up);
		handover_leave_far(s->hand_up);
	}
	if (s->hand_down != NULL) {
		handover_leave_near(s->hand_down);
		handover_leave_far(s->hand_down);
	}
	free(s);
}

struct splice *splice_join(
    struct leg *client, struct leg *tunnel, bool needs_status, splice_done *done, void *cookie)
{
	struct splice *s = calloc(1, sizeof(*s));
	bool direct = leg_loop(client) == leg_loop(tunnel);

	if (s == NULL)
		return NULL;
	s->client = client;
	s->tunnel = tunnel;
	s->needs_status = needs_status;
	s->done = done;
	s->cookie = cookie;
	atomic_init(&s->live, 2);
	if ((direct ? splice_make_direct(s) : splice_make_cross(s)) != 0) {
		splice_unmake(s);
		return NULL;
	}
	splice_start(s);
	return s;
}

void splice_free(struct splice *s)
{
	if (s == NULL)
		return;
	assert(atomic_load(&s->live) == 0);
	leg_free(s->client);
	leg_free(s->tunnel);
	free(s);
}
