#include "supervisor/forward.h"

/*
 * ForwardTcp: a connection to a service on the sandbox's loopback. Both directions
 * are kept apart to the end: each may be closed while the other goes on.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "relay/fdio.h"
#include "rpc/address.h"

static const struct log_area area = { "forward" };

struct forward {
	struct supervisor *sup;
	struct framed *call; /* NULL: over, and ${socket} takes the last of what came */
	struct fdio *socket;
	int socket_fd; /* the one in ${socket}, for its options */
	char target[ADDRESS_TEXT_MAX];

	/* While connecting: */
	int fd;
	struct watch *watch;
	struct timer *timer;   /* for the connecting, or the last of the writing */
	struct addrinfo *next; /* what is left to try, of ${all} */
	struct addrinfo *all;
	struct bufq early; /* what it sent before; within the stream's window */
	bool service_ended, client_ended;
	bool confirm; /* the client wants to know when it is connected */
	bool broken;  /* the service has reset the connection, and what it said is still read */
};

static void connect_next(struct forward *f);

/* Until one of the two has ended in order, closing resets: a service must not take half
 * of what was to come for all of it. So it is even when this process is killed. */
void forward_reset_on_close(int fd, bool on)
{
	const struct linger linger = { .l_onoff = on };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

/* What is still queued never arrives, though the client may have ended behind it. */
static void drop_socket(struct forward *f)
{
	if (f->socket != NULL && fdio_queued(f->socket) > 0)
		forward_reset_on_close(f->socket_fd, true);
	fdio_free(f->socket);
	f->socket = NULL;
}

static void forward_free(struct forward *f)
{
	drop_socket(f);
	watch_free(f->watch);
	timer_free(f->timer);
	bufq_free(&f->early);
	if (f->fd >= 0)
		close(f->fd);
	if (f->all != NULL)
		freeaddrinfo(f->all);
	f->sup->forwards--;
	free(f);
}

/* The call ends with ${err}; the object goes in closed(). */
static void forward_fail(struct forward *f, const struct err *err)
{
	drop_socket(f);
	watch_free(f->watch);
	f->watch = NULL;
	timer_stop(f->timer);
	framed_finish(f->call, err);
}

/* From the service. */

static void service_lost(struct forward *f, const struct err *why)
{
	struct err err = *why;

	err_wrap(&err, "the service at %s", f->target);
	err.code = GRPC_UNAVAILABLE;
	forward_fail(f, &err);
}

static void socket_data(void *cookie, struct slice data)
{
	struct forward *f = cookie;

	/* The window of the socket is smaller than what a call takes, so this fails only
	 * when the call is ending, and then closed() follows. */
	if (framed_write(f->call, FRAMED_BYTES, data) != 0)
		slice_release(&data);
}

/* May free the object: nothing of it is touched after. */
static void check_both_ended(struct forward *f)
{
	if (!f->service_ended || !f->client_ended || f->socket == NULL ||
	    fdio_queued(f->socket) > 0)
		return;
	drop_socket(f);
	if (f->call == NULL)
		forward_free(f);
}

static void socket_eof(void *cookie)
{
	struct forward *f = cookie;
	struct err err;

	if (f->broken) {
		err_sys(&err, ECONNRESET, "read");
		service_lost(f, &err);
		return;
	}
	f->service_ended = true;
	forward_reset_on_close(f->socket_fd, false);
	framed_end(f->call);
	check_both_ended(f);
}

static void socket_sent(void *cookie, size_t bytes)
{
	struct forward *f = cookie;

	if (f->call != NULL)
		framed_credit(f->call, bytes);
	check_both_ended(f);
}

static void socket_failed(void *cookie, bool reading, const struct err *why)
{
	struct forward *f = cookie;

	log_debug(&area, "service_failed", LOG_STR("target", f->target), LOG_ERR(why));
	if (reading)
		service_lost(f, why);
	else if (why->sys != EPIPE)
		f->broken = true; /* the kernel tells only once: reading will find an end */
	/* EPIPE: it had ended and reads no more, but may still have something to say. */
}

static const struct fdio_ops socket_ops = {
	.data = socket_data,
	.eof = socket_eof,
	.sent = socket_sent,
	.failed = socket_failed,
};

/* From the client. */

static void call_payload(void *cookie, struct slice data)
{
	struct forward *f = cookie;
	size_t len = data.len;

	if (f->socket == NULL && f->fd >= 0 && bufq_push(&f->early, data) == 0)
		return;
	if (f->socket != NULL && fdio_write(f->socket, data) == 0)
		return;
	slice_release(&data);
	framed_credit(f->call, len); /* the service does not want it */
}

static void call_message(void *cookie, const uint8_t *message, size_t len)
{
	struct forward *f = cookie;
	struct err err;

	(void)message;
	if (len == 0)
		return; /* a frame with nothing in it */
	err_set(&err, GRPC_INVALID_ARGUMENT, "a second init; data was expected");
	forward_fail(f, &err);
}

static void call_end(void *cookie, const struct err *status)
{
	struct forward *f = cookie;

	(void)status;
	f->client_ended = true;
	if (f->socket != NULL) {
		forward_reset_on_close(f->socket_fd, false);
		fdio_finish(f->socket);
	}
	check_both_ended(f);
}

static void call_sent(void *cookie, size_t bytes)
{
	struct forward *f = cookie;

	if (f->socket != NULL)
		fdio_credit(f->socket, bytes);
}

/* When both have ended in order the call is over, but the service may not have read all
 * that the client said. */
static void call_closed(void *cookie, const struct err *why)
{
	struct forward *f = cookie;

	(void)why;
	f->call = NULL;
	if (f->service_ended && f->client_ended && f->socket != NULL)
		timer_start(f->timer, f->sup->forward_drain_ms);
	else
		forward_free(f);
}

static const struct framed_ops call_ops = {
	.payload = call_payload,
	.message = call_message,
	.end = call_end,
	.sent = call_sent,
	.closed = call_closed,
};

/* Connecting. */

static void connected(struct forward *f)
{
	struct fdio_options o = {
		.read_fd = f->fd, .write_fd = f->fd, .ops = &socket_ops, .cookie = f
	};
	struct err err;

	watch_free(f->watch);
	f->watch = NULL;
	timer_stop(f->timer);
	if ((f->socket = fdio_create(f->sup->loop, &o, &err)) == NULL) {
		forward_fail(f, &err);
		return;
	}
	f->socket_fd = f->fd;
	f->fd = -1;
	if (f->confirm && framed_send(f->call, "", 0) != 0)
		log_debug(&area, "not_confirmed", LOG_STR("target", f->target));
	if (f->client_ended)
		forward_reset_on_close(f->socket_fd, false);
	for (struct slice s; (s = bufq_pop(&f->early, SIZE_MAX)).len > 0;) {
		size_t len = s.len;
		if (fdio_write(f->socket, s) != 0) {
			slice_release(&s);
			framed_credit(f->call, len);
		}
	}
	if (f->client_ended)
		fdio_finish(f->socket);
}

static void attempt_failed(struct forward *f, int why)
{
	struct err err;

	watch_free(f->watch);
	f->watch = NULL;
	close(f->fd);
	f->fd = -1;
	if (f->next != NULL) {
		connect_next(f);
		return;
	}
	err_sys(&err, why, "nothing answers at %s in the sandbox", f->target);
	err.code = GRPC_UNAVAILABLE;
	forward_fail(f, &err);
}

static void on_writable(void *cookie, unsigned events)
{
	struct forward *f = cookie;
	int why = 0;
	socklen_t len = sizeof(why);

	(void)events;
	if (getsockopt(f->fd, SOL_SOCKET, SO_ERROR, &why, &len) != 0)
		why = errno;
	if (why != 0)
		attempt_failed(f, why);
	else
		connected(f);
}

static void on_timeout(void *cookie)
{
	struct forward *f = cookie;

	if (f->call == NULL) {
		forward_free(f);
		return;
	}
	f->next = NULL;
	attempt_failed(f, ETIMEDOUT);
}

static void connect_next(struct forward *f)
{
	const struct addrinfo *a = f->next;
	const int on = 1;
	struct err err;

	f->next = a->ai_next;
	address_text(a->ai_addr, a->ai_addrlen, f->target);
	f->fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (f->fd < 0) {
		err_sys(&err, errno, "a socket for %s", f->target);
		forward_fail(f, &err);
		return;
	}
	forward_reset_on_close(f->fd, true); /* the service may have accepted before we know */
	setsockopt(f->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(f->fd, a->ai_addr, a->ai_addrlen) == 0) {
		connected(f);
		return;
	}
	if (errno != EINPROGRESS) {
		attempt_failed(f, errno);
		return;
	}
	if ((f->watch = watch_create(f->sup->loop, f->fd, on_writable, f, &err)) == NULL) {
		forward_fail(f, &err);
		return;
	}
	watch_want(f->watch, WATCH_WRITE);
}

/* The addresses to try, decided on what will be dialled and not on how it is spelt. */
static struct addrinfo *loopback_addresses(
    const Openshell__V1__TcpRelayTarget *target, struct err *err)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
		.ai_socktype = SOCK_STREAM };
	struct addrinfo *first = NULL, *second = NULL;
	bool by_name = strcasecmp(target->host, "localhost") == 0;
	char port[8];

	snprintf(port, sizeof(port), "%u", target->port);
	if (target->port == 0 || target->port > 65535) {
		err_set(
		    err, GRPC_INVALID_ARGUMENT, "port %u is none; 1 to 65535 are", target->port);
		return NULL;
	}
	if (getaddrinfo(by_name ? "127.0.0.1" : target->host, port, &hints, &first) != 0) {
		err_set(err, GRPC_PERMISSION_DENIED,
		    "'%.100s' is not a loopback address; 127.0.0.1, ::1 or localhost can be forwarded to",
		    target->host);
		return NULL;
	}
	for (struct addrinfo *a = first; a != NULL; a = a->ai_next) {
		struct address address = { .is_numeric = true, .sa_len = a->ai_addrlen };
		memcpy(&address.sa, a->ai_addr, a->ai_addrlen);
		if (!address_is_loopback(&address)) {
			err_set(err, GRPC_PERMISSION_DENIED,
			    "'%.100s' is not a loopback address; 127.0.0.1, ::1 or localhost can be forwarded to",
			    target->host);
			freeaddrinfo(first);
			return NULL;
		}
	}
	if (by_name && first != NULL && getaddrinfo("::1", port, &hints, &second) == 0)
		first->ai_next = second; /* one list: glibc frees each node by itself */
	return first;
}

