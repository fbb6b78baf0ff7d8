#include "rpc/conn.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "rpc/limits.h"

static const struct log_area area = {"rpc"};

enum conn_state { CONN_CONNECTING, CONN_HANDSHAKE, CONN_OPEN, CONN_LINGER, CONN_CLOSING };

static const char *const state_names[] = {"connecting", "handshake", "open", "linger", "closing"};

struct rpc_conn {
	struct loop *loop;
	const struct rpc_options *options;
	const struct conn_ops *ops;
	void *cookie;
	enum conn_state state;
	bool is_server, draining, told_ready, blocked, starved;
	uint64_t id;
	char peer[ADDRESS_TEXT_MAX];
	char *authority;
	bool tls;
	struct transport *transport;
	struct watch *watch;
	struct h2 *h2;
	struct outq out;
	struct slice input; /* read and not yet fed: the turn's frame budget was used up */
	struct timer *timer;
	uint64_t heard_ms;   /* when bytes last came */
	uint64_t moved_ms;   /* when output last left, or there was none */
	uint64_t pinged_ms;  /* 0: no PING is out */
	uint64_t since_ms;   /* when the state, or a header block, began */
	struct post turn;    /* output, and input left over, at the end of the turn */
	struct post end;
	struct err why;
	void *data;
	void (*free_data)(void *data);
};

static void run_turn(struct post *);
static void arm_timer(struct rpc_conn *);

static void set_state(struct rpc_conn *c, enum conn_state state)
{
	assert(state > c->state);
	log_trace(&area, "conn_state", LOG_U64("conn", c->id), LOG_STR("from", state_names[c->state]),
	    LOG_STR("to", state_names[state]));
	c->state = state;
	c->since_ms = loop_now_ms(c->loop);
}

static void want(struct rpc_conn *c)
{
	unsigned events = c->input.len == 0 && !c->starved ? WATCH_READ : WATCH_NONE;

	if (c->blocked)
		events |= WATCH_WRITE;
	if (c->watch != NULL)
		watch_want(c->watch, events);
}

static void turn_later(struct rpc_conn *c)
{
	c->turn.run = run_turn;
	if (!c->turn.pending && c->state < CONN_CLOSING)
		loop_post(c->loop, &c->turn);
}

void conn_wake(void *conn)
{
	struct rpc_conn *c = conn;

	if (c->state >= CONN_OPEN && !c->blocked)
		turn_later(c);
}

/* The end. */

static void free_conn(struct post *post)
{
	struct rpc_conn *c = (struct rpc_conn *)((char *)post - offsetof(struct rpc_conn, end));

	if (c->free_data != NULL)
		c->free_data(c->data);
	free(c->authority);
	free(c);
}

static void run_end(struct post *post)
{
	struct rpc_conn *c = (struct rpc_conn *)((char *)post - offsetof(struct rpc_conn, end));
	struct err why = c->why;
	struct err lost = c->why;

	if (lost.code == GRPC_OK)
		err_set(&lost, GRPC_CANCELLED, "the connection was closed");
	h2_stop(c->h2, call_lost, &lost);
	outq_free(&c->out, h2_left, c->h2);
	h2_free(c->h2);
	c->h2 = NULL;
	slice_release(&c->input);
	/* The memory stays for the turn; what refers to it now is nobody's any more. */
	c->end.run = free_conn;
	loop_post(c->loop, &c->end);
	c->ops->closed(c->cookie, c, &why);
}

void conn_close(struct rpc_conn *c, const struct err *why)
{
	if (c->state == CONN_CLOSING)
		return;
	set_state(c, CONN_CLOSING);
	if (why != NULL)
		c->why = *why;
	log_debug(&area, "conn_close", LOG_U64("conn", c->id), LOG_STR("peer", c->peer), LOG_ERR(&c->why));
	loop_unpost(c->loop, &c->turn);
	watch_free(c->watch);
	c->watch = NULL;
	timer_free(c->timer);
	c->timer = NULL;
	transport_free(c->transport);
	c->transport = NULL;
	c->end.run = run_end;
	loop_post(c->loop, &c->end);
}

/* A fault of the peer's: what is queued (a GOAWAY that says why) still goes out. */
static void fail(struct rpc_conn *c, const struct err *why)
{
	struct err err = {0};

	log_debug(&area, "conn_fail", LOG_U64("conn", c->id), LOG_STR("peer", c->peer), LOG_ERR(why));
	if (c->state == CONN_OPEN && h2_frame(c->h2, &c->out, &err) >= 0)
		transport_write(c->transport, &c->out, h2_left, c->h2, &err);
	conn_close(c, why);
}

