/* Which channels a connection has, and what its client asks for. */
#include "sshd/channel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "rpc/call.h"
#include "sshd/channel_parts.h"
#include "sshd/peek.h"

static const struct log_area area = { "channel" };

/* The list. */

static void run_turn(struct post *post)
{
	struct channels *all = (struct channels *)((char *)post - offsetof(struct channels, turn));
	struct channel *c, *next;

	for (c = all->first; c != NULL; c = next) {
		next = c->next;
		channel_step(c);
	}
	/* Who was first is last next time, when there is not room for all. */
	if ((c = all->first) != NULL && c->next != NULL) {
		struct channel **end = &c->next;
		all->first = c->next;
		c->next->prev = &all->first;
		while (*end != NULL)
			end = &(*end)->next;
		*end = c;
		c->prev = end;
		c->next = NULL;
	}
}

void channels_wake(struct channels *all)
{
	if (!all->turn.pending)
		loop_post(client_loop(all->client), &all->turn);
}

void channels_writable(struct channels *all)
{
	channels_wake(all);
	forwards_writable(all->forwards);
}

void channels_progress(struct channels *all)
{
	for (struct channel *c = all->first; c != NULL; c = c->next)
		if (c->state == CHANNEL_STATE_OPENING)
			channels_wake(all);
}

size_t channels_count(const struct channels *all)
{
	return all->count;
}

void channels_say(struct channels *all, const char *line)
{
	for (struct channel *c = all->first; c != NULL; c = c->next) {
		if (c->state == CHANNEL_STATE_RUNNING && c->kind->is_session)
			channel_say(c, line);
	}
}

static bool runs_command(const struct channel *c)
{
	return c->state == CHANNEL_STATE_RUNNING && c->kind->is_session && c->kind->outlives;
}

void channels_say_notice(struct channel *c)
{
	if (c->all->notice == NULL || c->all->notice_is_said || !runs_command(c))
		return;
	c->all->notice_is_said = true;
	channel_say(c, c->all->notice);
}

static void say_to_commands(struct channels *all)
{
	for (struct channel *c = all->first; c != NULL; c = c->next)
		if (runs_command(c)) {
			all->notice_is_said = true;
			channel_say(c, all->notice);
		}
}

void channels_explain(struct channels *all, const char *why)
{
	uint64_t now = loop_now_ms(client_loop(all->client));
	char line[ERR_TEXT_MAX + 32];

	log_debug(
	    &area, "refused", LOG_U64("connection", client_id(all->client)), LOG_STR("error", why));
	ssh_send_debug(client_ssh(all->client), why, 1);
	client_flush(all->client);
	snprintf(line, sizeof(line), "towline: a forward was refused: %s", why);
	if (all->notice != NULL &&
	    (now - all->notice_ms < CHANNELS_NOTICE_MS || strcmp(all->notice, line) == 0))
		return;
	free(all->notice);
	all->notice_is_said = false;
	all->notice_ms = now;
	if ((all->notice = strdup(line)) != NULL)
		say_to_commands(all);
}

struct channels *channels_create(struct client *client, struct err *err)
{
	struct channels *all = calloc(1, sizeof(*all));

	if (all != NULL) {
		all->client = client;
		all->turn.run = run_turn;
		if ((all->forwards = forwards_create(all)) != NULL)
			return all;
	}
	free(all);
	err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	return NULL;
}

void channels_free(struct channels *all)
{
	if (all == NULL)
		return;
	for (struct channel *next, *c = all->first; c != NULL; c = next) {
		next = c->next;
		if (c->ssh != NULL) /* it goes with its session */
			ssh_remove_channel_callbacks(c->ssh, &c->callbacks);
		c->ssh = NULL;
		channel_drop(c);
	}
	forwards_free(all->forwards);
	free(all->notice);
	loop_unpost(client_loop(all->client), &all->turn);
	free(all);
}

static void on_timer(void *cookie)
{
	struct channel *c = cookie;
	struct err err;

	if (c->state == CHANNEL_STATE_RUNNING) {
		/* Without memory for it the blocks are kept. */
		if (bufq_settle(&c->out) == 0)
			bufq_settle(&c->err);
		return;
	}
	err_set(&err, GRPC_DEADLINE_EXCEEDED, "the channel did not %s in time",
	    c->state == CHANNEL_STATE_LEFT ? "end" : "open");
	if (c->call != NULL)
		framed_cancel(c->call, &err);
	c->call = NULL;
	c->trying = false;
	timer_stop(c->again);
	c->call_ended = true;
	c->status = err;
	channels_wake(c->all);
}

struct channel *channel_create(struct channels *all, enum channel_state state)
{
	struct channel *c;

	if (all->count >= CHANNELS_MAX || (c = calloc(1, sizeof(*c))) == NULL)
		return NULL;
	c->timer = timer_create_on(client_loop(all->client), on_timer, c);
	c->again = timer_create_on(client_loop(all->client), channel_again, c);
	if (c->timer == NULL || c->again == NULL) {
		timer_free(c->timer);
		timer_free(c->again);
		free(c);
		return NULL;
	}
	c->all = all;
	c->state = state;
	c->number = ++all->last_number;
	bufq_init(&c->out, SIZE_MAX, RPC_WINDOW_MAX);
	bufq_init(&c->err, SIZE_MAX, RPC_WINDOW_MAX);
	c->next = all->first;
	c->prev = &all->first;
	if (c->next != NULL)
		c->next->prev = &c->next;
	all->first = c;
	all->count++;
	return c;
}

