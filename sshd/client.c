/* A connection's life: how it comes to be, what it waits for, how it ends. */
#include "sshd/client.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "sshd/client_parts.h"

#define LINGER_READS 64 /* in a turn; what comes is dropped */

static const struct log_area area = { "client" };

/* States. */

const char *client_state_name(enum client_state state)
{
	static const char *const names[] = {
		[CLIENT_STATE_KEX] = "kex",
		[CLIENT_STATE_AUTH] = "auth",
		[CLIENT_STATE_OPEN] = "open",
		[CLIENT_STATE_ENDING] = "ending",
		[CLIENT_STATE_LINGER] = "linger",
	};

	return names[state];
}

static bool is_startup(const struct client *c)
{
	return c->state < CLIENT_STATE_OPEN && c->address.ss_family != AF_UNSPEC;
}

void client_set_state(struct client *c, enum client_state state)
{
	bool was_startup = is_startup(c);

	assert(state == c->state + 1 || state == CLIENT_STATE_ENDING ||
	    c->state == CLIENT_STATE_ENDING);
	assert(state > c->state);
	c->state = state;
	if (was_startup && !is_startup(c))
		c->sshd->unauthenticated--;
}

/* The list of all, by age. */

static void enlist(struct client *c)
{
	struct sshd *s = c->sshd;

	c->older = s->newest;
	if (s->newest != NULL)
		s->newest->newer = c;
	else
		s->oldest = c;
	s->newest = c;
	s->clients++;
	if (is_startup(c))
		s->unauthenticated++;
}

static void delist(struct client *c)
{
	struct sshd *s = c->sshd;

	if (c->older != NULL)
		c->older->newer = c->newer;
	else
		s->oldest = c->newer;
	if (c->newer != NULL)
		c->newer->older = c->older;
	else
		s->newest = c->older;
	s->clients--;
	if (is_startup(c))
		s->unauthenticated--;
}

struct client *client_newer(const struct client *c)
{
	return c->newer;
}

struct client *client_oldest_startup(const struct sshd *s)
{
	struct client *c = s->oldest;

	while (c != NULL && !is_startup(c))
		c = c->newer;
	return c;
}

/* The end. */

void client_free(struct client *c)
{
	struct sshd *s = c->sshd;

	if (c->watch != NULL)
		delist(c);
	loop_unpost(s->loop, &c->turn);
	channels_free(c->channels);
	auth_free(&c->auth);
	watch_free(c->watch);
	timer_free(c->timer);
	ssh_free(c->ssh);
	close(c->fd);
	free(c->token_session);
	free(c->session.sandbox_id);
	free(c->session.sandbox);
	free(c);
}

static uint64_t now(const struct client *c)
{
	return loop_now_ms(c->sshd->loop);
}

static void punish(struct client *c, const struct err *why)
{
	enum penalty kind = PENALTY_NO_AUTH;

	if (!is_startup(c))
		return;
	if (c->auth.failures > 0)
		kind = PENALTY_AUTH;
	else if (why->code == GRPC_DEADLINE_EXCEEDED)
		kind = PENALTY_GRACE;
	else if (why->code == GRPC_FAILED_PRECONDITION)
		kind = PENALTY_PROTOCOL;
	else if (why->code == GRPC_UNAVAILABLE)
		return; /* our fault, or the gateway's */
	penalties_add(c->sshd->penalties, (struct sockaddr *)&c->address, kind, now(c));
}

/* Said once, when it stops to be of use. */
static void log_end(struct client *c, const struct err *why)
{
	const char *session = c->session.id[0] != '\0' ? c->session.id : NULL;

	if (c->state == CLIENT_STATE_OPEN)
		log_info(&area, "client_close", LOG_U64("client", c->id), LOG_STR("peer", c->peer),
		    LOG_STR("session", session), LOG_STR("reason", why->text),
		    LOG_U64("in", c->bytes_in), LOG_U64("out", c->bytes_out),
		    LOG_U64("ms", now(c) - c->born_ms));
	else
		log_info(&area, "client_unopened", LOG_U64("client", c->id),
		    LOG_STR("peer", c->peer), LOG_STR("state", client_state_name(c->state)),
		    LOG_STR("reason", why->text));
}

