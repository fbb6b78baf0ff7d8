/*
 * Bytes of a channel, both ways.
 *
 *	client --> libssh's buffer --> call        the buffer is the client's window: what is
 *	                                           not taken from it keeps that shut
 *	client <-- libssh <-- out, err <-- call    the call's window is given back when the
 *	                                           client's has taken the bytes
 *
 * libssh's callbacks may run wherever libssh is called, so they take data or note what came,
 * and leave the rest to channel_step(), which runs at the end of a turn.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "rpc/call.h"
#include "sshd/channel_parts.h"

/* Bytes handed to libssh at once: four packets as OpenSSH takes them, less what libssh leaves
 * free in each. */
#define PIECE_MAX    ((size_t)4 * (32768 - 10))
#define PIECE_SLICES 64
#define EXIT_FAILED  255 /* as ssh(1) leaves when it is not the command that failed */

static const struct log_area area = { "channel" };

/* Up: from the client. */

static void to_call(struct channel *c, struct slice s)
{
	size_t len = s.len;

	client_took(c->all->client, len);
	if (framed_write(c->call, FRAMED_BYTES, s) != 0)
		slice_release(&s); /* the call is ending: nobody wants it */
	else
		c->under_way += len;
}

/* How much of what the client sends is wanted now. */
static size_t up_room(const struct channel *c)
{
	if (c->state == CHANNEL_STATE_WAITING || c->trying)
		return 0;
	if (c->call == NULL || c->half_closed)
		return SIZE_MAX; /* dropped */
	return c->under_way < CHANNEL_UP_MAX ? CHANNEL_UP_MAX - c->under_way : 0;
}

static bool is_wanted(const struct channel *c)
{
	return c->call != NULL && !c->half_closed;
}

