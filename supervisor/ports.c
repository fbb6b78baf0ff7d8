#include "supervisor/ports.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/map.h"
#include "base/random.h"
#include "proto/codec.h"
#include "rpc/address.h"
#include "supervisor/forward.h"
#include "supervisor/supervisor.h"
#include "towline/v1/ssh.pb-c.h"

#define FAMILIES     2
#define BACKLOG      128
#define PER_TURN     16   /* connections accepted before others have their turn */
#define PAUSE_MS     1000 /* when no descriptor is left */
#define MESSAGE_SIZE 512
#define ID_SIZE      37

static const struct log_area area = { "ports" };

/* A connection that nobody has taken. */
struct pending {
	struct listener *listener;
	struct pending *next; /* the older first */
	char id[ID_SIZE];
	char peer[ADDRESS_TEXT_MAX];
	uint64_t until_ms;
	int fd;
};

struct listener {
	struct ports *ports;
	struct supervisor *sup;
	struct framed *call;
	struct pending *first, **last;
	size_t count;
	int fds[FAMILIES]; /* -1: none */
	struct watch *watches[FAMILIES];
	struct timer *timer; /* the oldest's end, or that of a pause */
	uint64_t paused_until_ms;
	uint16_t port;
};

struct ports {
	struct map *pending; /* of all listeners, by id */
	size_t listeners;
};

struct ports *ports_create(void)
{
	struct ports *p = calloc(1, sizeof(*p));

	if (p != NULL && (p->pending = map_create()) == NULL) {
		free(p);
		return NULL;
	}
	return p;
}

/* What waits to be taken. */

/* Off its list and the map; the descriptor is the caller's. */
static int pending_unlink(struct pending *p)
{
	struct listener *l = p->listener;
	int fd = p->fd;

	for (struct pending **at = &l->first; *at != NULL; at = &(*at)->next) {
		if (*at != p)
			continue;
		*at = p->next;
		if (p->next == NULL)
			l->last = at;
		break;
	}
	l->count--;
	map_remove(l->ports->pending, p->id);
	free(p);
	return fd;
}

static void pending_drop(struct pending *p)
{
	int fd = pending_unlink(p);

	forward_reset_on_close(fd, true);
	close(fd);
}

static struct pending *pending_add(
    struct listener *l, int fd, const struct sockaddr *sa, socklen_t len)
{
	struct pending *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	*p = (struct pending){
		.listener = l, .fd = fd, .until_ms = loop_now_ms(l->sup->loop) + PORTS_TAKE_MS
	};
	random_uuid(p->id);
	address_text(sa, len, p->peer);
	if (map_put(l->ports->pending, p->id, p) != 0) {
		free(p);
		return NULL;
	}
	*l->last = p;
	l->last = &p->next;
	l->count++;
	return p;
}

/* Listening. */

static void listener_free(struct listener *l)
{
	while (l->first != NULL)
		pending_drop(l->first);
	for (int i = 0; i < FAMILIES; i++) {
		watch_free(l->watches[i]);
		if (l->fds[i] >= 0)
			close(l->fds[i]);
	}
	timer_free(l->timer);
	l->ports->listeners--;
	free(l);
}

/* Connections are taken from the kernel as fast as they are taken from us, and told. */
static bool may_accept(const struct listener *l)
{
	return l->count < PORTS_PENDING_MAX && l->paused_until_ms == 0 &&
	    framed_queued(l->call) < (size_t)PORTS_PENDING_MAX * MESSAGE_SIZE;
}

static void update(struct listener *l)
{
	uint64_t now = loop_now_ms(l->sup->loop), until = l->paused_until_ms;

	for (int i = 0; i < FAMILIES; i++)
		if (l->watches[i] != NULL)
			watch_want(l->watches[i], may_accept(l) ? WATCH_READ : WATCH_NONE);
	if (l->first != NULL && (until == 0 || l->first->until_ms < until))
		until = l->first->until_ms;
	if (until == 0)
		timer_stop(l->timer);
	else
		timer_start(l->timer, until > now ? until - now : 1);
}

static void on_timer(void *cookie)
{
	struct listener *l = cookie;
	uint64_t now = loop_now_ms(l->sup->loop);

	if (l->paused_until_ms <= now)
		l->paused_until_ms = 0;
	while (l->first != NULL && l->first->until_ms <= now) {
		log_debug(&area, "not_taken", LOG_I64("port", l->port));
		pending_drop(l->first);
	}
	update(l);
}

static int send_response(struct listener *l, const Towline__V1__ListenTcpResponse *r)
{
	uint8_t packed[MESSAGE_SIZE];

	if (codec_size(&r->base) > sizeof(packed))
		return -1;
	return framed_send(l->call, packed, codec_pack(&r->base, packed));
}