int channel_attach(struct channel *c, ssh_channel ssh)
{
	c->ssh = ssh;
	c->callbacks = channel_callbacks;
	c->callbacks.userdata = c;
	ssh_callbacks_init(&c->callbacks);
	return ssh_set_channel_callbacks(ssh, &c->callbacks) == SSH_OK ? 0 : -1;
}

void channel_detach(struct channel *c)
{
	if (c->ssh == NULL)
		return;
	ssh_remove_channel_callbacks(c->ssh, &c->callbacks);
	ssh_channel_free(c->ssh);
	c->ssh = NULL;
	client_flush(c->all->client);
}

void channel_drop(struct channel *c)
{
	struct channels *all = c->all;
	struct err err;

	if (c->call != NULL) {
		err_set(&err, GRPC_CANCELLED, "the client has gone");
		framed_cancel(c->call, &err);
	}
	channel_detach(c);
	if (c->open != NULL)
		ssh_message_free(c->open);
	channel_setup_free(c->setup);
	timer_free(c->timer);
	timer_free(c->again);
	free(c->first);
	bufq_free(&c->out);
	bufq_free(&c->err);
	*c->prev = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	all->count--;
	free(c);
}

/* What a client asks for. */

static void open_session(struct channels *all, ssh_message m)
{
	struct channel *c = channel_create(all, CHANNEL_STATE_WAITING);
	ssh_channel ssh;

	if (c == NULL) {
		log_info(&area, "refused", LOG_U64("connection", client_id(all->client)),
		    LOG_STR("error", "too many channels"));
		ssh_message_reply_default(m);
	} else if ((ssh = ssh_message_channel_request_open_reply_accept(m)) == NULL ||
	    channel_attach(c, ssh) != 0) {
		channel_drop(c);
	}
}

static void open_channel(struct channels *all, ssh_message m)
{
	int type = ssh_message_subtype(m);

	if (peek_packet_max(m) < CHANNEL_PACKET_MIN) {
		ssh_message_reply_default(m);
	} else if (type == SSH_CHANNEL_SESSION) {
		open_session(all, m);
	} else if (type == SSH_CHANNEL_DIRECT_TCPIP) {
		channel_tcp_open(all, m); /* takes it */
		return;
	} else {
		ssh_message_reply_default(m);
	}
	ssh_message_free(m);
}

/* libssh may have freed the channel that a request was for, if the client has closed it
 * meanwhile; then nothing of the request may be touched. */
static struct channel *find(struct channels *all, ssh_message m)
{
	ssh_channel ssh = ssh_message_channel_request_channel(m);

	for (struct channel *c = all->first; c != NULL; c = c->next)
		if (c->ssh == ssh)
			return c;
	return NULL;
}

/* A command, one way or another: once. */
static bool run(struct channel *c, const char *command)
{
	if (strlen(command) > CHANNEL_LINE_MAX)
		return false;
	if (!channel_scp_run(c, command))
		channel_exec_run(c, command);
	return true;
}

static bool serve_waiting(struct channel *c, ssh_message m)
{
	switch (ssh_message_subtype(m)) {
	case SSH_CHANNEL_REQUEST_PTY:
		return channel_exec_pty(c, m);
	case SSH_CHANNEL_REQUEST_ENV:
		return channel_exec_env(c, m);
	case SSH_CHANNEL_REQUEST_SHELL:
		channel_exec_run(c, "");
		return true;
	case SSH_CHANNEL_REQUEST_EXEC:
		return run(c, ssh_message_channel_request_command(m));
	case SSH_CHANNEL_REQUEST_SUBSYSTEM:
		return channel_sftp_subsystem(c, ssh_message_channel_request_subsystem(m));
	default:
		return false; /* X11, a break, and what others invent */
	}
}

/*
 * By eow@openssh.com a client says that nobody reads what a command writes, as in
 * `ssh box yes | head -1`. libssh does not tell a request's name. But it knows all others
 * that OpenSSH's client makes of a running command without a wish for an answer, and no
 * other client makes this one.
 */
static bool is_end_of_write(const struct channels *all, ssh_message m)
{
	static const char openssh[] = "SSH-2.0-OpenSSH_";
	const char *banner = ssh_get_clientbanner(client_ssh(all->client));

	return ssh_message_subtype(m) == SSH_CHANNEL_REQUEST_UNKNOWN && !peek_wants_reply(m) &&
	    banner != NULL && strncmp(banner, openssh, sizeof(openssh) - 1) == 0;
}

static void serve_request(struct channels *all, ssh_message m)
{
	struct channel *c = find(all, m);
	bool granted = false;

	if (c == NULL)
		return;
	if (c->state == CHANNEL_STATE_WAITING)
		granted = serve_waiting(c, m);
	else if (ssh_message_subtype(m) == SSH_CHANNEL_REQUEST_WINDOW_CHANGE)
		granted = channel_exec_resize(c, m);
	else if (c->state == CHANNEL_STATE_RUNNING && is_end_of_write(all, m))
		channel_stop_output(c);
	if (granted)
		ssh_message_channel_request_reply_success(m);
	else
		ssh_message_reply_default(m);
}

void channels_take(struct channels *all, ssh_message m)
{
	client_flush(all->client);
	switch (ssh_message_type(m)) {
	case SSH_REQUEST_CHANNEL_OPEN:
		open_channel(all, m);
		return;
	case SSH_REQUEST_CHANNEL:
		serve_request(all, m);
		break;
	default:
		ssh_message_reply_default(m);
	}
	ssh_message_free(m);
}

void channels_take_global(struct channels *all, ssh_message m)
{
	channel_tcp_global(all, m);
}