/* No longer of use: its calls end, and the gateway hears of it. */
static void retire(struct client *c, const struct err *why)
{
	log_end(c, why);
	punish(c, why);
	auth_free(&c->auth);
	channels_free(c->channels);
	c->channels = NULL;
	if (c->state == CLIENT_STATE_OPEN) {
		gate_usage(c->sshd->gate, c->id, c->bytes_in, c->bytes_out);
		gate_closed(c->sshd->gate, c->id);
	}
}

void client_lost(struct client *c)
{
	static const char closed[] = "Socket error", left[] = "Received SSH_MSG_DISCONNECT";
	const char *said = ssh_get_error(c->ssh);
	struct err why;

	if (said[0] == '\0' || strncmp(said, closed, sizeof(closed) - 1) == 0)
		err_set(&why, GRPC_CANCELLED, "the client closed the connection");
	else if (strncmp(said, left, sizeof(left) - 1) == 0)
		err_set(&why, GRPC_CANCELLED, "%s", said);
	else
		err_set(&why, GRPC_FAILED_PRECONDITION, "%s", said);
	if (c->state <= CLIENT_STATE_OPEN)
		retire(c, &why);
	client_free(c);
}

static void bye(struct client *c)
{
	client_say_goodbye(c);
	shutdown(c->fd, SHUT_WR);
	client_set_state(c, CLIENT_STATE_LINGER);
	watch_want(c->watch, WATCH_READ);
	timer_start(c->timer, CLIENT_LINGER_MS);
}

/* What was written before the end leaves, as far as it does so in time. */
static void step_ending(struct client *c)
{
	if (client_has_pending(c))
		ssh_blocking_flush(c->ssh, 0);
	if (client_has_pending(c) && ssh_is_connected(c->ssh))
		watch_want(c->watch, WATCH_WRITE);
	else
		bye(c);
}

/* A socket that is closed with something unread in it is reset, and the client might never
 * see what was said. So it is read until the client closes, too. May free. */
static void step_linger(struct client *c)
{
	char dropped[4096];
	ssize_t n = 1;

	for (int i = 0; i < LINGER_READS && n > 0; i++)
		n = recv(c->fd, dropped, sizeof(dropped), 0);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		client_free(c);
}

void client_end(struct client *c, const struct err *why)
{
	char line[ERR_TEXT_MAX + 16];

	if (c->state >= CLIENT_STATE_ENDING)
		return;
	if (c->channels != NULL && !c->failing) {
		snprintf(line, sizeof(line), "towline: %s", why->text);
		channels_say(c->channels, line);
	}
	if (why != &c->why)
		c->why = *why;
	retire(c, &c->why);
	client_set_state(c, CLIENT_STATE_ENDING);
	c->failing = false;
	timer_start(c->timer, CLIENT_FLUSH_MS);
	client_flush(c);
	watch_want(c->watch, WATCH_NONE);
}

void client_fail(struct client *c, const struct err *why)
{
	if (c->failing || c->state >= CLIENT_STATE_ENDING)
		return;
	c->failing = true;
	c->why = *why;
	client_flush(c);
}

void client_drop(struct client *c, const char *why)
{
	struct err err;

	err_set(&err, GRPC_CANCELLED, "%s", why);
	if (c->state <= CLIENT_STATE_OPEN)
		retire(c, &err);
	client_free(c);
}

/* What makes it go on. */

static void go_on(struct client *c)
{
	if (c->state <= CLIENT_STATE_OPEN)
		client_step(c);
	else if (c->state == CLIENT_STATE_ENDING)
		step_ending(c);
	else
		step_linger(c);
}

static void on_ready(void *cookie, unsigned events)
{
	(void)events; /* an error is found by reading */
	go_on(cookie);
}

