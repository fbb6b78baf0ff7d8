/* Input and output of a connection. */
#include "rpc/conn_internal.h"

#define LINGER_BUDGET ((size_t)256 << 10) /* bytes thrown away in a turn */

void conn_watch(struct rpc_conn *c)
{
	unsigned events = c->blocked ? WATCH_WRITE : WATCH_NONE;

	if (!c->again && !c->starved)
		events |= WATCH_READ;
	watch_want(c->watch, events);
}

static void run_turn(struct post *post)
{
	conn_output((struct rpc_conn *)((char *)post - offsetof(struct rpc_conn, turn)));
}

void conn_turn_later(struct rpc_conn *c)
{
	c->turn.run = run_turn;
	if (!c->turn.pending && c->state == CONN_OPEN)
		loop_post(c->loop, &c->turn);
}

/* From the session: there is something to frame. Before the connection is open it
 * waits for that, and while the socket is full for the socket. */
void conn_wake(void *conn)
{
	struct rpc_conn *c = conn;

	if (!c->blocked)
		conn_turn_later(c);
}

/* Faults. */

/* What says why, behind what was framed before; then nothing more. */
static void linger_output(struct rpc_conn *c)
{
	struct err err = { 0 };

	switch (transport_write(c->transport, &c->out, h2_left, c->h2, &err)) {
	case TRANSPORT_DONE:
		c->blocked = false;
		transport_shut(c->transport);
		watch_want(c->watch, WATCH_READ);
		break;
	case TRANSPORT_AGAIN: /* with TLS perhaps of the last record only */
		c->blocked = true;
		watch_want(c->watch, WATCH_READ | WATCH_WRITE);
		break;
	default:
		conn_close(c, NULL);
		break;
	}
}

static void linger(struct rpc_conn *c, const struct err *why)
{
	struct err lost = *why;

	conn_set_state(c, CONN_LINGER);
	loop_unpost(c->loop, &c->turn);
	c->why = *why;
	h2_stop(c->h2, call_lost, &lost);
	linger_output(c);
	conn_arm(c);
}

void conn_fail(struct rpc_conn *c, const struct err *why)
{
	struct err err = { 0 };

	log_debug(
	    &conn_log, "conn_fail", LOG_U64("conn", c->id), LOG_STR("peer", c->peer), LOG_ERR(why));
	if (c->state != CONN_OPEN) {
		conn_close(c, why);
		return;
	}
	h2_frame(c->h2, &c->out, &err);
	if (c->is_server) {
		linger(c, why);
		return;
	}
	transport_write(c->transport, &c->out, h2_left, c->h2, &err);
	conn_close(c, why);
}

void conn_linger(struct rpc_conn *c)
{
	if (c->blocked)
		linger_output(c);
	if (c->state == CONN_LINGER &&
	    transport_discard(c->transport, LINGER_BUDGET) != TRANSPORT_AGAIN)
		conn_close(c, NULL);
}

static void session_failed(struct rpc_conn *c, const struct err *why)
{
	if (h2_flood(c->h2) != NULL) {
		log_warn(&conn_log, "flood", LOG_U64("conn", c->id), LOG_STR("peer", c->peer),
		    LOG_STR("of", h2_flood(c->h2)));
		if (c->ops->flood != NULL)
			c->ops->flood(c->cookie);
	}
	conn_fail(c, why);
}

/* Nothing is to be read or written any more, or the last call of a drain is over. */
static void check_done(struct rpc_conn *c)
{
	struct err err = { 0 };
	bool is_last = c->drained && h2_stream_count(c->h2) == 0;

	if (c->state != CONN_OPEN || c->out.bytes > 0 || c->blocked || h2_wants_output(c->h2) ||
	    !(is_last || h2_is_done(c->h2)))
		return;
	if (is_last && c->is_server) {
		linger(c, &err_none); /* what was answered last may be on its way */
	} else if (is_last) {
		conn_close(c, NULL);
	} else if (h2_is_draining(c->h2)) {
		err_set(&err, GRPC_UNAVAILABLE, "the peer has ended the connection (GOAWAY)");
		conn_close(c, &err);
	} else {
		err_set(&err, GRPC_UNAVAILABLE, "the peer has broken the rules of HTTP/2");
		conn_fail(c, &err);
	}
}

