#include "cli/forwarder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "relay/fdio.h"
#include "relay/framed.h"
#include "rpc/address.h"

#define ACCEPT_BUDGET 16  /* of one turn */
#define PAUSE_MS      100 /* when descriptors are out */
#define OPENING_MAX   16 /* calls not yet answered: a sandbox lets 32 wait, which are not all ours */

struct forwarder {
	struct session *session;
	struct forwarder_options options;
	int fd;
	uint16_t port;
	struct watch *watch;
	struct timer *pause;
	struct connection *connections;
	size_t count, opening; /* of them */
	uint8_t *init;         /* the first message of each call, packed */
	size_t init_len;
};

/* One of them. It goes when the call is over and all that came of it is written. */
struct connection {
	struct forwarder *forwarder;
	struct connection *next, **at;
	int fd; /* the socket's, for as long as ${socket} is there */
	struct fdio *socket;
	struct framed *call; /* NULL: over */
	size_t overhead;     /* bytes of init that have not left */
	bool opening;        /* the call has not been answered */
};

/* The rest waits in the socket's backlog. */
static bool has_room(const struct forwarder *f)
{
	return f->count < FORWARDER_CONNECTIONS_MAX && f->opening < OPENING_MAX;
}

static void want_more(struct forwarder *f)
{
	bool open = has_room(f) && !timer_is_running(f->pause);

	watch_want(f->watch, open ? WATCH_READ : WATCH_NONE);
}

static void set_opening(struct connection *c, bool opening)
{
	struct forwarder *f = c->forwarder;

	if (c->opening == opening)
		return;
	c->opening = opening;
	if (opening)
		f->opening++;
	else
		f->opening--;
	want_more(f);
}

static void connection_free(struct connection *c)
{
	struct forwarder *f = c->forwarder;

	set_opening(c, false);
	if (c->call != NULL)
		framed_cancel(c->call, NULL);
	fdio_free(c->socket);
	*c->at = c->next;
	if (c->next != NULL)
		c->next->at = c->at;
	f->count--;
	free(c);
	want_more(f);
}

/* The other side sees a reset and not an end. */
static void connection_abort(struct connection *c)
{
	const struct linger at_once = { .l_onoff = 1 };

	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	connection_free(c);
}

static void connection_fail(struct connection *c, const struct err *why)
{
	struct forwarder *f = c->forwarder;

	if (f->options.failed != NULL)
		f->options.failed(f->options.cookie, why);
	connection_abort(c);
}

static void check_done(struct connection *c)
{
	if (c->call == NULL && fdio_queued(c->socket) == 0)
		connection_free(c);
}

/* The socket. */

static void socket_data(void *cookie, struct slice data)
{
	struct connection *c = cookie;
	size_t len = data.len;

	if (c->call != NULL && framed_write(c->call, FRAMED_BYTES, data) == 0)
		return;
	slice_release(&data); /* the service has hung up */
	fdio_credit(c->socket, len);
}

static void socket_eof(void *cookie)
{
	struct connection *c = cookie;

	if (c->call != NULL)
		framed_end(c->call);
}

static void socket_sent(void *cookie, size_t bytes)
{
	struct connection *c = cookie;

	if (c->call != NULL)
		framed_credit(c->call, bytes);
	check_done(c);
}

/* Who connected has gone; without reading what there is, but it may still be sending. */
static void socket_failed(void *cookie, bool reading, const struct err *why)
{
	struct connection *c = cookie;

	(void)why;
	if (reading)
		connection_abort(c);
	else
		check_done(c);
}

static const struct fdio_ops socket_ops = {
	.data = socket_data,
	.eof = socket_eof,
	.sent = socket_sent,
	.failed = socket_failed,
};

/* The call. */

static void call_payload(void *cookie, struct slice data)
{
	struct connection *c = cookie;
	size_t len = data.len;

	if (fdio_write(c->socket, data) == 0)
		return;
	slice_release(&data);
	framed_credit(c->call, len);
}

static void call_opened(void *cookie)
{
	set_opening(cookie, false);
}

static void call_end(void *cookie, const struct err *status)
{
	struct connection *c = cookie;

	if (status->code == GRPC_OK)
		fdio_finish(c->socket);
	else
		connection_fail(c, status);
}

static void call_sent(void *cookie, size_t bytes)
{
	struct connection *c = cookie;
	size_t init = bytes < c->overhead ? bytes : c->overhead;

	c->overhead -= init;
	if (bytes > init)
		fdio_credit(c->socket, bytes - init);
}

static void call_closed(void *cookie, const struct err *why)
{
	struct connection *c = cookie;

	c->call = NULL;
	set_opening(c, false);
	if (why->code == GRPC_OK)
		check_done(c);
	else
		connection_fail(c, why);
}

static const struct framed_ops call_ops = {
	.payload = call_payload,
	.end = call_end,
	.sent = call_sent,
	.closed = call_closed,
	.opened = call_opened,
};

