/*
 * Connections into the sandbox (direct-tcpip) and out of it (tcpip-forward).
 *
 * A client's request to open a channel is answered when its port has been reached. The other
 * way, each port that the client wants listened on is a ListenTcp call, and each connection
 * that it tells of an AcceptTcp call, whose channel the client is asked to open.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "sshd/channel_parts.h"
#include "sshd/peek.h"
#include "towline/v1/ssh.pb-c.h"

#define FIRST_MAX     1024 /* bytes of a call's first message: names are short */
#define NOT_PERMITTED "this session does not permit forwarding"

static const struct log_area area = { "channel" };

/* Into the sandbox. */

static void refuse_open(struct channels *all, ssh_message m, const char *why)
{
	channels_explain(all, why);
	ssh_message_reply_default(m);
	ssh_message_free(m);
	client_flush(all->client);
}

/* An empty frame: the port has been reached. */
static void direct_message(struct channel *c, const uint8_t *message, size_t len)
{
	ssh_message m = c->open;
	ssh_channel ssh;

	(void)message;
	if (len > 0 || c->state != CHANNEL_STATE_ASKED)
		return;
	c->open = NULL;
	ssh = ssh_message_channel_request_open_reply_accept(m);
	ssh_message_free(m);
	client_flush(c->all->client);
	c->state = CHANNEL_STATE_RUNNING;
	timer_stop(c->timer);
	if (ssh == NULL || channel_attach(c, ssh) != 0)
		c->deaf = c->client_closed = true;
}

static const struct channel_kind direct_kind = {
	.name = "direct-tcpip",
	.path = "/openshell.v1.OpenShell/ForwardTcp",
	.message = direct_message,
};

static int start_direct(struct channel *c, ssh_message m, struct err *err)
{
	Openshell__V1__TcpRelayTarget target = OPENSHELL__V1__TCP_RELAY_TARGET__INIT;
	Openshell__V1__TcpForwardInit init = OPENSHELL__V1__TCP_FORWARD_INIT__INIT;
	Openshell__V1__TcpForwardFrame frame = OPENSHELL__V1__TCP_FORWARD_FRAME__INIT;
	uint8_t packed[FIRST_MAX];

	target.host = (char *)ssh_message_channel_request_open_destination(m);
	target.port = (uint32_t)ssh_message_channel_request_open_destination_port(m);
	init.sandbox = client_session(c->all->client)->sandbox_id;
	init.target_case = OPENSHELL__V1__TCP_FORWARD_INIT__TARGET_TCP;
	init.tcp = &target;
	init.confirm = true;
	frame.payload_case = OPENSHELL__V1__TCP_FORWARD_FRAME__PAYLOAD_INIT;
	frame.init = &init;
	if (codec_size(&frame.base) > sizeof(packed))
		return err_set(err, GRPC_INVALID_ARGUMENT, "a host name that is too long");
	return channel_start(c, &direct_kind, packed, codec_pack(&frame.base, packed), err);
}

void channel_tcp_open(struct channels *all, ssh_message m)
{
	struct channel *c;
	struct err err;

	if (!client_permits(all->client, CLIENT_PERMISSION_FORWARD)) {
		refuse_open(all, m, NOT_PERMITTED);
		return;
	}
	if ((c = channel_create(all, CHANNEL_STATE_ASKED)) == NULL) {
		refuse_open(all, m, "too many channels of one connection");
		return;
	}
	if (start_direct(c, m, &err) != 0) {
		channel_drop(c);
		refuse_open(all, m, err.text);
		return;
	}
	c->open = m;
	timer_start(c->timer, CHANNEL_CONFIRM_MS);
}

static void answer_asked(struct channel *c)
{
	ssh_message m = c->open;

	if (!c->call_ended)
		return;
	c->open = NULL;
	refuse_open(c->all, m, c->status.text);
	c->state = CHANNEL_STATE_LEFT;
}