static int on_data(
    ssh_session ssh, ssh_channel channel, void *data, uint32_t len, int is_stderr, void *cookie)
{
	struct channel *c = cookie;
	size_t room = up_room(c), take = len < room ? len : room;
	struct err err;

	(void)ssh;
	(void)channel;
	if (is_stderr)
		return (int)len; /* of no meaning from a client */
	if (len > CHANNEL_UNREAD_MAX) {
		err_set(&err, GRPC_RESOURCE_EXHAUSTED, "data beyond the channel's window");
		client_fail(c->all->client, &err);
		return (int)len;
	}
	c->unread = len - take;
	if (take > 0 && is_wanted(c)) {
		struct slice s = slice_copy(data, take);
		if (s.data != NULL) {
			to_call(c, s);
		} else { /* what is lost must not look as if it had not been there */
			err_set(&err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
			client_fail(c->all->client, &err);
		}
	}
	return (int)take;
}

static void on_eof(ssh_session ssh, ssh_channel channel, void *cookie)
{
	struct channel *c = cookie;

	(void)ssh;
	(void)channel;
	c->client_eof = true;
	channels_wake(c->all);
}

static void on_close(ssh_session ssh, ssh_channel channel, void *cookie)
{
	struct channel *c = cookie;

	(void)ssh;
	(void)channel;
	c->client_eof = c->client_closed = true;
	channels_wake(c->all);
}

static void on_signal(ssh_session ssh, ssh_channel channel, const char *name, void *cookie)
{
	(void)ssh;
	(void)channel;
	channel_exec_signal(cookie, name);
}

const struct ssh_channel_callbacks_struct channel_callbacks = {
	.channel_data_function = on_data,
	.channel_eof_function = on_eof,
	.channel_close_function = on_close,
	.channel_signal_function = on_signal,
};

/* Takes what libssh has kept: all of it at once, when most of what went before has gone.
 * ssh_channel_read() opens the window whatever it leaves behind, so it must leave nothing.
 * Nothing is read from the client: there is something. */
static void pull(struct channel *c)
{
	struct block *b;
	int got;

	if (c->unread == 0 || c->ssh == NULL || up_room(c) < CHANNEL_UP_MAX - CHANNEL_UP_LOW ||
	    (b = block_new(c->unread)) == NULL)
		return;
	got = ssh_channel_read_nonblocking(c->ssh, block_data(b), (uint32_t)c->unread, 0);
	c->unread = 0;
	if (got > 0 && is_wanted(c))
		to_call(c, slice_of(b, 0, (size_t)got));
	block_unref(b);
	client_flush(c->all->client); /* the window has been opened */
}

static void half_close(struct channel *c)
{
	if (!c->client_eof || c->unread > 0 || c->half_closed || c->trying ||
	    (c->state != CHANNEL_STATE_RUNNING && c->state != CHANNEL_STATE_LEFT))
		return;
	c->half_closed = true;
	/* To a command signals may still be sent. */
	if (c->call != NULL && !channel_exec_close_input(c))
		framed_end(c->call);
}

/* Down: from the call. */

/* What the client takes no more. */
static void drop_output(struct channel *c)
{
	size_t bytes = c->out.bytes + c->err.bytes;

	c->deaf = true;
	bufq_drop(&c->out, c->out.bytes);
	bufq_drop(&c->err, c->err.bytes);
	if (c->call != NULL && bytes > 0)
		framed_credit(c->call, bytes);
}

/* A command hears of it, as of any reader that has gone. */
void channel_stop_output(struct channel *c)
{
	drop_output(c);
	if (!c->told_deaf)
		c->told_deaf = channel_exec_close_output(c);
}

static void stop_trying(struct channel *c)
{
	c->trying = false;
	timer_stop(c->again);
	free(c->first);
	c->first = NULL;
}

/* A sandbox takes so many calls at once, and a crowd of clients comes at once: who is one
 * too many waits a little, each for another while. False: the call's end is the end. */
static bool try_again(struct channel *c, const struct err *why)
{
	uint64_t ms = (uint64_t)CHANNEL_AGAIN_MS << c->attempts;

	if (!c->trying || why->code != GRPC_RESOURCE_EXHAUSTED || c->call != NULL ||
	    c->attempts == CHANNEL_AGAIN_MAX)
		return false;
	c->attempts++;
	timer_start(c->again, ms + random_below(ms));
	return true;
}

static void call_ended(struct channel *c, const struct err *status)
{
	if (c->call_ended)
		return;
	c->call_ended = true;
	c->status = *status;
	/* A command that has ended reads no more. */
	if (c->kind->is_session && c->call != NULL) {
		c->half_closed = true;
		framed_end(c->call);
	}
	channels_wake(c->all);
}

static void call_payload(void *cookie, struct slice s)
{
	struct channel *c = cookie;
	bool to_stderr = c->kind->event && framed_payload_field(c->call) == 2;
	size_t len = s.len;
	struct err err;

	channels_wake(c->all);
	if (!c->deaf && bufq_push(to_stderr ? &c->err : &c->out, s) == 0)
		return;
	slice_release(&s);
	framed_credit(c->call, len);
	if (c->deaf)
		return;
	/* What is lost must not look as if it had not been there. */
	err_set(&err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	framed_cancel(c->call, &err);
	c->call = NULL;
	call_ended(c, &err);
}

static void call_message(void *cookie, const uint8_t *message, size_t len)
{
	struct channel *c = cookie;

	if (c->kind->message != NULL)
		c->kind->message(c, message, len);
	channels_wake(c->all);
}

static void call_end(void *cookie, const struct err *status)
{
	struct channel *c = cookie;

	if (c->trying && status->code != GRPC_OK)
		return; /* closed() follows */
	if (c->trying)
		stop_trying(c);
	call_ended(c, status);
}

static void call_sent(void *cookie, size_t bytes)
{
	struct channel *c = cookie;

	c->under_way -= bytes < c->under_way ? bytes : c->under_way;
	if (c->unread > 0 && c->under_way <= CHANNEL_UP_LOW)
		channels_wake(c->all);
}

static void call_closed(void *cookie, const struct err *why)
{
	struct channel *c = cookie;
	struct err lost = *why;

	c->call = NULL;
	c->under_way = 0;
	if (try_again(c, why))
		return;
	stop_trying(c);
	if (lost.code == GRPC_OK && !c->call_ended)
		err_set(&lost, GRPC_UNAVAILABLE, "the sandbox has ended the call without a word");
	call_ended(c, &lost);
	channels_wake(c->all);
}

static void call_opened(void *cookie)
{
	struct channel *c = cookie;

	stop_trying(c);
	channels_wake(c->all);
}

static const struct framed_ops call_ops = {
	.payload = call_payload,
	.message = call_message,
	.end = call_end,
	.sent = call_sent,
	.closed = call_closed,
	.opened = call_opened,
};

/* The head of a queue in one piece of at most PIECE_MAX: where it lies if that is long
 * enough, else gathered in ${scratch}. libssh copies it in any case, and what costs is each
 * time it is called. */
static size_t piece(const struct bufq *q, uint8_t *scratch, size_t room, const uint8_t **data)
{
	struct iovec v[PIECE_SLICES];
	size_t max = room < PIECE_MAX ? room : PIECE_MAX;
	size_t n = bufq_peek(q, v, PIECE_SLICES, max), len = 0;

	*data = scratch;
	if (n > 0 && (v[0].iov_len == max || n == 1 || scratch == NULL)) {
		*data = v[0].iov_base;
		return v[0].iov_len;
	}
	for (size_t i = 0; i < n; i++) {
		memcpy(scratch + len, v[i].iov_base, v[i].iov_len);
		len += v[i].iov_len;
	}
	return len;
}

/* As much as the client's window has room for. */
static void flush(struct channel *c, struct bufq *q, bool to_stderr)
{
	struct loop *loop = client_loop(c->all->client);

	while (q->bytes > 0 && !c->deaf) {
		size_t room = PIECE_MAX, len;
		/* Nothing is read on the loop meanwhile: its block is as good as any. */
		uint8_t *scratch = loop_recv_reserve(loop, PIECE_MAX, &room);
		const uint8_t *data;
		int n;

		len = piece(q, scratch, room, &data);
		n = client_write(c->all->client, c->ssh, data, len, to_stderr);
		loop_recv_take(loop, 0);
		if (n < 0)
			drop_output(c);
		if (n <= 0)
			return;
		bufq_drop(q, (size_t)n);
		if (c->call != NULL)
			framed_credit(c->call, (size_t)n);
		if ((size_t)n < len)
			return;
	}
}

void channel_say(struct channel *c, const char *line)
{
	struct slice s;
	char text[ERR_TEXT_MAX + 64];
	int n = snprintf(text, sizeof(text), "%s\r\n", line);

	if (c->deaf || n < 0)
		return;
	s = slice_copy(text, strnlen(text, sizeof(text)));
	if (s.data == NULL || bufq_push(&c->err, s) != 0)
		slice_release(&s);
	channels_wake(c->all);
}

/* The end. */

static void tell_exit(struct channel *c)
{
	if (c->signal[0] != '\0')
		ssh_channel_request_send_exit_signal(c->ssh, c->signal, c->core_dumped, "", "");
	else
		ssh_channel_request_send_exit_status(c->ssh, c->exit_code);
}

static void close_channel(struct channel *c)
{
	c->state = CHANNEL_STATE_CLOSING;
	if (c->ssh != NULL) {
		ssh_channel_close(c->ssh);
		client_flush(c->all->client);
	}
}

/* Why there is no exit status, for the person at the other end. Once. */
static void explain(struct channel *c)
{
	char line[ERR_TEXT_MAX + 16];

	if (c->status.code == GRPC_OK || c->has_exit)
		return;
	snprintf(line, sizeof(line), "towline: %s", c->status.text);
	c->has_exit = true;
	c->exit_code = EXIT_FAILED;
	log_info(&area, "failed", LOG_U64("connection", client_id(c->all->client)),
	    LOG_U64("channel", c->number), LOG_STR("kind", c->kind->name), LOG_ERR(&c->status));
	channel_say(c, line);
}

/* The call has said all. */
static void finish_output(struct channel *c)
{
	if (!c->call_ended)
		return;
	if (c->kind->is_session)
		explain(c);
	if (c->out.bytes > 0 || c->err.bytes > 0)
		return;
	if (!c->eof_sent) {
		c->eof_sent = true;
		ssh_channel_send_eof(c->ssh);
		if (c->kind->is_session)
			tell_exit(c);
		client_flush(c->all->client);
	}
	/* A connection lives until both directions have ended; or the call failed. */
	if (c->kind->is_session || c->call == NULL || c->half_closed)
		close_channel(c);
}

/* The client has closed its end, and we close ours. What it sent before is still for the
 * call, and a command that has no terminal is not ended for it. */
static void leave(struct channel *c)
{
	struct err err;

	channel_stop_output(c);
	c->state = CHANNEL_STATE_LEFT;
	channel_detach(c);
	if (c->trying && c->call == NULL)
		stop_trying(c);
	if (c->call != NULL && c->tty && !c->call_ended) {
		err_set(&err, GRPC_CANCELLED, "the client has closed its terminal");
		framed_cancel(c->call, &err);
		c->call = NULL;
	}
	if (!c->kind->outlives)
		timer_start(c->timer, CHANNEL_LEFT_MS);
	half_close(c);
}

/* A client that reads slowly keeps what waits for it, but no blocks that all share. */
static void watch_stall(struct channel *c, size_t before)
{
	size_t after = c->out.bytes + c->err.bytes;

	if (after == 0)
		timer_stop(c->timer);
	else if (after < before || !timer_is_running(c->timer))
		timer_start(c->timer, CHANNEL_STALL_MS);
}

static void step_running(struct channel *c)
{
	size_t waiting = c->out.bytes + c->err.bytes;

	pull(c);
	half_close(c);
	flush(c, &c->err, true);
	flush(c, &c->out, false);
	watch_stall(c, waiting);
	finish_output(c);
	if (c->client_closed && c->state == CHANNEL_STATE_RUNNING && c->unread == 0)
		leave(c);
}

static const struct channel_kind refused_kind = { .name = "refused", .is_session = true };

void channel_refuse(struct channel *c, enum grpc_code code, const char *why)
{
	c->kind = &refused_kind;
	c->state = CHANNEL_STATE_RUNNING;
	c->call_ended = true;
	err_set(&c->status, code, "%s", why);
	channels_wake(c->all);
}

void channel_step(struct channel *c)
{
	if (c->state == CHANNEL_STATE_ASKED || c->state == CHANNEL_STATE_OPENING)
		channel_tcp_answer(c);
	if (c->state == CHANNEL_STATE_RUNNING)
		step_running(c);
	else if (c->ssh != NULL)
		pull(c); /* dropped */
	if (c->client_closed && c->state == CHANNEL_STATE_CLOSING)
		leave(c); /* the call may still have something to send */
	if ((c->client_closed && c->state == CHANNEL_STATE_WAITING) ||
	    (c->state == CHANNEL_STATE_LEFT && c->call == NULL))
		channel_drop(c);
}

/* The beginning. */

static int attempt(struct channel *c, struct err *err)
{
	const struct framed_options options = { .event = c->kind->event };

	c->call = client_call(c->all->client, c->kind->path, &options, &call_ops, c, err);
	if (c->call == NULL)
		return -1;
	if (framed_send(c->call, c->first, c->first_len) == 0)
		return 0;
	err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	framed_cancel(c->call, err);
	c->call = NULL;
	return -1;
}

void channel_again(void *cookie)
{
	struct channel *c = cookie;
	struct err err;

	if (c->trying && c->call == NULL && attempt(c, &err) != 0)
		call_closed(c, &err);
}

int channel_start(struct channel *c, const struct channel_kind *kind, const void *first, size_t len,
    struct err *err)
{
	c->kind = kind;
	c->first_len = len;
	if ((c->first = malloc(len)) == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	memcpy(c->first, first, len);
	c->trying = true;
	if (attempt(c, err) != 0) {
		stop_trying(c);
		return -1;
	}
	if (c->state == CHANNEL_STATE_WAITING)
		c->state = CHANNEL_STATE_RUNNING;
	channels_wake(c->all);
	log_debug(&area, "started", LOG_U64("connection", client_id(c->all->client)),
	    LOG_U64("channel", c->number), LOG_STR("kind", kind->name));
	return 0;
}
