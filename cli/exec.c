/*
 * One ExecSandboxInteractive call and the three descriptors it is joined to.
 *
 *	stdin  ──▶ stdin, resize ──▶ call ──▶ stdout, stderr ──▶ descriptors
 *
 * Credit comes from the far end both ways: a reader of our output that is slow stops the
 * command, not our memory. It is over when the exit code is known and all output is out.
 */
#include "cli/exec.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/escape.h"
#include "cli/exec_start.h"
#include "cli/signals.h"
#include "cli/stdio.h"
#include "cli/terminal.h"
#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "proto/frame.h"

#define MESSAGE_MAX  ((uint32_t)4 << 20)
#define FIELD_STDIN  2 /* of ExecSandboxInput */
#define EVENT_STDOUT 1 /* of ExecSandboxEvent */
#define RESIZE_MAX   32

struct exec {
	struct session_wait wait;
	struct rpc_call *call; /* NULL: over */
	struct frame_decoder decoder;
	struct stdio *in, *out, *err; /* ${in} NULL: closed, or not wanted */
	size_t in_under_way;          /* bytes of standard input read and not yet gone */
	size_t overhead;              /* bytes of frames among what waits to leave */

	struct terminal terminal;
	struct escape escape;
	struct signal_watch *resized, *continued;
	struct signals signals;

	bool has_code; /* the exit event has come */
	bool ended;    /* nothing more will */
	int code;
};

/* All is said and written, or never will be. */
static void check_done(struct exec *e)
{
	if (e->ended && stdio_queued(e->out) == 0 && stdio_queued(e->err) == 0)
		session_done(&e->wait, NULL);
}

static void fail(struct exec *e, const struct err *why)
{
	if (e->call != NULL)
		rpc_call_cancel(e->call, why);
	e->call = NULL;
	session_done(&e->wait, why);
}

/* We are to leave, with an exit code that says why. */
static void leave(struct exec *e, int code)
{
	if (e->call != NULL)
		rpc_call_cancel(e->call, NULL);
	e->call = NULL;
	e->code = code;
	session_done(&e->wait, NULL);
}

/* What the command writes. */

static void take_output(struct exec *e, uint32_t field, struct slice data)
{
	size_t len = data.len;

	if (stdio_write(field == EVENT_STDOUT ? e->out : e->err, data) == 0)
		return;
	slice_release(&data); /* its reader has left */
	rpc_call_credit(e->call, len);
}

static void take_event(struct exec *e, const uint8_t *message, size_t len)
{
	enum guard_result why;
	struct err err;
	Openshell__V1__ExecSandboxEvent *event =
	    codec_unpack(&openshell__v1__exec_sandbox_event__descriptor, message, len, &why);

	if (event == NULL) {
		err_set(&err, GRPC_INTERNAL, "ExecSandboxEvent: %s", guard_text(why));
		fail(e, &err);
		return;
	}
	if (event->payload_case == OPENSHELL__V1__EXEC_SANDBOX_EVENT__PAYLOAD_EXIT) {
		e->has_code = true;
		e->code = event->exit->exit_code;
	}
	codec_free(event);
}

/* Returns for how many bytes credit is given later. */
static size_t take_frame(struct exec *e, const struct frame_event *ev, const struct slice *s)
{
	struct err err;

	switch (ev->kind) {
	case FRAME_PAYLOAD:
		take_output(e, ev->field, slice_sub(s, (size_t)(ev->data - s->data), ev->len));
		return ev->len;
	case FRAME_END:
		if (!ev->had_payload)
			take_event(e, ev->data, ev->len);
		return 0;
	case FRAME_ERROR:
		err_set(&err, (enum grpc_code)ev->code, "%s", ev->text);
		fail(e, &err);
		return 0;
	default:
		return 0;
	}
}

static void call_data(void *cookie, struct slice s)
{
	struct exec *e = cookie;
	struct frame_event ev = { .kind = FRAME_NONE };
	size_t at = 0, owed = 0;

	while (e->call != NULL) {
		at += frame_decoder_feed(&e->decoder, s.data + at, s.len - at, &ev);
		if (ev.kind == FRAME_NONE)
			break;
		owed += take_frame(e, &ev, &s);
	}
	if (e->call != NULL && s.len > owed)
		rpc_call_credit(e->call, s.len - owed);
	slice_release(&s);
}