/* Out of the sandbox. */

/* A port of the sandbox's that the client has asked for. */
struct forward {
	struct forwards *all;
	struct forward *next;
	struct framed *call; /* NULL: over */
	struct err status;   /* of the call, when the sandbox has ended it */
	char *host;          /* in the client's words, as it wants to hear it again */
	uint32_t port;       /* 0: not known yet */
};

/* A connection from the sandbox that is not taken, while the sandbox is told. */
struct refusal {
	struct forwards *all;
	struct refusal *next, **prev;
	struct framed *call;
	struct timer *timer;
};

struct forwards {
	struct channels *channels;
	struct refusal *refusals;
	size_t refusing;
	struct forward *first;
	size_t count;
	/* Requests are answered in their order, one after the other. */
	ssh_message waiting[FORWARDS_WAITING_MAX];
	size_t waiting_count;
	struct forward *asked;  /* who the first of them waits for, */
	struct timer *patience; /* and how long */
	struct post turn;
};

static const struct channel_kind forwarded_kind = {
	.name = "forwarded-tcpip",
	.path = "/towline.v1.Ports/AcceptTcp",
};

static void forward_free(struct forward *f)
{
	struct err err;

	for (struct forward **at = &f->all->first; *at != NULL; at = &(*at)->next) {
		if (*at == f) {
			*at = f->next;
			f->all->count--;
			break;
		}
	}
	if (f->call != NULL) {
		err_set(&err, GRPC_CANCELLED, "the client has ended the forward");
		framed_cancel(f->call, &err);
	}
	free(f->host);
	free(f);
}

static void wake(struct forwards *all)
{
	if (!all->turn.pending)
		loop_post(client_loop(all->channels->client), &all->turn);
}

/* The first request that waits is answered, and the next one can be looked at. */
static void answer(struct forwards *all, bool granted, uint32_t port)
{
	ssh_message m = all->waiting[0];

	if (granted)
		ssh_message_global_request_reply_success(m, (uint16_t)port);
	else
		ssh_message_reply_default(m);
	peek_free_global(m);
	client_flush(all->channels->client);
	all->asked = NULL;
	timer_stop(all->patience);
	all->waiting_count--;
	memmove(all->waiting, all->waiting + 1, all->waiting_count * sizeof(all->waiting[0]));
	if (all->waiting_count > 0)
		wake(all);
}

/* 0: it would be too long. */
static size_t pack_accept(const struct channels *all, const char *id, bool refuse, uint8_t *packed)
{
	Towline__V1__AcceptTcpInit init = TOWLINE__V1__ACCEPT_TCP_INIT__INIT;
	Towline__V1__AcceptTcpRequest request = TOWLINE__V1__ACCEPT_TCP_REQUEST__INIT;

	init.sandbox = client_session(all->client)->sandbox_id;
	init.connection_id = (char *)id;
	init.refuse = refuse;
	request.payload_case = TOWLINE__V1__ACCEPT_TCP_REQUEST__PAYLOAD_INIT;
	request.init = &init;
	return codec_size(&request.base) <= FIRST_MAX ? codec_pack(&request.base, packed) : 0;
}

static int start_forwarded(struct channel *c, const char *id, struct err *err)
{
	uint8_t packed[FIRST_MAX];
	size_t len = pack_accept(c->all, id, false, packed);

	if (len == 0)
		return err_set(err, GRPC_INVALID_ARGUMENT, "an id that is too long");
	snprintf(c->connection_id, sizeof(c->connection_id), "%s", id);
	return channel_start(c, &forwarded_kind, packed, len, err);
}

static void refusal_free(struct refusal *r)
{
	struct err err;

	if (r->call != NULL) {
		err_set(&err, GRPC_CANCELLED, "the client has gone");
		framed_cancel(r->call, &err);
	}
	timer_free(r->timer);
	*r->prev = r->next;
	if (r->next != NULL)
		r->next->prev = r->prev;
	r->all->refusing--;
	free(r);
}