/* Input. */

/* False: the connection is closing, or the turn's budget is used up. */
static bool feed(struct rpc_conn *c)
{
	struct err err = {0};

	while (c->input.len > 0) {
		if (h2_turn_is_over(c->h2)) {
			turn_later(c);
			return false;
		}
		ptrdiff_t n = h2_feed(c->h2, &c->input, &err);
		if (n < 0 && h2_flood(c->h2) != NULL)
			log_warn(&area, "flood", LOG_U64("conn", c->id), LOG_STR("peer", c->peer),
			    LOG_STR("of", h2_flood(c->h2)));
		if (n < 0) {
			fail(c, &err);
			return false;
		}
		c->input.data += n;
		c->input.len -= (size_t)n;
		h2_dispatch(c->h2);
		if (c->state != CONN_OPEN)
			return false;
		if (n == 0)
			break;
	}
	slice_release(&c->input);
	return true;
}

static void told_ready(struct rpc_conn *c)
{
	if (c->told_ready || !h2_is_ready(c->h2))
		return;
	c->told_ready = true;
	if (c->ops->ready != NULL)
		c->ops->ready(c->cookie);
}

static void check_done(struct rpc_conn *c)
{
	if (c->state == CONN_OPEN && (h2_is_done(c->h2) || (c->draining && h2_stream_count(c->h2) == 0)) &&
	    c->out.bytes == 0 && !h2_wants_output(c->h2))
		conn_close(c, NULL);
}

static void read_input(struct rpc_conn *c)
{
	size_t budget = c->options->read_budget;
	struct err err = {0};
	enum transport_result r = TRANSPORT_DONE;

	while (budget > 0 && c->state == CONN_OPEN) {
		r = transport_read(c->transport, c->loop, budget, &c->input, &err);
		if (r != TRANSPORT_DONE)
			break;
		bool more = c->input.len == budget || transport_has_pending(c->transport);
		budget -= c->input.len < budget ? c->input.len : budget;
		c->heard_ms = loop_now_ms(c->loop);
		c->pinged_ms = 0;
		if (!feed(c))
			break;
		if (!more)
			break; /* the kernel had no more; level-triggered, so nothing is missed */
	}
	if (c->state != CONN_OPEN)
		return;
	if (r == TRANSPORT_EOF)
		err_set(&err, GRPC_UNAVAILABLE, "the peer has closed the connection");
	if (r == TRANSPORT_EOF || r == TRANSPORT_FAILED) {
		conn_close(c, &err);
		return;
	}
	if (r == TRANSPORT_STARVED)
		c->starved = true;
	told_ready(c);
	if (c->state == CONN_OPEN && (transport_has_pending(c->transport) || h2_is_done(c->h2)))
		turn_later(c);
}

/* Output. */

static void write_output(struct rpc_conn *c)
{
	struct err err = {0};
	int more = 1;

	while (more > 0 && c->state == CONN_OPEN) {
		if ((more = h2_frame(c->h2, &c->out, &err)) < 0) {
			conn_close(c, &err);
			return;
		}
		size_t before = c->out.bytes;
		enum transport_result r = transport_write(c->transport, &c->out, h2_left, c->h2, &err);
		if (r == TRANSPORT_FAILED || r == TRANSPORT_EOF) {
			conn_close(c, &err);
			return;
		}
		c->blocked = r == TRANSPORT_AGAIN;
		if (c->out.bytes < before || c->out.bytes == 0)
			c->moved_ms = loop_now_ms(c->loop);
		h2_dispatch(c->h2);
		if (c->blocked)
			break;
	}
	if (c->out.bytes == 0)
		outq_trim(&c->out);
}

/* Once at the end of a turn in which something happened. */
static void run_turn(struct post *post)
{
	struct rpc_conn *c = (struct rpc_conn *)((char *)post - offsetof(struct rpc_conn, turn));

	if (c->state != CONN_OPEN)
		return;
	if (c->input.len > 0 || transport_has_pending(c->transport)) {
		h2_begin_turn(c->h2, loop_now_ms(c->loop));
		if (c->input.len > 0)
			feed(c);
		else
			read_input(c);
	}
	if (c->state == CONN_OPEN && !c->blocked)
		write_output(c);
	if (c->state == CONN_OPEN) {
		told_ready(c);
		want(c);
		check_done(c);
	}
}

