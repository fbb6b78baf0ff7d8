/*
 * Everything of a connection that may not take too long. One timer, which fires at the
 * earliest of the deadlines and looks at all of them. What happens often (bytes come,
 * output leaves) only notes when; the timer then finds that it fired for nothing.
 */
#include "rpc/conn_internal.h"

#define DRAIN_NOTICE_MS 1000 /* for the peer to answer the PING behind the first GOAWAY */

static uint64_t sooner(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static bool holds_output(const struct rpc_conn *c)
{
	return c->out.bytes > 0 || h2_queued(c->h2) > 0;
}

/* The deadlines of an open connection, the soonest. */
static uint64_t open_deadline(const struct rpc_conn *c)
{
	const struct rpc_options *o = c->options;
	uint64_t at = c->heard_ms + o->keepalive_ms;

	if (c->pinged_ms != 0)
		at = c->pinged_ms + o->keepalive_timeout_ms;
	if (!h2_is_ready(c->h2))
		at = sooner(at, c->since_ms + o->preface_ms);
	if (h2_headers_since(c->h2) != 0)
		at = sooner(at, h2_headers_since(c->h2) + o->headers_ms);
	if (c->blocked)
		at = sooner(at, c->moved_ms + o->stall_ms);
	if (holds_output(c))
		at = sooner(at, c->swept_ms + o->sweep_ms);
	if (c->starved)
		at = sooner(at, c->starved_ms + o->starve_ms);
	if (c->noticed_ms != 0 && !c->drained)
		at = sooner(at, h2_is_ponged(c->h2) ? 0 : c->noticed_ms + DRAIN_NOTICE_MS);
	return c->again ? 0 : at;
}

static uint64_t deadline(const struct rpc_conn *c)
{
	switch (c->state) {
	case CONN_CONNECTING:
		return c->since_ms + c->options->connect_ms;
	case CONN_HANDSHAKE:
		return c->since_ms + c->options->handshake_ms;
	case CONN_OPEN:
		return open_deadline(c);
	case CONN_LINGER:
		return c->since_ms + c->options->linger_ms;
	case CONN_CLOSING:
		break;
	}
	return UINT64_MAX;
}

void conn_arm(struct rpc_conn *c)
{
	uint64_t now = loop_now_ms(c->loop), at;

	if (c->timer == NULL)
		return;
	if (c->state == CONN_OPEN && !holds_output(c))
		c->swept_ms = 0;
	else if (c->swept_ms == 0)
		c->swept_ms = now;
	at = deadline(c);
	if (c->armed_ms != 0 && c->armed_ms <= at)
		return;
	c->armed_ms = at > now ? at : now;
	timer_start(c->timer, c->armed_ms - now);
}

/* What has taken the peer too long, NULL if nothing has. */
static const char *overdue(const struct rpc_conn *c, uint64_t now)
{
	const struct rpc_options *o = c->options;
	uint64_t headers_since = h2_headers_since(c->h2);

	if (c->state == CONN_CONNECTING)
		return now - c->since_ms >= o->connect_ms ? "to accept the connection" : NULL;
	if (c->state == CONN_HANDSHAKE)
		return now - c->since_ms >= o->handshake_ms ? "for the TLS handshake" : NULL;
	if (c->state == CONN_LINGER)
		return now - c->since_ms >= o->linger_ms ? "to close the connection" : NULL;
	if (!h2_is_ready(c->h2) && now - c->since_ms >= o->preface_ms)
		return "for the HTTP/2 preface";
	if (headers_since != 0 && now - headers_since >= o->headers_ms)
		return "for a header block";
	if (c->blocked && now - c->moved_ms >= o->stall_ms)
		return "to take what was sent";
	if (c->pinged_ms != 0 && now - c->pinged_ms >= o->keepalive_timeout_ms)
		return "to answer a PING";
	return NULL;
}

static void too_late(struct rpc_conn *c, const char *what)
{
	struct err err = { 0 };

	err_set(&err, GRPC_UNAVAILABLE, "%s took too long %s", c->peer, what);
	log_info(&conn_log, "conn_timeout", LOG_U64("conn", c->id), LOG_STR("peer", c->peer),
	    LOG_STR("what", what));
	if (c->state == CONN_OPEN)
		h2_terminate(c->h2, 0);
	conn_fail(c, &err);
}

/* Queued data that has not moved since the last time is copied out of its blocks. */
static void sweep(struct rpc_conn *c, uint64_t now)
{
	if (c->swept_ms == 0 || now - c->swept_ms < c->options->sweep_ms)
		return;
	c->swept_ms = now;
	h2_settle(c->h2);
	if (c->out.bytes > 0 && now - c->moved_ms >= c->options->sweep_ms)
		outq_settle(&c->out);
}

static void keep_alive(struct rpc_conn *c, uint64_t now)
{
	if (c->pinged_ms == 0 && now - c->heard_ms >= c->options->keepalive_ms) {
		c->pinged_ms = now;
		h2_ping(c->h2);
	}
	if (c->out.bytes == 0)
		outq_trim(&c->out);
}

static void drain(struct rpc_conn *c, uint64_t now)
{
	if (c->noticed_ms == 0 || c->drained)
		return;
	if (h2_is_ponged(c->h2) || now - c->noticed_ms >= DRAIN_NOTICE_MS) {
		c->drained = true;
		h2_drain(c->h2);
	}
}

/* The end of a drain: the peer has all the time it uses. */
static void linger_on(struct rpc_conn *c, uint64_t now)
{
	size_t unsent = transport_unsent(c->transport);

	if (unsent == 0 || unsent == c->unsent)
		return;
	c->unsent = unsent;
	c->since_ms = now;
}

static void run_rearm(struct post *post)
{
	conn_arm((struct rpc_conn *)((char *)post - offsetof(struct rpc_conn, rearm)));
}

/* A timer of no time that a timer starts fires before anything else has its turn. */
static void arm_after_others(struct rpc_conn *c)
{
	c->rearm.run = run_rearm;
	if (!c->rearm.pending)
		loop_post(c->loop, &c->rearm);
}

void conn_on_timer(void *conn)
{
	struct rpc_conn *c = conn;
	uint64_t now = loop_now_ms(c->loop);
	const char *what;

	c->armed_ms = 0;
	if (c->state == CONN_LINGER && c->drained)
		linger_on(c, now);
	if ((what = overdue(c, now)) != NULL) {
		too_late(c, what);
		return;
	}
	if (c->state == CONN_OPEN) {
		keep_alive(c, now);
		sweep(c, now);
		drain(c, now);
		if (c->again || (c->starved && now - c->starved_ms >= c->options->starve_ms))
			conn_input(c);
	}
	if (c->again && c->state == CONN_OPEN)
		arm_after_others(c);
	else
		conn_arm(c);
}