static void refusal_late(void *refusal)
{
	refusal_free(refusal);
}

static void refusal_end(void *cookie, const struct err *status)
{
	(void)status;
	framed_end(((struct refusal *)cookie)->call);
}

static void refusal_closed(void *cookie, const struct err *why)
{
	struct refusal *r = cookie;

	(void)why; /* it may have been taken, or have gone */
	r->call = NULL;
	refusal_free(r);
}

static const struct framed_ops refusal_ops = {
	.end = refusal_end,
	.closed = refusal_closed,
};

static struct refusal *refusal_create(struct forwards *all)
{
	struct refusal *r;

	if (all->refusing == FORWARDS_REFUSING_MAX || (r = calloc(1, sizeof(*r))) == NULL)
		return NULL;
	r->timer = timer_create_on(client_loop(all->channels->client), refusal_late, r);
	if (r->timer == NULL) {
		free(r);
		return NULL;
	}
	r->all = all;
	r->next = all->refusals;
	r->prev = &all->refusals;
	if (r->next != NULL)
		r->next->prev = &r->next;
	all->refusals = r;
	all->refusing++;
	return r;
}

/* The supervisor resets what waits for AcceptTcp, and does so after a while if this fails. */
static void refuse_connection(struct forwards *all, const char *id)
{
	const struct framed_options whole = { .whole = true };
	struct refusal *r = refusal_create(all);
	struct client *client = all->channels->client;
	uint8_t packed[FIRST_MAX];
	struct err err;
	size_t len = pack_accept(all->channels, id, true, packed);

	if (r == NULL)
		return;
	timer_start(r->timer, CHANNEL_LEFT_MS);
	r->call = client_call(client, forwarded_kind.path, &whole, &refusal_ops, r, &err);
	if (len == 0 || r->call == NULL || framed_send(r->call, packed, len) != 0)
		refusal_free(r);
	else
		framed_end(r->call);
}

/* Whoever connected in the sandbox is told by a reset. */
static void not_taken(struct channel *c)
{
	struct err err;

	err_set(&err, GRPC_UNAVAILABLE, "the client does not take the connection");
	if (c->call != NULL)
		framed_cancel(c->call, &err);
	c->call = NULL;
	c->call_ended = c->client_eof = c->client_closed = c->deaf = true;
	if (c->trying) /* the sandbox may not have heard that it was to be taken */
		refuse_connection(c->all->forwards, c->connection_id);
}

static void open_forwarded(struct forward *f, const Towline__V1__ListenTcpConnection *from)
{
	struct channels *all = f->all->channels;
	struct channel *c = channel_create(all, CHANNEL_STATE_OPENING);
	struct err err;

	if (c == NULL) {
		refuse_connection(f->all, from->connection_id);
		return;
	}
	c->ssh = ssh_channel_new(client_ssh(all->client));
	if (c->ssh == NULL || channel_attach(c, c->ssh) != 0 ||
	    start_forwarded(c, from->connection_id, &err) != 0) {
		channel_drop(c);
		refuse_connection(f->all, from->connection_id);
		return;
	}
	int r = ssh_channel_open_reverse_forward(
	    c->ssh, f->host, (int)f->port, from->peer_host, (int)from->peer_port);
	client_flush(all->client);
	timer_start(c->timer, CHANNEL_OPENING_MS);
	if (r == SSH_ERROR) {
		c->state = CHANNEL_STATE_RUNNING;
		not_taken(c);
	}
	channels_wake(all);
}

/* It can only be asked again: libssh has no callback for it. A channel that the client has
 * not answered cannot be freed, or its answer would be for nobody. */
static void answer_opening(struct channel *c)
{
	int r = ssh_channel_open_reverse_forward(c->ssh, "", 0, "", 0);

	client_flush(c->all->client);
	if (r == SSH_AGAIN)
		return;
	timer_stop(c->timer);
	c->state = CHANNEL_STATE_RUNNING;
	if (r != SSH_OK)
		not_taken(c);
}

