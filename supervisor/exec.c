/*
 * ExecSandbox and ExecSandboxInteractive: a process, its descriptors and its client.
 *
 *	client --stdin--> framed --> fdio in  --> process
 *	client <-events-- framed <-- fdio out, err <--
 *
 * The answer ends when the process has ended and both its outputs are drained. If the
 * client goes first the process group is ended, and the object waits for that.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/signame.h"
#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "relay/fdio.h"
#include "supervisor/command.h"
#include "supervisor/supervisor.h"

#define EXEC_WINDOW    ((size_t)256 << 10) /* bytes of one output read and not yet sent on */
#define EXEC_GRACE_MS  2000                /* from SIGTERM or SIGHUP to SIGKILL */
#define EXEC_DRAIN_MS  250 /* silence after which an output that others hold open is left */
#define EXIT_TIMED_OUT 124 /* as timeout(1) */

static const struct log_area area = { "exec" };

static const struct framed_field FIELD_STDOUT = { 1, 1 }, FIELD_STDERR = { 2, 1 };

/* One output of the process. */
struct output {
	struct exec *exec;
	struct fdio *fd;  /* NULL: drained, or never there */
	size_t under_way; /* bytes written to the call and not yet gone */
	struct framed_field field;
};

struct exec {
	struct supervisor *sup;
	struct exec *next, **prev;
	struct framed *call; /* NULL: the client is gone */
	struct child *child; /* NULL: it has ended */
	struct fdio *in;     /* of pipes; a terminal's input goes through ${out} */
	struct output out, err;
	struct fdio *terminal; /* closed by all in the sandbox, while ${child} goes on */
	bool tty;
	bool timed_out;
	bool finished; /* the exit event is out */
	pid_t pgid;
	int exit_code;
	int signal; /* that ended the process; 0: none */
	bool core_dumped;
	struct timer *timer; /* the time limit, then the grace */
	struct timer *drain;
};

static void exec_free(struct exec *e)
{
	fdio_free(e->in);
	fdio_free(e->out.fd);
	fdio_free(e->err.fd);
	fdio_free(e->terminal);
	timer_free(e->timer);
	timer_free(e->drain);
	*e->prev = e->next;
	if (e->next != NULL)
		e->next->prev = e->prev;
	e->sup->execs--;
	free(e);
}

/* The group hears ${sig}; what outlives EXEC_GRACE_MS is killed. */
static void end_group(struct exec *e, int sig)
{
	if (e->child == NULL)
		return;
	kill(-e->pgid, sig);
	timer_start(e->timer, EXEC_GRACE_MS);
}

static void on_timer(void *cookie)
{
	struct exec *e = cookie;

	if (e->child == NULL)
		return;
	if (e->call != NULL && !e->timed_out) {
		e->timed_out = true;
		end_group(e, SIGTERM);
		return;
	}
	kill(-e->pgid, SIGKILL);
}

/* The exit event and the status; the object lives until closed(). */
static void finish(struct exec *e)
{
	Openshell__V1__ExecSandboxExit body = OPENSHELL__V1__EXEC_SANDBOX_EXIT__INIT;
	Openshell__V1__ExecSandboxEvent event = OPENSHELL__V1__EXEC_SANDBOX_EVENT__INIT;
	uint8_t packed[96];
	char name[32];
	struct err err = { 0 };

	body.exit_code = e->timed_out ? EXIT_TIMED_OUT : e->exit_code;
	if (e->signal != 0 && !e->timed_out) {
		body.signal = (char *)signame_of(e->signal, name);
		body.core_dumped = e->core_dumped;
	}
	event.payload_case = OPENSHELL__V1__EXEC_SANDBOX_EVENT__PAYLOAD_EXIT;
	event.exit = &body;
	e->finished = true;
	timer_stop(e->drain);
	if (framed_send(e->call, packed, codec_pack(&event.base, packed)) != 0)
		err_set(&err, GRPC_INTERNAL, "the exit event could not be sent");
	framed_finish(e->call, err.code == GRPC_OK ? NULL : &err);
}

/* After every step that may have been the last. */
static void check_finished(struct exec *e)
{
	if (e->call == NULL || e->finished || e->child != NULL)
		return;
	if (e->out.fd == NULL && e->err.fd == NULL)
		finish(e);
	else
		timer_start(e->drain, EXEC_DRAIN_MS);
}