/* Connecting and the handshake. */

static void opened(struct rpc_conn *c)
{
	set_state(c, CONN_OPEN);
	c->heard_ms = c->moved_ms = loop_now_ms(c->loop);
	arm_timer(c);
	want(c);
	turn_later(c); /* our SETTINGS */
}

static void handshake(struct rpc_conn *c)
{
	struct err err = {0};
	bool wants_write;

	switch (transport_handshake(c->transport, &wants_write, &err)) {
	case TRANSPORT_DONE:
		opened(c);
		break;
	case TRANSPORT_AGAIN:
		watch_want(c->watch, wants_write ? WATCH_WRITE : WATCH_READ);
		break;
	default:
		conn_close(c, &err);
		break;
	}
}

static void connected(struct rpc_conn *c)
{
	struct err err;
	int why = 0;
	socklen_t len = sizeof(why);

	if (getsockopt(transport_fd(c->transport), SOL_SOCKET, SO_ERROR, &why, &len) != 0)
		why = errno;
	if (why != 0) {
		err_sys(&err, why, "connect to %s", c->peer);
		err.code = GRPC_UNAVAILABLE;
		conn_close(c, &err);
		return;
	}
	set_state(c, CONN_HANDSHAKE);
	handshake(c);
}

static void on_ready(void *cookie, unsigned events)
{
	struct rpc_conn *c = cookie;

	if (c->state == CONN_CONNECTING) {
		connected(c);
	} else if (c->state == CONN_HANDSHAKE) {
		handshake(c);
	} else if (c->state == CONN_OPEN) {
		h2_begin_turn(c->h2, loop_now_ms(c->loop));
		if (events & (WATCH_READ | WATCH_ERROR))
			read_input(c);
		if (c->state == CONN_OPEN && (events & WATCH_WRITE)) {
			c->blocked = false;
			turn_later(c);
		}
		if (c->state == CONN_OPEN)
			want(c);
	}
}

/* Time. */

static void keep_alive(struct rpc_conn *c, uint64_t now)
{
	if (c->pinged_ms == 0 && now - c->heard_ms >= c->options->keepalive_ms) {
		c->pinged_ms = now;
		h2_ping(c->h2);
	}
}

/* What has taken too long, NULL if nothing has. */
static const char *overdue(struct rpc_conn *c, uint64_t now)
{
	const struct rpc_options *o = c->options;

	if (c->state == CONN_CONNECTING)
		return now - c->since_ms >= o->connect_ms ? "connecting" : NULL;
	if (c->state == CONN_HANDSHAKE)
		return now - c->since_ms >= o->handshake_ms ? "the TLS handshake" : NULL;
	if (!h2_is_ready(c->h2))
		return now - c->since_ms >= o->preface_ms ? "the HTTP/2 preface" : NULL;
	if (h2_is_mid_headers(c->h2) && now - c->heard_ms >= o->headers_ms)
		return "a header block";
	if (c->out.bytes > 0 && now - c->moved_ms >= o->stall_ms)
		return "taking what was sent";
	if (c->pinged_ms != 0 && now - c->pinged_ms >= o->keepalive_timeout_ms)
		return "answering a PING";
	return NULL;
}

static void on_timer(void *cookie)
{
	struct rpc_conn *c = cookie;
	uint64_t now = loop_now_ms(c->loop);
	const char *what = overdue(c, now);
	struct err err;

	if (what != NULL) {
		err_set(&err, GRPC_UNAVAILABLE, "the peer took too long for %s", what);
		fail(c, &err);
		return;
	}
	if (c->state == CONN_OPEN) {
		keep_alive(c, now);
		if (h2_queued(c->h2) > 0)
			h2_settle(c->h2);
		if (c->starved) {
			c->starved = false;
			want(c);
		}
	}
	arm_timer(c);
}

/* Often enough for what can happen next: seldom when idle. */
static void arm_timer(struct rpc_conn *c)
{
	const struct rpc_options *o = c->options;
	uint64_t ms = o->keepalive_timeout_ms < 1000 ? o->keepalive_timeout_ms : 1000;

	if (c->state == CONN_OPEN && (h2_queued(c->h2) > 0 || c->out.bytes > 0) && o->sweep_ms < ms)
		ms = o->sweep_ms;
	if (c->starved && o->starve_ms < ms)
		ms = o->starve_ms;
	if (c->state == CONN_CONNECTING && o->connect_ms < ms)
		ms = o->connect_ms;
	if (c->state == CONN_HANDSHAKE && o->handshake_ms < ms)
		ms = o->handshake_ms;
	if (o->preface_ms < ms)
		ms = o->preface_ms;
	if (c->timer != NULL)
		timer_start(c->timer, ms > 0 ? ms : 1);
}