static struct addrinfo *parse_init(const struct channel_request *r, bool *confirm, struct err *err)
{
	enum guard_result why;
	struct addrinfo *list = NULL;
	Openshell__V1__TcpForwardFrame *frame = codec_unpack(
	    &openshell__v1__tcp_forward_frame__descriptor, r->first_message, r->first_len, &why);

	if (frame == NULL)
		err_set(
		    err, (enum grpc_code)guard_status(why), "TcpForwardFrame: %s", guard_text(why));
	else if (frame->payload_case != OPENSHELL__V1__TCP_FORWARD_FRAME__PAYLOAD_INIT)
		err_set(err, GRPC_INVALID_ARGUMENT, "the first message of ForwardTcp must be init");
	else if (frame->init->target_case != OPENSHELL__V1__TCP_FORWARD_INIT__TARGET_TCP)
		err_set(err, GRPC_UNIMPLEMENTED, "only tcp targets are served here");
	else
		list = loopback_addresses(frame->init->tcp, err);
	*confirm = list != NULL && frame->init->confirm;
	codec_free(frame);
	return list;
}

static struct forward *forward_create(
    struct supervisor *s, struct framed *call, struct addrinfo *list)
{
	struct forward *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return NULL;
	f->sup = s;
	f->call = call;
	f->fd = -1;
	f->all = f->next = list;
	bufq_init(&f->early, SIZE_MAX, RPC_WINDOW);
	if ((f->timer = timer_create_on(s->loop, on_timeout, f)) == NULL) {
		free(f);
		return NULL;
	}
	s->forwards++;
	return f;
}