/* Input. */

/* False: the connection is closing, or the rest waits for the next turn. */
static bool feed(struct rpc_conn *c)
{
	struct err err = { 0 };

	while (c->input.len > 0) {
		if (h2_turn_is_over(c->h2)) {
			c->again = true;
			return false;
		}
		ptrdiff_t n = h2_feed(c->h2, &c->input, &err);
		if (n < 0) {
			session_failed(c, &err);
			return false;
		}
		c->input.data += n;
		c->input.len -= (size_t)n;
		h2_dispatch(c->h2);
		if (c->state != CONN_OPEN)
			return false;
	}
	slice_release(&c->input);
	return true;
}

static void input_ended(struct rpc_conn *c, enum transport_result r, struct err *err)
{
	switch (r) {
	case TRANSPORT_EOF:
		err_set(err, GRPC_UNAVAILABLE, "the peer has closed the connection");
		conn_close(c, err);
		break;
	case TRANSPORT_FAILED:
		conn_close(c, err);
		break;
	case TRANSPORT_STARVED:
		c->starved = true;
		c->starved_ms = loop_now_ms(c->loop);
		log_debug(&conn_log, "receive_blocks_exhausted", LOG_U64("conn", c->id));
		break;
	case TRANSPORT_AGAIN:
		if (transport_reads_when_writable(c->transport))
			c->blocked = true;
		break;
	case TRANSPORT_DONE:
		break;
	}
}

/* Reads while there is more, up to the turn's budget. */
static void read_and_feed(struct rpc_conn *c)
{
	size_t budget = c->options->read_budget;
	bool more = true;

	while (more && budget > 0) {
		struct err err = { 0 };
		enum transport_result r =
		    transport_read(c->transport, c->loop, budget, &c->input, &more, &err);
		if (r != TRANSPORT_DONE) {
			input_ended(c, r, &err);
			return;
		}
		budget -= c->input.len;
		c->heard_ms = loop_now_ms(c->loop);
		c->pinged_ms = 0;
		if (!feed(c))
			return;
	}
	/* What TLS holds already, no readiness of the socket tells of. */
	c->again = more && transport_has_pending(c->transport);
}

static void tell_ready(struct rpc_conn *c)
{
	if (c->told_ready || !h2_is_ready(c->h2))
		return;
	c->told_ready = true;
	if (transport_trip_us(c->transport) < c->options->near_us)
		h2_link_is_near(c->h2);
	if (c->ops->ready != NULL)
		c->ops->ready(c->cookie);
}

void conn_input(struct rpc_conn *c)
{
	c->again = c->starved = false;
	h2_begin_turn(c->h2, loop_now_ms(c->loop));
	if (feed(c))
		read_and_feed(c);
	if (c->state != CONN_OPEN)
		return;
	tell_ready(c);
	if (c->state != CONN_OPEN)
		return;
	conn_watch(c);
	check_done(c);
}

/* Output: once, at the end of the turn. What is left then waits for the socket, which
 * is how others get their turn. */
void conn_output(struct rpc_conn *c)
{
	struct err err = { 0 };
	size_t waited = c->out.bytes;
	int more = h2_frame(c->h2, &c->out, &err);

	if (more < 0) {
		session_failed(c, &err);
		return;
	}
	size_t framed = c->out.bytes;
	enum transport_result r = transport_write(c->transport, &c->out, h2_left, c->h2, &err);
	if (r != TRANSPORT_DONE && r != TRANSPORT_AGAIN) {
		conn_close(c, &err);
		return;
	}
	if (waited == 0 || c->out.bytes < framed)
		c->moved_ms = loop_now_ms(c->loop);
	c->blocked = r == TRANSPORT_AGAIN || more > 0;
	h2_dispatch(c->h2);
	if (c->state != CONN_OPEN)
		return;
	conn_watch(c);
	check_done(c);
	conn_arm(c);
}