static uint16_t port_of(const struct sockaddr_storage *sa)
{
	struct sockaddr_in in; /* the port is in the same place for both families */

	memcpy(&in, sa, sizeof(in));
	return ntohs(in.sin_port);
}

static int tell_connection(struct listener *l, struct pending *p, const struct sockaddr_storage *sa)
{
	Towline__V1__ListenTcpResponse response = TOWLINE__V1__LISTEN_TCP_RESPONSE__INIT;
	Towline__V1__ListenTcpConnection connection = TOWLINE__V1__LISTEN_TCP_CONNECTION__INIT;
	char host[INET6_ADDRSTRLEN] = "";
	const void *address = sa->ss_family == AF_INET
	    ? (const void *)&((const struct sockaddr_in *)(const void *)sa)->sin_addr
	    : &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;

	inet_ntop(sa->ss_family, address, host, sizeof(host));
	connection.connection_id = p->id;
	connection.peer_host = host;
	connection.peer_port = port_of(sa);
	response.event_case = TOWLINE__V1__LISTEN_TCP_RESPONSE__EVENT_CONNECTION;
	response.connection = &connection;
	return send_response(l, &response);
}

/* False: nothing waits. */
static bool accept_one(struct listener *l, int listen_fd)
{
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);
	int fd = accept4(listen_fd, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct pending *p;

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			l->paused_until_ms = loop_now_ms(l->sup->loop) + PAUSE_MS;
		return errno == ECONNABORTED || errno == EINTR;
	}
	if ((p = pending_add(l, fd, (struct sockaddr *)&sa, len)) == NULL)
		close(fd);
	else if (tell_connection(l, p, &sa) != 0)
		pending_drop(p);
	return true;
}

static void on_ready(struct listener *l, int which)
{
	for (int n = 0; n < PER_TURN && may_accept(l); n++)
		if (!accept_one(l, l->fds[which]))
			break;
	update(l);
}

static void on_ready_4(void *cookie, unsigned events)
{
	(void)events;
	on_ready(cookie, 0);
}

static void on_ready_6(void *cookie, unsigned events)
{
	(void)events;
	on_ready(cookie, 1);
}

/* What the call says. */

static void listen_message(void *cookie, const uint8_t *message, size_t len)
{
	(void)cookie;
	(void)message;
	(void)len;
}

static void listen_sent(void *cookie, size_t bytes)
{
	(void)bytes;
	update(cookie);
}

static void listen_closed(void *cookie, const struct err *why)
{
	struct listener *l = cookie;

	(void)why;
	log_info(&area, "unlisten", LOG_I64("port", l->port));
	listener_free(l);
}

static const struct framed_ops listen_ops = {
	.message = listen_message,
	.sent = listen_sent,
	.closed = listen_closed,
};

/* Binding. */

/* 127.0.0.1 or ::1, at l->port, or at any that is free, which becomes l->port. */
static int bind_family(struct listener *l, int which, struct err *err)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons(l->port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
		.sin6_addr = IN6ADDR_LOOPBACK_INIT,
		.sin6_port = htons(l->port) };
	struct sockaddr *sa = which == 0 ? (struct sockaddr *)&in : (struct sockaddr *)&in6;
	socklen_t len = which == 0 ? sizeof(in) : sizeof(in6);
	struct sockaddr_storage bound = { 0 };
	socklen_t bound_len = sizeof(bound);
	const int on = 1;
	int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_sys(err, errno, "a socket in the sandbox");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (which == 1)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, sa, len) != 0 || listen(fd, BACKLOG) != 0 ||
	    getsockname(fd, (struct sockaddr *)&bound, &bound_len) != 0) {
		int why = errno;
		close(fd);
		return err_sys(err, why, "port %u of the sandbox's loopback", l->port);
	}
	l->fds[which] = fd;
	l->port = port_of(&bound);
	l->watches[which] =
	    watch_create(l->sup->loop, fd, which == 0 ? on_ready_4 : on_ready_6, l, err);
	return l->watches[which] != NULL ? 0 : -1;
}

/* By name both, if the sandbox has both: a program tries either. */
static int bind_host(struct listener *l, const char *host, struct err *err)
{
	bool by_name = host[0] == '\0' || strcasecmp(host, "localhost") == 0;

	if (strcmp(host, "::1") == 0)
		return bind_family(l, 1, err);
	if (!by_name && strcmp(host, "127.0.0.1") != 0)
		return err_set(err, GRPC_PERMISSION_DENIED,
		    "'%.100s' cannot be listened on; localhost, 127.0.0.1 and ::1 can", host);
	if (bind_family(l, 0, err) != 0)
		return -1;
	if (by_name)
		bind_family(l, 1, NULL);
	return 0;
}