/* The call says no more; ${why} is its status. */
static void over(struct exec *e, const struct err *why)
{
	struct err err = *why;

	if (err.code == GRPC_OK && !e->has_code)
		err_set(&err, GRPC_UNAVAILABLE, "the connection ended before the command did");
	e->ended = true;
	if (e->has_code)
		check_done(e);
	else
		session_done(&e->wait, &err);
}

static void call_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	(void)trailers;
	over(cookie, status);
}

static void call_closed(void *cookie, const struct err *why)
{
	struct exec *e = cookie;

	e->call = NULL;
	if (!e->ended)
		over(e, why);
}

/* What we send: frames have gone before the bytes in them. */

/* Keys that were for us have not been sent, so this is never exact. */
static void credit_input(struct exec *e, size_t bytes)
{
	if (bytes > e->in_under_way)
		bytes = e->in_under_way;
	e->in_under_way -= bytes;
	if (e->in != NULL && bytes > 0)
		stdio_credit(e->in, bytes);
}

static void call_sent(void *cookie, size_t bytes)
{
	struct exec *e = cookie;
	size_t frames = bytes < e->overhead ? bytes : e->overhead;

	e->overhead -= frames;
	credit_input(e, bytes - frames);
}

static const struct rpc_call_ops call_ops = {
	.data = call_data,
	.end = call_end,
	.sent = call_sent,
	.closed = call_closed,
};

/* Output descriptors. */

static void output_sent(void *cookie, size_t bytes)
{
	struct exec *e = cookie;

	if (e->call != NULL)
		rpc_call_credit(e->call, bytes);
	check_done(e);
}

static void output_failed(void *cookie, bool reading, const struct err *why)
{
	struct exec *e = cookie;
	struct err err = *why;

	(void)reading;
	if (err.sys == EPIPE) {
		leave(e, CLI_EXIT_SIGNAL + SIGPIPE); /* what nobody reads need not be made */
		return;
	}
	err_wrap(&err, "standard output");
	fail(e, &err);
}

static const struct fdio_ops output_ops = { .sent = output_sent, .failed = output_failed };

/* Standard input. */

/* Takes the slice, always. */
static void send_input(struct exec *e, struct slice data)
{
	uint8_t head[FRAME_HEADER_MAX];
	size_t len = frame_header(head, FIELD_STDIN, (uint32_t)data.len), bytes = data.len;
	struct slice front = slice_copy(head, len);

	if (bytes > 0 && front.data != NULL && e->call != NULL &&
	    rpc_call_write(e->call, front) == 0) {
		e->overhead += len;
		if (rpc_call_write(e->call, data) == 0)
			return;
	} else {
		slice_release(&front);
	}
	slice_release(&data); /* the command reads no more */
	credit_input(e, bytes);
}

/* What a person types, without what is meant for us. */
static void send_keys(struct exec *e, struct slice data)
{
	uint8_t keys[4096 + 1];
	bool left = false;

	for (size_t at = 0; at < data.len && !left; at += sizeof(keys) - 1) {
		size_t n = data.len - at < sizeof(keys) - 1 ? data.len - at : sizeof(keys) - 1;
		size_t len = escape_filter(&e->escape, data.data + at, n, keys, &left);

		if (len > 0)
			send_input(e, slice_copy(keys, len));
	}
	slice_release(&data);
	if (left)
		leave(e, CLI_EXIT_TRANSPORT);
}

static void input_data(void *cookie, struct slice data)
{
	struct exec *e = cookie;

	e->in_under_way += data.len;
	if (e->terminal.is_raw)
		send_keys(e, data);
	else
		send_input(e, data);
}

static void input_eof(void *cookie)
{
	struct exec *e = cookie;

	stdio_free(e->in);
	e->in = NULL;
	if (e->call != NULL)
		rpc_call_end(e->call, NULL);
}

static void input_failed(void *cookie, bool reading, const struct err *why)
{
	(void)reading;
	(void)why;
	input_eof(cookie);
}

static const struct fdio_ops input_ops = {
	.data = input_data,
	.eof = input_eof,
	.failed = input_failed,
};

/* Signals. */

static void on_signal(void *cookie, int number)
{
	leave(cookie, CLI_EXIT_SIGNAL + number);
}