void channel_tcp_answer(struct channel *c)
{
	if (c->state == CHANNEL_STATE_ASKED)
		answer_asked(c);
	else
		answer_opening(c);
}

/* The call of a port. */

static void forward_message(void *cookie, const uint8_t *message, size_t len)
{
	struct forward *f = cookie;
	Towline__V1__ListenTcpResponse *r =
	    codec_unpack(&towline__v1__listen_tcp_response__descriptor, message, len, NULL);

	if (r != NULL && r->event_case == TOWLINE__V1__LISTEN_TCP_RESPONSE__EVENT_BOUND &&
	    f->port == 0) {
		f->port = r->bound->port;
		if (f->all->asked == f)
			answer(f->all, true, f->port);
	} else if (r != NULL &&
	    r->event_case == TOWLINE__V1__LISTEN_TCP_RESPONSE__EVENT_CONNECTION && f->port != 0) {
		open_forwarded(f, r->connection);
	}
	codec_free(r);
}

static void forward_closed(void *cookie, const struct err *why)
{
	struct forward *f = cookie;
	struct forwards *all = f->all;
	struct client *client = all->channels->client;

	if (f->status.code != GRPC_OK)
		why = &f->status;
	f->call = NULL;
	log_info(&area, "forward_ended", LOG_U64("connection", client_id(client)),
	    LOG_U64("port", f->port), LOG_ERR(why));
	if (all->asked == f) {
		channels_explain(all->channels, why->text);
		answer(all, false, 0);
	}
	forward_free(f);
}

static void forward_end(void *cookie, const struct err *status)
{
	struct forward *f = cookie;

	f->status = *status;
	if (f->call != NULL)
		framed_end(f->call);
}

static const struct framed_ops forward_ops = {
	.message = forward_message,
	.end = forward_end,
	.closed = forward_closed,
};

static int start_forward(struct forward *f, uint32_t port, struct err *err)
{
	Towline__V1__ListenTcpRequest request = TOWLINE__V1__LISTEN_TCP_REQUEST__INIT;
	struct client *client = f->all->channels->client;
	const struct framed_options whole = { .whole = true };
	uint8_t packed[FIRST_MAX];

	request.sandbox = client_session(client)->sandbox_id;
	request.host = f->host;
	request.port = port;
	if (codec_size(&request.base) > sizeof(packed))
		return err_set(err, GRPC_INVALID_ARGUMENT, "a host name that is too long");
	f->call = client_call(client, "/towline.v1.Ports/ListenTcp", &whole, &forward_ops, f, err);
	if (f->call == NULL)
		return -1;
	if (framed_send(f->call, packed, codec_pack(&request.base, packed)) != 0)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	framed_end(f->call);
	return 0;
}

static struct forward *forward_create(struct forwards *all, const char *host)
{
	struct forward *f;

	if (all->count >= FORWARDS_MAX || (f = calloc(1, sizeof(*f))) == NULL)
		return NULL;
	f->all = all;
	if ((f->host = strdup(host)) == NULL) {
		free(f);
		return NULL;
	}
	f->next = all->first;
	all->first = f;
	all->count++;
	return f;
}

/* Global requests. */

static void serve_listen(struct forwards *all, const char *host, uint32_t port)
{
	struct forward *f = NULL;
	struct err err;

	if (!client_permits(all->channels->client, CLIENT_PERMISSION_FORWARD))
		err_set(&err, GRPC_PERMISSION_DENIED, NOT_PERMITTED);
	else if ((f = forward_create(all, host)) == NULL)
		err_set(&err, GRPC_RESOURCE_EXHAUSTED, "too many ports of one connection");
	if (f == NULL || start_forward(f, port, &err) != 0) {
		if (f != NULL)
			forward_free(f);
		channels_explain(all->channels, err.text);
		answer(all, false, 0);
		return;
	}
	all->asked = f;
	timer_start(all->patience, CHANNEL_CONFIRM_MS);
}

