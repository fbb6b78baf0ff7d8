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

#include "rpc/conn_internal.h"
#include "rpc/limits.h"

const struct log_area conn_log = { "rpc" };

static const char *const state_names[] = { "connecting", "handshake", "open", "linger", "closing" };

void conn_set_state(struct rpc_conn *c, enum conn_state state)
{
	assert(state > c->state);
	log_trace(&conn_log, "conn_state", LOG_U64("conn", c->id),
	    LOG_STR("from", state_names[c->state]), LOG_STR("to", state_names[state]));
	c->state = state;
	c->since_ms = loop_now_ms(c->loop);
}

/* The end. */

static void free_conn(struct rpc_conn *c)
{
	if (c->free_data != NULL)
		c->free_data(c->data);
	outq_free(&c->out, h2_left, c->h2);
	h2_free(c->h2);
	slice_release(&c->input);
	watch_free(c->watch);
	timer_free(c->timer);
	transport_free(c->transport);
	free(c->authority);
	free(c);
}

/* The owner may free what the connection borrows, so it hears last. */
static void run_end(struct post *post)
{
	struct rpc_conn *c = (struct rpc_conn *)((char *)post - offsetof(struct rpc_conn, end));
	struct err why = c->why, lost = c->why;
	const struct conn_ops *ops = c->ops;
	void *cookie = c->cookie;

	if (lost.code == GRPC_OK)
		err_set(&lost, GRPC_CANCELLED, "the connection was closed");
	h2_stop(c->h2, call_lost, &lost);
	free_conn(c);
	ops->closed(cookie, &why);
}

void conn_close(struct rpc_conn *c, const struct err *why)
{
	if (c->state == CONN_CLOSING)
		return;
	conn_set_state(c, CONN_CLOSING);
	if (why != NULL && c->why.code == GRPC_OK)
		c->why = *why;
	log_debug(&conn_log, "conn_close", LOG_U64("conn", c->id), LOG_STR("peer", c->peer),
	    LOG_ERR(&c->why));
	loop_unpost(c->loop, &c->turn);
	loop_unpost(c->loop, &c->rearm);
	watch_free(c->watch);
	c->watch = NULL;
	timer_free(c->timer);
	c->timer = NULL;
	transport_free(c->transport);
	c->transport = NULL;
	c->end.run = run_end;
	loop_post(c->loop, &c->end);
}

/* Connecting and the handshake. */

static void handshake(struct rpc_conn *c)
{
	struct err err = { 0 };
	bool wants_write;

	switch (transport_handshake(c->transport, &wants_write, &err)) {
	case TRANSPORT_DONE:
		conn_set_state(c, CONN_OPEN);
		c->heard_ms = c->moved_ms = c->since_ms;
		c->again = transport_has_pending(c->transport);
		conn_watch(c);
		conn_turn_later(c); /* our SETTINGS */
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
	struct err err = { 0 };
	int why = 0;
	socklen_t len = sizeof(why);

	if (getsockopt(transport_fd(c->transport), SOL_SOCKET, SO_ERROR, &why, &len) != 0)
		why = errno;
	if (why != 0) {
		err_sys(&err, why, "connect to %s", c->authority);
		err.code = GRPC_UNAVAILABLE;
		conn_close(c, &err);
		return;
	}
	conn_set_state(c, CONN_HANDSHAKE);
	handshake(c);
}

static void on_ready(void *cookie, unsigned events)
{
	struct rpc_conn *c = cookie;

	switch (c->state) {
	case CONN_CONNECTING:
		connected(c);
		break;
	case CONN_HANDSHAKE:
		handshake(c);
		break;
	case CONN_OPEN:
		if (events & WATCH_WRITE) {
			c->blocked = false;
			conn_turn_later(c);
		}
		if ((events & (WATCH_READ | WATCH_ERROR)) ||
		    transport_reads_when_writable(c->transport))
			conn_input(c);
		break;
	case CONN_LINGER:
		conn_linger(c);
		break;
	case CONN_CLOSING:
		break;
	}
	conn_arm(c);
}

/* Birth. */

static void name_peer(struct rpc_conn *c, int fd)
{
	struct sockaddr_storage sa = { .ss_family = AF_UNSPEC };
	socklen_t len = sizeof(sa);
	const int on = 1;

	snprintf(c->peer, sizeof(c->peer), "unix");
	if (getsockname(fd, (struct sockaddr *)&sa, &len) != 0 || sa.ss_family == AF_UNIX)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	len = sizeof(sa);
	if (getpeername(fd, (struct sockaddr *)&sa, &len) == 0)
		address_text((struct sockaddr *)&sa, len, c->peer);
	else
		snprintf(c->peer, sizeof(c->peer), "%s", c->authority);
}

static uint64_t next_id(void)
{
	static atomic_ullong last;

	return atomic_fetch_add(&last, 1) + 1;
}

static int conn_init(struct rpc_conn *c, const struct conn_options *o, struct err *err)
{
	c->h2 = h2_create(o->is_server, o->options, &call_h2_ops, c);
	c->timer = timer_create_on(c->loop, conn_on_timer, c);
	c->authority = strdup(o->authority != NULL ? o->authority : "");
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
	c->is_tls = o->tls != NULL;
	c->id = next_id();
	c->since_ms = loop_now_ms(loop);
	outq_init(&c->out);
	if (conn_init(c, o, err) != 0) {
		free_conn(c);
		return NULL;
	}
	name_peer(c, o->fd);
	if (o->connecting) {
		watch_want(c->watch, WATCH_WRITE);
	} else {
		conn_set_state(c, CONN_HANDSHAKE);
		handshake(c);
	}
	conn_arm(c);
	return c;
}

/* Twice GOAWAY: the first refuses nothing, so that streams that are on their way are
 * served; the second, a round trip later, names the last one (RFC 9113, section 6.8). */
void conn_drain(struct rpc_conn *c)
{
	if (c->noticed_ms != 0 || c->state >= CONN_LINGER)
		return;
	if (c->state != CONN_OPEN) {
		conn_close(c, NULL);
		return;
	}
	c->noticed_ms = loop_now_ms(c->loop);
	h2_drain_notice(c->h2);
	h2_ping(c->h2);
	conn_arm(c);
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
	return c->is_tls ? "https" : "http";
}

bool conn_takes_calls(const struct rpc_conn *c)
{
	return c->state <= CONN_OPEN && c->noticed_ms == 0 && !h2_is_draining(c->h2);
}

size_t conn_call_count(const struct rpc_conn *c)
{
	return h2_stream_count(c->h2);
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
	if (c->state <= CONN_OPEN)
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