/* Birth. */

static void name_peer(struct rpc_conn *c, int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	const int on = 1;

	snprintf(c->peer, sizeof(c->peer), "unix");
	if (getpeername(fd, (struct sockaddr *)&sa, &len) == 0 && sa.ss_family != AF_UNIX) {
		address_text((struct sockaddr *)&sa, len, c->peer);
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	}
}

static uint64_t next_id(void)
{
	static atomic_ullong last;

	return atomic_fetch_add(&last, 1) + 1;
}

static int conn_init(struct rpc_conn *c, const struct conn_options *o, struct err *err)
{
	c->h2 = h2_create(o->is_server, o->options, &call_h2_ops, c);
	c->timer = timer_create_on(c->loop, on_timer, c);
	c->authority = strdup(o->scheme_host != NULL ? o->scheme_host : "");
	if (c->h2 == NULL || c->timer == NULL || c->authority == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory for a connection");
	if ((c->watch = watch_create(c->loop, o->fd, on_ready, c, err)) == NULL)
		return -1;
	c->transport = transport_create(o->fd, o->tls, o->is_server, o->host, err);
	return c->transport != NULL ? 0 : -1;
}

struct rpc_conn *conn_create(struct loop *loop, const struct conn_options *o, struct err *err)
{
	struct rpc_conn *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory for a connection");
		return NULL;
	}
	c->loop = loop;
	c->options = o->options;
	c->ops = o->ops;
	c->cookie = o->cookie;
	c->is_server = o->is_server;
	c->tls = o->tls != NULL;
	c->id = next_id();
	c->since_ms = loop_now_ms(loop);
	outq_init(&c->out);
	if (conn_init(c, o, err) != 0) {
		watch_free(c->watch);
		timer_free(c->timer);
		h2_free(c->h2);
		free(c->authority);
		free(c);
		return NULL;
	}
	name_peer(c, o->fd);
	arm_timer(c);
	if (o->connecting) {
		watch_want(c->watch, WATCH_WRITE);
	} else {
		set_state(c, CONN_HANDSHAKE);
		handshake(c);
	}
	return c;
}

void conn_drain(struct rpc_conn *c)
{
	if (c->draining || c->state == CONN_CLOSING)
		return;
	c->draining = true;
	if (c->state != CONN_OPEN) {
		conn_close(c, NULL);
		return;
	}
	h2_drain(c->h2);
	turn_later(c);
}

/* Questions. */

struct h2 *conn_h2(struct rpc_conn *c)
{
	return c->h2;
}

const char *conn_authority(const struct rpc_conn *c)
{
	return c->authority;
}

const char *conn_scheme(const struct rpc_conn *c)
{
	return c->tls ? "https" : "http";
}

bool conn_takes_calls(const struct rpc_conn *c)
{
	return c->state < CONN_LINGER && !c->draining && c->h2 != NULL && !h2_is_draining(c->h2);
}

size_t conn_call_count(const struct rpc_conn *c)
{
	return c->h2 != NULL ? h2_stream_count(c->h2) : 0;
}

void conn_on_call(struct rpc_conn *c, struct rpc_call *call)
{
	c->ops->call(c->cookie, call);
}

uint64_t rpc_conn_id(const struct rpc_conn *c)
{
	return c->id;
}

const char *rpc_conn_peer(const struct rpc_conn *c)
{
	return c->peer;
}

struct loop *rpc_conn_loop(const struct rpc_conn *c)
{
	return c->loop;
}

void rpc_conn_allow_streams(struct rpc_conn *c, uint32_t max)
{
	if (c->h2 != NULL && c->state < CONN_CLOSING)
		h2_allow_streams(c->h2, max);
}

void rpc_conn_set_data(struct rpc_conn *c, void *data, void (*free_data)(void *data))
{
	if (c->free_data != NULL)
		c->free_data(c->data);
	c->data = data;
	c->free_data = free_data;
}

void *rpc_conn_data(const struct rpc_conn *c)
{
	return c->data;
}