/* A forward that ${call} is bound to; NULL: the call is finished. Takes ${list}, if there
 * is one, in any case. */
static struct forward *forward_begin(struct supervisor *s, struct framed *call,
    const struct channel_request *r, struct addrinfo *list)
{
	struct forward *f = NULL;
	struct err err;

	if (s->forwards >= SUPERVISOR_FORWARDS_MAX)
		err_set(&err, GRPC_RESOURCE_EXHAUSTED,
		    "%d connections are forwarded to this sandbox; close one",
		    SUPERVISOR_FORWARDS_MAX);
	else if ((f = forward_create(s, call, list)) == NULL)
		err_set(&err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	if (f == NULL) {
		if (list != NULL)
			freeaddrinfo(list);
		framed_finish(call, &err);
		return NULL;
	}
	f->client_ended = r->half_closed;
	framed_bind(call, &call_ops, f);
	return f;
}

void forward_open(struct framed *call, const struct channel_request *r, void *app)
{
	struct forward *f;
	struct err err;
	bool confirm;
	struct addrinfo *list = parse_init(r, &confirm, &err);

	if (list == NULL) {
		framed_finish(call, &err);
		return;
	}
	if ((f = forward_begin(app, call, r, list)) == NULL)
		return;
	f->confirm = confirm;
	timer_start(f->timer, f->sup->forward_connect_ms);
	connect_next(f);
}

void forward_adopt(struct supervisor *s, struct framed *call, const struct channel_request *r,
    int fd, const char *target)
{
	struct forward *f = forward_begin(s, call, r, NULL);
	const int on = 1;

	forward_reset_on_close(fd, true);
	if (f == NULL) {
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	snprintf(f->target, sizeof(f->target), "%s", target);
	f->fd = fd;
	connected(f);
}
