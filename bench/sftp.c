/* Files.Sftp on standard input and output: what stands where ssh would, for `sftp -D`. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench.h"
#include "proto/codec.h"
#include "relay/fdio.h"
#include "relay/framed.h"
#include "rpc/client.h"
#include "towline/v1/files.pb-c.h"

struct bridge {
	struct loop *loop;
	struct rpc_client *client;
	struct framed *call; /* NULL: over */
	struct fdio *stdio;
	size_t overhead; /* of what has been sent, bytes that are not standard input's */
	int code;
};

static void stop_when_done(struct bridge *b)
{
	if (b->call == NULL && fdio_queued(b->stdio) == 0)
		loop_stop(b->loop);
}

static void stdin_data(void *cookie, struct slice data)
{
	struct bridge *b = cookie;

	if (b->call == NULL || framed_write(b->call, FRAMED_BYTES, data) != 0)
		slice_release(&data);
}

static void stdin_eof(void *cookie)
{
	struct bridge *b = cookie;

	if (b->call != NULL)
		framed_end(b->call);
}

static void stdout_sent(void *cookie, size_t bytes)
{
	struct bridge *b = cookie;

	if (b->call != NULL)
		framed_credit(b->call, bytes);
	stop_when_done(b);
}

static void stdio_failed(void *cookie, bool reading, const struct err *why)
{
	(void)reading;
	(void)why;
	loop_stop(((struct bridge *)cookie)->loop);
}

static const struct fdio_ops stdio_ops = {
	.data = stdin_data,
	.eof = stdin_eof,
	.sent = stdout_sent,
	.failed = stdio_failed,
};

static void call_payload(void *cookie, struct slice data)
{
	struct bridge *b = cookie;

	if (fdio_write(b->stdio, data) != 0)
		slice_release(&data);
}

static void call_sent(void *cookie, size_t bytes)
{
	struct bridge *b = cookie;
	size_t other = bytes < b->overhead ? bytes : b->overhead;

	b->overhead -= other;
	if (bytes > other)
		fdio_credit(b->stdio, bytes - other);
}

static void call_closed(void *cookie, const struct err *why)
{
	struct bridge *b = cookie;

	b->call = NULL;
	if (why->code != GRPC_OK)
		b->code = bench_fail(why);
	stop_when_done(b);
}

static const struct framed_ops call_ops = {
	.payload = call_payload,
	.sent = call_sent,
	.closed = call_closed,
};

static int begin(struct bridge *b, const char *sandbox, struct err *err)
{
	struct rpc_client_call call = { .path = "/towline.v1.Files/Sftp" };
	Towline__V1__SftpRequest r = TOWLINE__V1__SFTP_REQUEST__INIT;
	Towline__V1__SftpInit init = TOWLINE__V1__SFTP_INIT__INIT;
	uint8_t *packed;

	init.sandbox = (char *)sandbox;
	r.payload_case = TOWLINE__V1__SFTP_REQUEST__PAYLOAD_INIT;
	r.init = &init;
	if ((packed = codec_pack_new(&r.base, &b->overhead)) == NULL ||
	    (b->call = framed_call(b->client, &call, NULL, &call_ops, b, err)) == NULL)
		return -1;
	int sent = framed_send(b->call, packed, b->overhead);
	free(packed);
	return sent == 0 ? 0 : err_set(err, GRPC_UNAVAILABLE, "the call takes no request");
}

static void disconnected(void *cookie, const struct err *why)
{
	(void)why;
	loop_stop(((struct bridge *)cookie)->loop);
}

int bench_sftp(int argc, char *argv[])
{
	struct bridge b = { 0 };
	struct err err = { 0 };
	struct rpc_client_options client = { .closed = disconnected, .cookie = &b };
	struct fdio_options o = {
		.read_fd = STDIN_FILENO, .write_fd = STDOUT_FILENO, .ops = &stdio_ops, .cookie = &b
	};

	if (argc != 3) {
		fputs("towline-bench: sftp URL SANDBOX\n", stderr);
		return 2;
	}
	loop_ignore_sigpipe();
	if ((b.loop = loop_create(0, &err)) == NULL ||
	    (b.client = rpc_client_connect(b.loop, argv[1], &client, &err)) == NULL ||
	    (b.stdio = fdio_create(b.loop, &o, &err)) == NULL || begin(&b, argv[2], &err) != 0)
		return bench_fail(&err);
	loop_run(b.loop);
	return b.code;
}