static void out_of_patience(void *cookie)
{
	struct forwards *all = cookie;

	log_info(&area, "forward_late", LOG_U64("connection", client_id(all->channels->client)));
	channels_explain(all->channels, "the sandbox does not answer");
	forward_free(all->asked);
	answer(all, false, 0);
}

static void serve_cancel(struct forwards *all, const char *host, uint32_t port)
{
	for (struct forward *f = all->first; f != NULL; f = f->next) {
		if (f->port != port || port == 0 || strcmp(f->host, host) != 0)
			continue;
		forward_free(f);
		answer(all, true, 0);
		return;
	}
	answer(all, false, 0);
}

static void run_turn(struct post *post)
{
	struct forwards *all = (struct forwards *)((char *)post - offsetof(struct forwards, turn));
	ssh_message m;

	if (all->waiting_count == 0 || all->asked != NULL)
		return;
	/* Who asks on and on and reads no answer comes to more than may wait. */
	if (client_room(all->channels->client) == 0) {
		client_await_room(all->channels->client);
		return;
	}
	m = all->waiting[0];
	const char *host = ssh_message_global_request_address(m);
	uint32_t port = (uint32_t)ssh_message_global_request_port(m);
	if (ssh_message_subtype(m) == SSH_GLOBAL_REQUEST_KEEPALIVE)
		answer(all, true, 0);
	else if (host == NULL)
		answer(all, false, 0);
	else if (ssh_message_subtype(m) == SSH_GLOBAL_REQUEST_TCPIP_FORWARD)
		serve_listen(all, host, port);
	else if (ssh_message_subtype(m) == SSH_GLOBAL_REQUEST_CANCEL_TCPIP_FORWARD)
		serve_cancel(all, host, port);
	else
		answer(all, false, 0);
}

void channel_tcp_global(struct channels *channels, ssh_message m)
{
	struct forwards *all = channels->forwards;
	struct err err;

	/* It leaves with what else libssh sends, which reads where it is made to send. */
	if (all->waiting_count == 0 && ssh_message_subtype(m) == SSH_GLOBAL_REQUEST_KEEPALIVE) {
		ssh_message_global_request_reply_success(m, 0);
		peek_free_global(m);
		return;
	}
	if (all->waiting_count == FORWARDS_WAITING_MAX) {
		err_set(&err, GRPC_RESOURCE_EXHAUSTED,
		    "%d requests to listen wait for an answer; ask for fewer at once",
		    FORWARDS_WAITING_MAX);
		client_fail(channels->client, &err);
		peek_free_global(m);
		return;
	}
	all->waiting[all->waiting_count++] = m;
	wake(all);
}

void forwards_writable(struct forwards *all)
{
	if (all->waiting_count > 0)
		wake(all);
}

struct forwards *forwards_create(struct channels *channels)
{
	struct forwards *all = calloc(1, sizeof(*all));

	if (all == NULL)
		return NULL;
	all->channels = channels;
	all->turn.run = run_turn;
	all->patience = timer_create_on(client_loop(channels->client), out_of_patience, all);
	if (all->patience != NULL)
		return all;
	free(all);
	return NULL;
}

void forwards_free(struct forwards *all)
{
	if (all == NULL)
		return;
	for (struct forward *next, *f = all->first; f != NULL; f = next) {
		next = f->next;
		forward_free(f);
	}
	for (struct refusal *next, *r = all->refusals; r != NULL; r = next) {
		next = r->next;
		refusal_free(r);
	}
	for (size_t i = 0; i < all->waiting_count; i++)
		peek_free_global(all->waiting[i]);
	timer_free(all->patience);
	loop_unpost(client_loop(all->channels->client), &all->turn);
	free(all);
}