/* The process has ended, but something it left behind holds an output open. */
static void on_drain(void *cookie)
{
	struct exec *e = cookie;

	if (e->out.under_way > 0 || e->err.under_way > 0) {
		timer_start(e->drain, EXEC_DRAIN_MS);
		return;
	}
	finish(e);
}

static void on_ended(void *cookie, int status)
{
	struct exec *e = cookie;

	e->child = NULL;
	if (WIFSIGNALED(status)) {
		e->signal = WTERMSIG(status);
		e->core_dumped = WCOREDUMP(status);
	}
	e->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	timer_stop(e->timer);
	log_debug(&area, "exit", LOG_I64("pid", e->pgid), LOG_I64("code", e->exit_code));
	if (e->call == NULL || e->timed_out)
		kill(-e->pgid, SIGKILL); /* what ignored the first signal */
	if (e->call == NULL)
		exec_free(e);
	else
		check_finished(e);
}

/* What the process writes. */

static void output_data(void *cookie, struct slice data)
{
	struct output *o = cookie;
	size_t len = data.len;

	if (timer_is_running(o->exec->drain))
		timer_start(o->exec->drain, EXEC_DRAIN_MS);
	if (framed_write(o->exec->call, o->field, data) != 0) {
		slice_release(&data);
		fdio_credit(o->fd, len);
		return;
	}
	o->under_way += len;
}

/* A terminal is kept until its process has ended: to close it would hang it up, and a
 * process that has closed its outputs still has an exit code to give. */
static void output_eof(void *cookie)
{
	struct output *o = cookie;

	if (o->exec->tty)
		o->exec->terminal = o->fd;
	else
		fdio_free(o->fd);
	o->fd = NULL;
	check_finished(o->exec);
}

static void output_failed(void *cookie, bool reading, const struct err *err)
{
	struct output *o = cookie;

	log_debug(&area, "output_failed", LOG_ERR(err));
	if (reading)
		output_eof(o);
}

/* Credit for what has left. Which of the two outputs it was does not matter: what is
 * under way of both together stays within both windows. */
static size_t output_sent(struct output *o, size_t bytes)
{
	size_t n = bytes < o->under_way ? bytes : o->under_way;

	o->under_way -= n;
	if (o->fd != NULL && n > 0)
		fdio_credit(o->fd, n);
	return bytes - n;
}

/* What the process reads. */

static void input_sent(void *cookie, size_t bytes)
{
	struct output *o = cookie;

	if (o->exec->call != NULL)
		framed_credit(o->exec->call, bytes);
}

static const struct fdio_ops output_ops = {
	.data = output_data,
	.eof = output_eof,
	.sent = input_sent, /* a terminal is written to through its output */
	.failed = output_failed,
};

static void in_sent(void *cookie, size_t bytes)
{
	input_sent(&((struct exec *)cookie)->out, bytes);
}

/* The process has closed its input: what still comes is dropped. */
static void in_failed(void *cookie, bool reading, const struct err *err)
{
	struct exec *e = cookie;

	(void)reading;
	log_debug(&area, "input_closed", LOG_ERR(err));
	fdio_free(e->in);
	e->in = NULL;
}

static const struct fdio_ops input_ops = { .sent = in_sent, .failed = in_failed };

static struct fdio *input_of(struct exec *e)
{
	return e->tty ? e->out.fd : e->in;
}

/* What the client says. */

static void call_payload(void *cookie, struct slice data)
{
	struct exec *e = cookie;
	struct fdio *in = input_of(e);
	size_t len = data.len;

	if (in == NULL || fdio_write(in, data) != 0) {
		slice_release(&data);
		framed_credit(e->call, len);
	}
}

static void close_input(struct exec *e)
{
	struct fdio *in = input_of(e);

	if (in != NULL)
		fdio_finish(in);
}

static void call_end(void *cookie, const struct err *status)
{
	(void)status;
	close_input(cookie);
}

/* The client is gone before the process: end the group and wait for it alone. */
static void call_closed(void *cookie, const struct err *why)
{
	struct exec *e = cookie;

	(void)why;
	e->call = NULL;
	end_group(e, e->tty ? SIGHUP : SIGTERM); /* before its input ends as if all had come */
	fdio_free(e->in);
	fdio_free(e->out.fd);
	fdio_free(e->err.fd);
	fdio_free(e->terminal);
	e->in = e->out.fd = e->err.fd = e->terminal = NULL;
	timer_stop(e->drain);
	if (e->child == NULL)
		exec_free(e);
}

