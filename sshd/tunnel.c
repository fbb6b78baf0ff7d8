#include "sshd/tunnel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "relay/fdio.h"
#include "rpc/address.h"
#include "sshd/client.h"
#include "sshd/sshd.h"

struct tunnel {
	struct framed *call;
	struct fdio *socket; /* the end that is not libssh's */
};

/* From libssh. */

static void socket_data(void *cookie, struct slice data)
{
	struct tunnel *t = cookie;

	if (framed_write(t->call, FRAMED_BYTES, data) != 0)
		slice_release(&data);
}

static void socket_eof(void *cookie)
{
	struct tunnel *t = cookie;

	framed_finish(t->call, NULL);
}

static void socket_sent(void *cookie, size_t bytes)
{
	struct tunnel *t = cookie;

	framed_credit(t->call, bytes);
}

static void socket_failed(void *cookie, bool reading, const struct err *why)
{
	(void)why;
	if (reading)
		socket_eof(cookie); /* libssh has closed it, with something unread */
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
	struct tunnel *t = cookie;
	size_t len = data.len;

	if (fdio_write(t->socket, data) == 0)
		return;
	slice_release(&data);
	framed_credit(t->call, len);
}

static void call_message(void *cookie, const uint8_t *message, size_t len)
{
	struct tunnel *t = cookie;
	struct err err;

	(void)message;
	if (len == 0)
		return; /* a frame with nothing in it */
	err_set(&err, GRPC_INVALID_ARGUMENT, "a second init; data was expected");
	framed_finish(t->call, &err);
}

static void call_end(void *cookie, const struct err *status)
{
	struct tunnel *t = cookie;

	(void)status;
	fdio_finish(t->socket);
}

static void call_sent(void *cookie, size_t bytes)
{
	struct tunnel *t = cookie;

	fdio_credit(t->socket, bytes);
}

static void call_closed(void *cookie, const struct err *why)
{
	struct tunnel *t = cookie;

	(void)why;
	fdio_free(t->socket);
	free(t);
}

static const struct framed_ops call_ops = {
	.payload = call_payload,
	.message = call_message,
	.end = call_end,
	.sent = call_sent,
	.closed = call_closed,
};

/* The beginning. */

static int read_init(
    const struct channel_request *r, Openshell__V1__TcpForwardFrame **frame, struct err *err)
{
	enum guard_result why;

	*frame = codec_unpack(
	    &openshell__v1__tcp_forward_frame__descriptor, r->first_message, r->first_len, &why);
	if (*frame == NULL)
		return err_set(
		    err, (enum grpc_code)guard_status(why), "ForwardTcp: %s", guard_text(why));
	if ((*frame)->payload_case != OPENSHELL__V1__TCP_FORWARD_FRAME__PAYLOAD_INIT ||
	    (*frame)->init->target_case != OPENSHELL__V1__TCP_FORWARD_INIT__TARGET_SSH ||
	    (*frame)->init->authorization_token[0] == '\0')
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "ForwardTcp: an SSH endpoint serves the target ssh of a session");
	return 0;
}

static int join(
    struct sshd *s, struct tunnel *t, const char *session_id, const char *subject, struct err *err)
{
	char peer[ADDRESS_TEXT_MAX];
	struct fdio_options io = { .ops = &socket_ops, .cookie = t };
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
		return err_sys(err, errno, "a pair of sockets");
	io.read_fd = io.write_fd = ends[0];
	if ((t->socket = fdio_create(s->loop, &io, err)) == NULL) {
		close(ends[0]);
		close(ends[1]);
		return -1;
	}
	snprintf(peer, sizeof(peer), "tunnel:%s", subject != NULL ? subject : "");
	const struct client_options o = { .fd = ends[1], .peer = peer, .session_id = session_id };
	if (client_create(s, &o, err) != NULL)
		return 0;
	fdio_free(t->socket);
	t->socket = NULL;
	return -1;
}

static void tunnel_open(struct framed *call, const struct channel_request *r, void *app)
{
	struct sshd *s = app;
	struct tunnel *t = calloc(1, sizeof(*t));
	Openshell__V1__TcpForwardFrame *frame = NULL;
	struct err err;
	int result = -1;

	if (t == NULL)
		err_set(&err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	else if (s->clients >= s->limits.connections)
		err_set(&err, GRPC_RESOURCE_EXHAUSTED, "the SSH endpoint has no place left");
	else if (read_init(r, &frame, &err) == 0)
		result = join(s, t, frame->init->authorization_token, r->subject, &err);
	codec_free(frame);
	if (result != 0) {
		free(t);
		framed_finish(call, &err);
		return;
	}
	s->counters.accepted++;
	s->counters.tunnelled++;
	t->call = call;
	framed_bind(call, &call_ops, t);
	if (r->half_closed)
		fdio_finish(t->socket);
}

const struct channel_method tunnel_methods[] = {
	{ .path = "/openshell.v1.OpenShell/ForwardTcp", .open = tunnel_open },
	{ 0 },
};