static int open_call(struct connection *c, struct err *err)
{
	struct forwarder *f = c->forwarder;
	struct rpc_client_call call = { .path = "/openshell.v1.OpenShell/ForwardTcp" };
	struct rpc_client *client = session_client(f->session, err);

	if (client == NULL ||
	    (c->call = framed_call(client, &call, NULL, &call_ops, c, err)) == NULL)
		return -1;
	c->overhead = f->init_len;
	if (framed_send(c->call, f->init, f->init_len) != 0)
		return err_set(err, GRPC_UNAVAILABLE, "the call takes no request");
	return 0;
}

/* Takes ${fd}. */
static void open_connection(struct forwarder *f, int fd)
{
	struct connection *c = calloc(1, sizeof(*c));
	struct fdio_options o = { .read_fd = fd, .write_fd = fd, .ops = &socket_ops, .cookie = c };
	struct err err;

	if (c == NULL || (c->socket = fdio_create(session_loop(f->session), &o, &err)) == NULL) {
		free(c);
		close(fd);
		return;
	}
	c->forwarder = f;
	c->fd = fd;
	c->next = f->connections;
	c->at = &f->connections;
	if (c->next != NULL)
		c->next->at = &c->next;
	f->connections = c;
	f->count++;
	set_opening(c, true);
	if (open_call(c, &err) != 0)
		connection_fail(c, &err);
}

/* The listener. */

static void on_ready(void *cookie, unsigned events)
{
	struct forwarder *f = cookie;

	(void)events;
	for (int i = 0; i < ACCEPT_BUDGET && has_room(f); i++) {
		int fd = accept4(f->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			open_connection(f, fd);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
		    errno == ENOBUFS) {
			timer_start(f->pause, PAUSE_MS);
			break;
		} else if (errno != EINTR && errno != ECONNABORTED) {
			break;
		}
	}
	want_more(f);
}

static void on_pause(void *cookie)
{
	want_more(cookie);
}

static int pack_init(struct forwarder *f, struct err *err)
{
	Openshell__V1__TcpForwardFrame frame = OPENSHELL__V1__TCP_FORWARD_FRAME__INIT;
	Openshell__V1__TcpForwardInit init = OPENSHELL__V1__TCP_FORWARD_INIT__INIT;
	Openshell__V1__TcpRelayTarget tcp = OPENSHELL__V1__TCP_RELAY_TARGET__INIT;
	const struct cli *cli = session_cli(f->session);

	tcp.host = (char *)f->options.target_host;
	tcp.port = f->options.target_port;
	init.sandbox = (char *)f->options.sandbox;
	if (cli->workspace != NULL)
		init.workspace = cli->workspace;
	init.target_case = OPENSHELL__V1__TCP_FORWARD_INIT__TARGET_TCP;
	init.tcp = &tcp;
	frame.payload_case = OPENSHELL__V1__TCP_FORWARD_FRAME__PAYLOAD_INIT;
	frame.init = &init;
	f->init = codec_pack_new(&frame.base, &f->init_len);
	return f->init != NULL ? 0 : err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

static int start_listening(struct forwarder *f, struct err *err)
{
	const struct forward_spec *spec = &f->options.spec;
	char text[FORWARD_BIND_MAX + 16], bound[ADDRESS_TEXT_MAX];
	struct address address;

	snprintf(text, sizeof(text), strchr(spec->bind, ':') != NULL ? "[%s]:%u" : "%s:%u",
	    spec->bind, (unsigned)spec->port);
	if (address_parse(text, &address, err) != 0 || address_resolve(&address, err) != 0 ||
	    (f->fd = address_listen(&address, bound, err)) < 0)
		return -1;
	f->port = (uint16_t)strtoul(strrchr(bound, ':') + 1, NULL, 10);
	f->watch = watch_create(session_loop(f->session), f->fd, on_ready, f, err);
	f->pause = timer_create_on(session_loop(f->session), on_pause, f);
	if (f->watch == NULL)
		return -1;
	return f->pause != NULL ? 0 : err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

struct forwarder *forwarder_create(
    struct session *s, const struct forwarder_options *o, struct err *err)
{
	struct forwarder *f = calloc(1, sizeof(*f));

	if (f == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	f->session = s;
	f->options = *o;
	f->fd = -1;
	if (pack_init(f, err) != 0 || start_listening(f, err) != 0) {
		forwarder_free(f);
		return NULL;
	}
	want_more(f);
	return f;
}

void forwarder_free(struct forwarder *f)
{
	if (f == NULL)
		return;
	for (struct connection *c = f->connections, *next; c != NULL; c = next) {
		next = c->next;
		connection_abort(c);
	}
	watch_free(f->watch);
	timer_free(f->pause);
	if (f->fd >= 0)
		close(f->fd);
	free(f->init);
	free(f);
}

uint16_t forwarder_port(const struct forwarder *f)
{
	return f->port;
}