/* Ends the call with an error, and with it the process. */
static void call_fail(struct exec *e, enum grpc_code code, const char *text)
{
	struct err err;

	err_set(&err, code, "%s", text);
	e->finished = true;
	framed_finish(e->call, &err);
	end_group(e, SIGKILL);
}

static void resize(struct exec *e, const Openshell__V1__ExecSandboxWindowResize *r)
{
	if (e->tty && e->child != NULL && e->out.fd != NULL)
		process_resize(fdio_fd(e->out.fd),
		    (struct process_size){ .cols = r->cols,
			.rows = r->rows,
			.width = r->width_pixels,
			.height = r->height_pixels });
}

static void send_signal(struct exec *e, const char *name)
{
	int number = signame_number(name);

	if (number < 0)
		call_fail(e, GRPC_INVALID_ARGUMENT,
		    "signal: no such name; TERM, INT, HUP, KILL and so on, without SIG");
	else if (e->child != NULL)
		kill(-e->pgid, number);
}

/* Nobody reads what the process writes: it is told as by a pipe without a reader. */
static void close_output(struct exec *e)
{
	if (e->tty) {
		if (e->child != NULL)
			kill(-e->pgid, SIGHUP);
		return;
	}
	fdio_free(e->out.fd);
	fdio_free(e->err.fd);
	e->out.fd = e->err.fd = NULL;
	check_finished(e);
}

static void take_input(struct exec *e, const Openshell__V1__ExecSandboxInput *input)
{
	switch (input->payload_case) {
	case OPENSHELL__V1__EXEC_SANDBOX_INPUT__PAYLOAD_STDIN:
		break;
	case OPENSHELL__V1__EXEC_SANDBOX_INPUT__PAYLOAD_RESIZE:
		resize(e, input->resize);
		break;
	case OPENSHELL__V1__EXEC_SANDBOX_INPUT__PAYLOAD_SIGNAL:
		send_signal(e, input->signal->name);
		break;
	case OPENSHELL__V1__EXEC_SANDBOX_INPUT__PAYLOAD_CLOSE_INPUT:
		close_input(e);
		break;
	case OPENSHELL__V1__EXEC_SANDBOX_INPUT__PAYLOAD_CLOSE_OUTPUT:
		close_output(e);
		break;
	case OPENSHELL__V1__EXEC_SANDBOX_INPUT__PAYLOAD_START:
		call_fail(e, GRPC_INVALID_ARGUMENT, "a second start; stdin or resize was expected");
		break;
	default:
		call_fail(e, GRPC_INVALID_ARGUMENT, "a message without stdin, resize or signal");
	}
}

static void call_message(void *cookie, const uint8_t *message, size_t len)
{
	struct exec *e = cookie;
	enum guard_result why;
	Openshell__V1__ExecSandboxInput *input;

	if (e->finished)
		return;
	input = codec_unpack(&openshell__v1__exec_sandbox_input__descriptor, message, len, &why);
	if (input == NULL) {
		call_fail(e, (enum grpc_code)guard_status(why), guard_text(why));
		return;
	}
	take_input(e, input);
	codec_free(input);
}

static void call_sent(void *cookie, size_t bytes)
{
	struct exec *e = cookie;

	output_sent(&e->err, output_sent(&e->out, bytes));
}

static const struct framed_ops call_ops = {
	.payload = call_payload,
	.message = call_message,
	.end = call_end,
	.sent = call_sent,
	.closed = call_closed,
};

/* The beginning. */

/* Takes the process's descriptors; those not taken are closed on failure. */
static int open_descriptors(struct exec *e, const struct process *p, struct err *err)
{
	struct loop *loop = e->sup->loop;
	struct fdio_options out = { .read_fd = p->out,
		.write_fd = e->tty ? p->in : -1,
		.window = EXEC_WINDOW,
		.ops = &output_ops,
		.cookie = &e->out };
	struct fdio_options errs = { .read_fd = p->err,
		.write_fd = -1,
		.window = EXEC_WINDOW,
		.ops = &output_ops,
		.cookie = &e->err };
	struct fdio_options in = {
		.read_fd = -1, .write_fd = p->in, .ops = &input_ops, .cookie = e
	};

	if ((e->out.fd = fdio_create(loop, &out, err)) == NULL) {
		close(p->out);
		if (!e->tty) {
			close(p->in);
			close(p->err);
		}
		return -1;
	}
	if (e->tty)
		return 0;
	if ((e->err.fd = fdio_create(loop, &errs, err)) == NULL) {
		close(p->err);
		close(p->in);
		return -1;
	}
	if ((e->in = fdio_create(loop, &in, err)) == NULL) {
		close(p->in);
		return -1;
	}
	return 0;
}