static void on_resized(void *cookie)
{
	struct exec *e = cookie;
	Openshell__V1__ExecSandboxInput input = OPENSHELL__V1__EXEC_SANDBOX_INPUT__INIT;
	Openshell__V1__ExecSandboxWindowResize resize =
	    OPENSHELL__V1__EXEC_SANDBOX_WINDOW_RESIZE__INIT;
	uint8_t packed[RESIZE_MAX];
	size_t len;

	terminal_size(STDIN_FILENO, &resize.cols, &resize.rows);
	input.payload_case = OPENSHELL__V1__EXEC_SANDBOX_INPUT__PAYLOAD_RESIZE;
	input.resize = &resize;
	len = codec_pack(&input.base, packed);
	if (e->call != NULL && resize.cols > 0 && rpc_call_send(e->call, packed, len) == 0)
		e->overhead += len + 5;
}

static void on_continued(void *cookie)
{
	struct exec *e = cookie;

	terminal_again(&e->terminal);
	on_resized(e);
}

static int watch_signals(struct exec *e, struct err *err)
{
	struct loop *loop = session_loop(e->wait.session);

	if (signals_watch(&e->signals, loop, on_signal, e, err) != 0)
		return -1;
	if (!e->terminal.is_raw)
		return 0;
	e->resized = signal_watch_create(loop, SIGWINCH, on_resized, e, err);
	e->continued = signal_watch_create(loop, SIGCONT, on_continued, e, err);
	return e->resized != NULL && e->continued != NULL ? 0 : -1;
}

/* The whole of it. */

bool exec_wants_tty(enum cli_switch tty)
{
	if (tty != CLI_SWITCH_AUTO)
		return tty == CLI_SWITCH_ON;
	return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
}

static int open_call(struct exec *e, const struct exec_options *o, bool tty, struct err *err)
{
	struct session *s = e->wait.session;
	struct rpc_client_call call = { .path = "/openshell.v1.OpenShell/ExecSandboxInteractive",
		.ops = &call_ops,
		.cookie = e };
	struct rpc_client *client = session_client(s, err);
	size_t len;
	uint8_t *start = exec_start_message(s, o, tty, &len, err);
	int r = -1;

	if (start == NULL || client == NULL ||
	    (e->call = rpc_client_call(client, &call, err)) == NULL)
		r = -1;
	else if (rpc_call_send(e->call, start, len) != 0)
		err_set(err, GRPC_INTERNAL, "the call takes no request");
	else
		r = 0;
	e->overhead = len + 5;
	free(start);
	return r;
}

static int open_descriptors(struct exec *e, bool with_stdin, struct err *err)
{
	struct loop *loop = session_loop(e->wait.session);

	if ((e->out = stdio_writer(loop, STDOUT_FILENO, &output_ops, e, err)) == NULL ||
	    (e->err = stdio_writer(loop, STDERR_FILENO, &output_ops, e, err)) == NULL)
		return -1;
	if (!with_stdin) {
		rpc_call_end(e->call, NULL);
		return 0;
	}
	e->in = stdio_reader(loop, STDIN_FILENO, &input_ops, e, err);
	return e->in != NULL ? 0 : -1;
}

static int start(struct exec *e, const struct exec_options *o, struct err *err)
{
	bool tty = exec_wants_tty(o->tty), is_terminal = isatty(STDIN_FILENO);
	bool with_stdin = !o->no_stdin && !(is_terminal && terminal_is_background(STDIN_FILENO));

	if (open_call(e, o, tty, err) != 0)
		return -1;
	if (tty && with_stdin && is_terminal && terminal_raw(&e->terminal, STDIN_FILENO, err) != 0)
		return -1;
	if (watch_signals(e, err) != 0)
		return -1;
	return open_descriptors(e, with_stdin, err);
}

static void tidy_up(struct exec *e)
{
	terminal_restore(&e->terminal);
	if (e->call != NULL)
		rpc_call_cancel(e->call, NULL);
	stdio_free(e->in);
	stdio_free(e->out);
	stdio_free(e->err);
	signal_watch_free(e->resized);
	signal_watch_free(e->continued);
	signals_free(&e->signals);
	frame_decoder_free(&e->decoder);
}

int exec_run(struct session *s, const struct exec_options *o, int *code, struct err *err)
{
	struct exec e = { .wait.session = s };
	int r;

	frame_decoder_init(&e.decoder, FRAME_SHAPE_EVENT, MESSAGE_MAX, FRAME_OTHER_DEFAULT);
	r = start(&e, o, err);
	if (r == 0)
		r = session_wait(s, &e.wait, SESSION_FOREVER, err);
	tidy_up(&e);
	*code = e.code;
	return r;
}