static struct listener *listener_create(struct supervisor *s, struct framed *call)
{
	struct listener *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	if ((l->timer = timer_create_on(s->loop, on_timer, l)) == NULL) {
		free(l);
		return NULL;
	}
	l->ports = s->ports;
	l->sup = s;
	l->call = call;
	l->last = &l->first;
	l->fds[0] = l->fds[1] = -1;
	l->ports->listeners++;
	return l;
}

static int listener_start(
    struct listener *l, const Towline__V1__ListenTcpRequest *request, struct err *err)
{
	Towline__V1__ListenTcpResponse response = TOWLINE__V1__LISTEN_TCP_RESPONSE__INIT;
	Towline__V1__ListenTcpBound bound = TOWLINE__V1__LISTEN_TCP_BOUND__INIT;

	if (request->port > UINT16_MAX)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "port %u is none; 0 to 65535 are", request->port);
	l->port = (uint16_t)request->port;
	if (bind_host(l, request->host, err) != 0)
		return -1;
	bound.port = l->port;
	response.event_case = TOWLINE__V1__LISTEN_TCP_RESPONSE__EVENT_BOUND;
	response.bound = &bound;
	if (send_response(l, &response) != 0)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	return 0;
}

static void listen_call(struct supervisor *s, struct framed *call,
    const Towline__V1__ListenTcpRequest *request, const char *subject)
{
	struct listener *l;
	struct err err = { 0 };

	if (s->ports->listeners >= PORTS_LISTENERS_MAX) {
		err_set(&err, GRPC_RESOURCE_EXHAUSTED,
		    "%d ports of this sandbox are listened on for clients; end one first",
		    PORTS_LISTENERS_MAX);
		framed_finish(call, &err);
	} else if ((l = listener_create(s, call)) == NULL) {
		err_set(&err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		framed_finish(call, &err);
	} else if (listener_start(l, request, &err) != 0) {
		listener_free(l);
		framed_finish(call, &err);
	} else {
		framed_bind(call, &listen_ops, l);
		update(l);
		log_info(&area, "listen", LOG_I64("port", l->port), LOG_STR("subject", subject));
	}
}

void ports_listen(struct framed *call, const struct channel_request *r, void *app)
{
	enum guard_result why;
	struct err err;
	Towline__V1__ListenTcpRequest *request = codec_unpack(
	    &towline__v1__listen_tcp_request__descriptor, r->first_message, r->first_len, &why);

	if (request == NULL) {
		err_set(&err, (enum grpc_code)guard_status(why), "ListenTcpRequest: %s",
		    guard_text(why));
		framed_finish(call, &err);
		return;
	}
	listen_call(app, call, request, r->subject);
	codec_free(request);
}

/* Taking. */

static struct pending *find_pending(
    struct supervisor *s, const struct channel_request *r, bool *refuse, struct err *err)
{
	enum guard_result why;
	struct pending *p = NULL;
	Towline__V1__AcceptTcpRequest *request = codec_unpack(
	    &towline__v1__accept_tcp_request__descriptor, r->first_message, r->first_len, &why);

	if (request == NULL)
		err_set(err, (enum grpc_code)guard_status(why), "AcceptTcpRequest: %s",
		    guard_text(why));
	else if (request->payload_case != TOWLINE__V1__ACCEPT_TCP_REQUEST__PAYLOAD_INIT)
		err_set(err, GRPC_INVALID_ARGUMENT, "the first message of AcceptTcp must be init");
	else if ((p = map_get(s->ports->pending, request->init->connection_id)) == NULL)
		err_set(err, GRPC_NOT_FOUND,
		    "no connection waits under this id: it was taken, or not within %d s",
		    PORTS_TAKE_MS / 1000);
	else
		*refuse = request->init->refuse;
	codec_free(request);
	return p;
}

void ports_accept(struct framed *call, const struct channel_request *r, void *app)
{
	struct supervisor *s = app;
	struct err err;
	bool refuse;
	struct pending *p = find_pending(s, r, &refuse, &err);

	if (p == NULL) {
		framed_finish(call, &err);
		return;
	}
	struct listener *l = p->listener;
	char peer[ADDRESS_TEXT_MAX];
	if (refuse) {
		pending_drop(p);
		framed_finish(call, NULL);
	} else {
		snprintf(peer, sizeof(peer), "%s", p->peer);
		forward_adopt(s, call, r, pending_unlink(p), peer);
	}
	update(l);
}