/* A program that cannot be started is the command's failure, told as a shell would. */
static void start_failed(struct exec *e, int exit_code, const struct err *err)
{
	char text[ERR_TEXT_MAX + 2];
	int len = snprintf(text, sizeof(text), "%s\n", err->text);
	struct slice line = slice_copy(text, (size_t)len);

	if (line.data != NULL && framed_write(e->call, FIELD_STDERR, line) != 0)
		slice_release(&line);
	e->exit_code = exit_code;
	finish(e);
}

static void start(struct exec *e, const struct command *c, const struct channel_request *r)
{
	struct process p;
	struct err err = { 0 };
	int exit_code;
	const ProtobufCBinaryData *data = &c->request->stdin;

	if (command_is_missing(c, &err)) {
		start_failed(e, PROCESS_NOT_FOUND, &err);
		return;
	}
	if (process_start(&c->process, &p, &exit_code, &err) != 0) {
		if (exit_code != 0)
			start_failed(e, exit_code, &err);
		else
			call_fail(e, err.code, err.text);
		return;
	}
	e->pgid = p.pid;
	if ((e->child = reaper_add(e->sup->reaper, p.pid, on_ended, e)) == NULL)
		kill(-p.pid, SIGKILL);
	if (open_descriptors(e, &p, &err) != 0 || e->child == NULL) {
		call_fail(
		    e, GRPC_RESOURCE_EXHAUSTED, err.code != GRPC_OK ? err.text : "out of memory");
		return;
	}
	if (c->timeout_ms > 0)
		timer_start(e->timer, c->timeout_ms);
	if (data->len > 0) {
		struct slice all = slice_copy(data->data, data->len);
		if (all.data == NULL || fdio_write(input_of(e), all) != 0)
			slice_release(&all);
	}
	if (r->half_closed)
		fdio_finish(input_of(e));
}

static struct exec *exec_create(struct supervisor *s, struct framed *call, bool tty)
{
	struct exec *e = calloc(1, sizeof(*e));

	if (e == NULL)
		return NULL;
	e->timer = timer_create_on(s->loop, on_timer, e);
	e->drain = timer_create_on(s->loop, on_drain, e);
	if (e->timer == NULL || e->drain == NULL) {
		timer_free(e->timer);
		timer_free(e->drain);
		free(e);
		return NULL;
	}
	e->sup = s;
	e->call = call;
	e->tty = tty;
	e->out = (struct output){ .exec = e, .field = FIELD_STDOUT };
	e->err = (struct output){ .exec = e, .field = FIELD_STDERR };
	e->next = s->exec_list;
	e->prev = &s->exec_list;
	if (e->next != NULL)
		e->next->prev = &e->next;
	s->exec_list = e;
	s->execs++;
	return e;
}

void exec_open(struct framed *call, const struct channel_request *r, void *app)
{
	struct supervisor *s = app;
	struct command c;
	struct exec *e;
	struct err err = { 0 };

	if (s->execs >= SUPERVISOR_EXECS_MAX) {
		err_set(&err, GRPC_RESOURCE_EXHAUSTED,
		    "%d commands run in this sandbox; end one first", SUPERVISOR_EXECS_MAX);
		framed_finish(call, &err);
		return;
	}
	if (command_parse(s, r, &c, &err) != 0) {
		framed_finish(call, &err);
		return;
	}
	if ((e = exec_create(s, call, c.process.tty)) == NULL) {
		err_set(&err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		framed_finish(call, &err);
	} else {
		framed_bind(call, &call_ops, e);
		start(e, &c, r);
	}
	command_free(&c);
}

void exec_end_all(struct supervisor *s)
{
	for (struct exec *e = s->exec_list; e != NULL; e = e->next)
		if (e->child != NULL)
			kill(-e->pgid, SIGKILL);
}