static void on_turn(struct post *post)
{
	go_on((struct client *)((char *)post - offsetof(struct client, turn)));
}

void client_flush(struct client *c)
{
	if (!c->turn.pending)
		loop_post(c->sshd->loop, &c->turn);
}

/* Until it is open; and the two waits of its end. May free. */
static void on_timer(void *cookie)
{
	struct client *c = cookie;
	uint64_t age = client_age_ms(c), grace = c->sshd->limits.login_grace_ms;
	struct err err;

	if (c->state == CLIENT_STATE_LINGER) {
		client_free(c);
	} else if (c->state == CLIENT_STATE_ENDING) {
		bye(c);
	} else if (age >= grace || ssh_get_clientbanner(c->ssh) == NULL) {
		err_set(&err, GRPC_DEADLINE_EXCEEDED, "the time to log in is over");
		client_end(c, &err);
	} else {
		timer_start(c->timer, grace - age);
	}
}

/* The beginning. */

static int watch_it(struct client *c, const struct client_options *o, struct err *err)
{
	int copy = fcntl(o->fd, F_DUPFD_CLOEXEC, 0);

	if (copy < 0)
		return err_sys(err, errno, "a connection's descriptor");
	if ((c->ssh = library_session(c->sshd->library, copy, err)) == NULL)
		return -1;
	ssh_set_counters(c->ssh, &c->socket_count, &c->packet_count);
	c->callbacks.userdata = c;
	c->callbacks.global_request_function = client_on_global;
	ssh_callbacks_init(&c->callbacks);
	ssh_set_callbacks(c->ssh, &c->callbacks);
	if (ssh_handle_key_exchange(c->ssh) == SSH_ERROR)
		return err_set(err, GRPC_CANCELLED, "libssh: %s", ssh_get_error(c->ssh));
	if ((c->timer = timer_create_on(c->sshd->loop, on_timer, c)) == NULL ||
	    (c->watch = watch_create(c->sshd->loop, c->fd, on_ready, c, err)) == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory for a connection");
	return 0;
}

static void fill(struct client *c, const struct client_options *o)
{
	struct sshd *s = c->sshd;

	c->id = ++s->last_id;
	c->born_ms = c->heard_ms = c->used_ms = loop_now_ms(s->loop);
	c->turn.run = on_turn;
	snprintf(c->peer, sizeof(c->peer), "%s", o->peer);
	if (o->address != NULL && o->address->sa_family == AF_INET)
		memcpy(&c->address, o->address, sizeof(struct sockaddr_in));
	else if (o->address != NULL && o->address->sa_family == AF_INET6)
		memcpy(&c->address, o->address, sizeof(struct sockaddr_in6));
}

struct client *client_create(struct sshd *s, const struct client_options *o, struct err *err)
{
	struct client *c = calloc(1, sizeof(*c));
	uint64_t banner = CLIENT_BANNER_MS;

	if (c == NULL) {
		close(o->fd);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory for a connection");
		return NULL;
	}
	c->sshd = s;
	c->fd = o->fd;
	fill(c, o);
	if ((o->session_id != NULL && (c->token_session = strdup(o->session_id)) == NULL) ||
	    watch_it(c, o, err) != 0) {
		client_free(c);
		return NULL;
	}
	enlist(c);
	log_debug(&area, "client_accept", LOG_U64("client", c->id), LOG_STR("peer", c->peer));
	timer_start(
	    c->timer, banner < s->limits.login_grace_ms ? banner : s->limits.login_grace_ms);
	client_flush(c);
	return c;
}

/* While it is open. */

void client_announce(struct client *c)
{
	if (c->state == CLIENT_STATE_OPEN)
		gate_opened(c->sshd->gate, c->id, c->session.id, c->peer);
}

void client_became_open(struct client *c)
{
	struct err err;

	timer_stop(c->timer);
	client_set_state(c, CLIENT_STATE_OPEN);
	c->sshd->counters.opened++;
	c->heard_ms = c->used_ms = c->reported_ms = now(c);
	log_info(&area, "client_open", LOG_U64("client", c->id), LOG_STR("peer", c->peer),
	    LOG_STR("session", c->session.id), LOG_STR("sandbox", c->session.sandbox),
	    LOG_STR("client", ssh_get_clientbanner(c->ssh)));
	/* If the session ended meanwhile, this is answered. */
	client_announce(c);
	if ((c->channels = channels_create(c, &err)) == NULL)
		client_fail(c, &err);
}

static void report_usage(struct client *c)
{
	if (now(c) - c->reported_ms < SSHD_USAGE_MS || c->reported == c->bytes_in + c->bytes_out)
		return;
	c->reported = c->bytes_in + c->bytes_out;
	c->reported_ms = now(c);
	gate_usage(c->sshd->gate, c->id, c->bytes_in, c->bytes_out);
}

static bool is_expired(struct client *c, int64_t wall_seconds, struct err *err)
{
	if (now(c) < c->expires_ms && wall_seconds < c->expires_wall)
		return false;
	err_set(
	    err, GRPC_DEADLINE_EXCEEDED, "the session has expired; create another to log in again");
	return true;
}

/* Asks for a sign of life from a client that has given none for a while. */
static bool is_dead(struct client *c, struct err *err)
{
	uint64_t every = c->sshd->limits.keepalive_ms;

	if (c->packet_count.in_packets != c->heard_packets) {
		c->heard_packets = c->packet_count.in_packets;
		c->heard_ms = now(c);
		c->missed = 0;
	}
	if (every == 0 || now(c) - c->heard_ms < every * (c->missed + 1))
		return false;
	if (c->missed == CLIENT_MISSED_MAX) {
		err_set(err, GRPC_UNAVAILABLE, "the client does not answer");
		return true;
	}
	c->missed++;
	ssh_send_keepalive(c->ssh);
	client_flush(c);
	return false;
}

static bool is_idle(struct client *c, struct err *err)
{
	uint64_t limit = c->sshd->limits.idle_ms;

	if (c->channels != NULL && channels_count(c->channels) > 0)
		c->used_ms = now(c);
	if (limit == 0 || now(c) - c->used_ms < limit)
		return false;
	err_set(err, GRPC_DEADLINE_EXCEEDED, "nothing was done on the connection");
	return true;
}

void client_tick(struct client *c, int64_t wall_seconds)
{
	struct err err;

	if (c->state != CLIENT_STATE_OPEN || c->failing)
		return;
	report_usage(c);
	if (is_expired(c, wall_seconds, &err) || is_dead(c, &err) || is_idle(c, &err))
		client_end(c, &err);
}

bool client_is_of(const struct client *c, const char *session_id)
{
	return c->state == CLIENT_STATE_OPEN && strcmp(c->session.id, session_id) == 0;
}

/* For channels. */

struct loop *client_loop(const struct client *c)
{
	return c->sshd->loop;
}

ssh_session client_ssh(const struct client *c)
{
	return c->ssh;
}

uint64_t client_id(const struct client *c)
{
	return c->id;
}

uint64_t client_age_ms(const struct client *c)
{
	return now(c) - c->born_ms;
}

const char *client_peer(const struct client *c)
{
	return c->peer;
}

const struct client_session *client_session(const struct client *c)
{
	return &c->session;
}

bool client_permits(const struct client *c, enum client_permission permission)
{
	return c->state == CLIENT_STATE_OPEN && (c->session.permissions & permission) != 0;
}

struct framed *client_call(struct client *c, const char *path, const struct framed_options *options,
    const struct framed_ops *ops, void *cookie, struct err *err)
{
	if (c->state != CLIENT_STATE_OPEN) {
		err_set(err, GRPC_FAILED_PRECONDITION, "the connection is not open");
		return NULL;
	}
	return gate_call(c->sshd->gate, c->session.id, path, options, ops, cookie, err);
}

void client_took(struct client *c, size_t bytes)
{
	c->bytes_in += bytes;
}
