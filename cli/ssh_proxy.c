#include "cli/ssh_proxy.h"

#include <stdlib.h>
#include <unistd.h>

#include "cli/signals.h"
#include "cli/stdio.h"
#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "relay/framed.h"

struct proxy {
	struct session_wait wait;
	struct framed *call; /* NULL: over */
	struct stdio *in, *out;
	size_t overhead; /* bytes of the first message that have not left */
	struct signals signals;
	struct err err;
};

/* The endpoint has said all it will, and it is written. */
static void check_done(struct proxy *p)
{
	if (p->call == NULL && !p->wait.done && (p->out == NULL || stdio_queued(p->out) == 0))
		session_done(&p->wait, p->err.code != GRPC_OK ? &p->err : NULL);
}

static void fail(struct proxy *p, const struct err *why)
{
	if (p->err.code == GRPC_OK)
		p->err = *why;
	if (p->call != NULL)
		framed_cancel(p->call, NULL);
	p->call = NULL;
	if (!p->wait.done)
		session_done(&p->wait, &p->err);
}

/* ssh ends its proxy with a signal when it has no more use for it: that is no failure. */
static void on_signal(void *cookie, int number)
{
	struct proxy *p = cookie;

	(void)number;
	if (!p->wait.done)
		session_done(&p->wait, NULL);
}

/* Standard input. */

static void in_data(void *cookie, struct slice data)
{
	struct proxy *p = cookie;
	size_t len = data.len;

	if (p->call != NULL && framed_write(p->call, FRAMED_BYTES, data) == 0)
		return;
	slice_release(&data);
	stdio_credit(p->in, len);
}

static void in_eof(void *cookie)
{
	struct proxy *p = cookie;

	if (p->call != NULL)
		framed_end(p->call);
}

static void io_failed(void *cookie, bool reading, const struct err *why)
{
	(void)reading;
	fail(cookie, why);
}

static const struct fdio_ops in_ops = { .data = in_data, .eof = in_eof, .failed = io_failed };

/* Standard output. */

static void out_sent(void *cookie, size_t bytes)
{
	struct proxy *p = cookie;

	if (p->call != NULL)
		framed_credit(p->call, bytes);
	check_done(p);
}

static const struct fdio_ops out_ops = { .sent = out_sent, .failed = io_failed };

/* The call. */

static void call_payload(void *cookie, struct slice data)
{
	struct proxy *p = cookie;
	size_t len = data.len;

	if (p->out != NULL && stdio_write(p->out, data) == 0)
		return;
	slice_release(&data);
	framed_credit(p->call, len);
}

static void call_sent(void *cookie, size_t bytes)
{
	struct proxy *p = cookie;
	size_t first = bytes < p->overhead ? bytes : p->overhead;

	p->overhead -= first;
	if (bytes > first)
		stdio_credit(p->in, bytes - first);
}

static void call_end(void *cookie, const struct err *status)
{
	struct proxy *p = cookie;

	if (status->code != GRPC_OK && p->err.code == GRPC_OK)
		p->err = *status;
}

static void call_closed(void *cookie, const struct err *why)
{
	struct proxy *p = cookie;

	p->call = NULL;
	if (why->code != GRPC_OK && p->err.code == GRPC_OK)
		p->err = *why;
	check_done(p);
}

static const struct framed_ops call_ops = {
	.payload = call_payload,
	.end = call_end,
	.sent = call_sent,
	.closed = call_closed,
};

static int send_init(struct proxy *p, const char *sandbox, const char *token, struct err *err)
{
	Openshell__V1__TcpForwardFrame frame = OPENSHELL__V1__TCP_FORWARD_FRAME__INIT;
	Openshell__V1__TcpForwardInit init = OPENSHELL__V1__TCP_FORWARD_INIT__INIT;
	Openshell__V1__SshRelayTarget ssh = OPENSHELL__V1__SSH_RELAY_TARGET__INIT;
	const struct cli *cli = session_cli(p->wait.session);

	init.sandbox = (char *)sandbox;
	if (cli->workspace != NULL)
		init.workspace = cli->workspace;
	init.target_case = OPENSHELL__V1__TCP_FORWARD_INIT__TARGET_SSH;
	init.ssh = &ssh;
	init.authorization_token = (char *)token;
	frame.payload_case = OPENSHELL__V1__TCP_FORWARD_FRAME__PAYLOAD_INIT;
	frame.init = &init;
	uint8_t *packed = codec_pack_new(&frame.base, &p->overhead);
	int r = packed != NULL ? framed_send(p->call, packed, p->overhead) : -1;
	free(packed);
	return r == 0 ? 0 : err_set(err, GRPC_UNAVAILABLE, "the call takes no request");
}

static int start(struct proxy *p, const char *sandbox, const char *token, struct err *err)
{
	struct session *s = p->wait.session;
	struct rpc_client_call call = { .path = "/openshell.v1.OpenShell/ForwardTcp" };
	struct rpc_client *client = session_client(s, err);

	if (client == NULL || signals_watch(&p->signals, session_loop(s), on_signal, p, err) != 0 ||
	    (p->call = framed_call(client, &call, NULL, &call_ops, p, err)) == NULL ||
	    send_init(p, sandbox, token, err) != 0)
		return -1;
	p->out = stdio_writer(session_loop(s), STDOUT_FILENO, &out_ops, p, err);
	if (p->out == NULL)
		return -1;
	p->in = stdio_reader(session_loop(s), STDIN_FILENO, &in_ops, p, err);
	return p->in != NULL ? 0 : -1;
}

int ssh_proxy_run(struct session *s, const char *sandbox, const char *token, struct err *err)
{
	struct proxy p = { .wait.session = s };
	int r = start(&p, sandbox, token, err);

	if (r == 0)
		r = session_wait(s, &p.wait, SESSION_FOREVER, err);
	if (p.call != NULL)
		framed_cancel(p.call, NULL);
	stdio_free(p.in);
	stdio_free(p.out);
	signals_free(&p.signals);
	return r;
}
