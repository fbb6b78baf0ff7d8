/*
 * libssh in and out. It has no idea of our loop: it polls its socket itself whenever it is
 * asked for a message or told to flush, without waiting, and then reads at most 4 KiB and
 * writes what it has. So it is asked when the socket is ready, and not when what it would
 * read has no place to go.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "sshd/client_parts.h"
#include "sshd/peek.h"

#define PACKET_OVERHEAD 32     /* bytes that a packet has on the wire besides its payload, about */
#define GOODBYE_READS   4      /* at the end, of what is not looked at */
#define WRITE_MAX       131072 /* bytes handed over at once */
#define READ_BUDGET     ((uint64_t)CLIENT_READS_PER_TURN * 4096)

/* What waits. */

bool client_has_pending(const struct client *c)
{
	return (ssh_get_status(c->ssh) & SSH_WRITE_PENDING) != 0;
}

static uint64_t produced(const struct client *c)
{
	return c->packet_count.out_bytes + c->packet_count.out_packets * PACKET_OVERHEAD;
}

/* Bytes in libssh's buffer. It tells whether there are any; how many follows from what
 * went in and what came out since there were none. */
static size_t pending(struct client *c)
{
	uint64_t made = produced(c), gone = c->socket_count.out_bytes + c->synced;

	if (!client_has_pending(c)) {
		c->synced = made - c->socket_count.out_bytes; /* may wrap, and wraps back */
		return 0;
	}
	int64_t left = (int64_t)(made - gone);
	return left > 0 ? (size_t)left : 0;
}

static size_t waiting(struct client *c)
{
	/* What was queued while keys were changed has become packets. */
	if (c->queued > 0 && c->packet_count.out_bytes >= c->queue_mark + c->queued)
		c->queued = 0;
	return pending(c) + c->queued;
}

static size_t room(struct client *c)
{
	size_t used = waiting(c);

	return used < CLIENT_PENDING_MAX ? CLIENT_PENDING_MAX - used : 0;
}

size_t client_room(struct client *c)
{
	return c->state == CLIENT_STATE_OPEN && !c->failing ? room(c) : 0;
}

/* Writing. */

static void block(struct client *c)
{
	c->blocked = true;
	c->blocked_full = room(c) < CLIENT_PENDING_MAX / 2;
	c->blocked_packets = c->packet_count.in_packets;
}

void client_await_room(struct client *c)
{
	block(c);
}

/* What the channel's window and our own bound have place for. */
static size_t fitting(struct client *c, ssh_channel channel, size_t len)
{
	size_t window = ssh_channel_window_size(channel), space = client_room(c);

	if (len > window)
		len = window;
	return len < space ? len : space;
}

/* One piece of at most WRITE_MAX. As libssh's own functions: -1, or how much it took. */
static int write_piece(
    struct client *c, ssh_channel channel, const uint8_t *data, size_t len, bool to_stderr)
{
	uint64_t packets = c->packet_count.out_packets, payload = c->packet_count.out_bytes;
	int n;

	if (len == 0)
		return 0;
	if (to_stderr)
		n = ssh_channel_write_stderr(channel, data, (uint32_t)len);
	else
		n = ssh_channel_write(channel, data, (uint32_t)len);
	/* While keys are changed libssh takes it and keeps it for later. */
	if (n > 0 && c->packet_count.out_packets == packets) {
		c->queue_mark = c->queued == 0 ? payload : c->queue_mark;
		c->queued += (size_t)n;
	}
	return n;
}

/* How much was taken; -1: none of it ever will. */
static int write_pieces(
    struct client *c, ssh_channel channel, const uint8_t *data, size_t len, bool to_stderr)
{
	size_t done = 0;

	while (done < len) {
		size_t piece = fitting(c, channel, len - done);

		piece = piece < WRITE_MAX ? piece : WRITE_MAX;
		int n = write_piece(c, channel, data + done, piece, to_stderr);
		if (n < 0)
			return -1;
		done += (size_t)n;
		if (n == 0 || (size_t)n < piece)
			break;
	}
	return (int)done;
}

int client_write(
    struct client *c, ssh_channel channel, const void *data, size_t len, bool to_stderr)
{
	int done;

	if (c->state != CLIENT_STATE_OPEN || c->failing || !ssh_channel_is_open(channel))
		return -1;
	done = write_pieces(c, channel, data, len, to_stderr);
	if (done < 0)
		return -1;
	if ((size_t)done < len)
		block(c);
	c->bytes_out += (size_t)done;
	if (done > 0)
		client_flush(c);
	return done;
}

/* Reading. */

/* What is queued for the end of a key exchange does not count: the end has to be read. */
static bool takes_more(struct client *c)
{
	return !c->failing && c->state <= CLIENT_STATE_OPEN && c->auth.asked == NULL &&
	    pending(c) < CLIENT_PENDING_MAX;
}

/*
 * While keys are changed libssh queues its answers without end, and does not tell that it
 * does. So when many packets came and nothing went out, something is sent: if it does not
 * go out either, the client has not so many more to go on before it does its part.
 */
static void check_queue(struct client *c)
{
	struct err err;

	if (c->packet_count.out_packets != c->answered_out) {
		c->answered_out = c->packet_count.out_packets;
		c->answered_in = c->packet_count.in_packets;
		c->probed = false;
	}
	uint64_t since = c->packet_count.in_packets - c->answered_in;
	if (c->state != CLIENT_STATE_OPEN || since < CLIENT_UNANSWERED_MAX)
		return;
	if (!c->probed) {
		c->probed = true;
		ssh_send_ignore(c->ssh, "");
	} else if (since >= 2 * (uint64_t)CLIENT_UNANSWERED_MAX) {
		err_set(&err, GRPC_FAILED_PRECONDITION, "the client does not change keys");
		client_fail(c, &err);
	}
}

/* The gate: which messages there are in which state. It does not rely on libssh's own. */
static bool belongs(const struct client *c, int type)
{
	switch (type) {
	case SSH_REQUEST_SERVICE:
	case SSH_REQUEST_AUTH:
		return c->state == CLIENT_STATE_AUTH;
	case SSH_REQUEST_CHANNEL_OPEN:
	case SSH_REQUEST_CHANNEL:
	case SSH_REQUEST_GLOBAL:
		return c->state == CLIENT_STATE_OPEN && c->channels != NULL;
	default:
		return false;
	}
}

static void refuse_message(struct client *c, int type)
{
	struct err err;

	c->sshd->counters.gated++;
	err_set(&err, GRPC_FAILED_PRECONDITION, "a message of kind %d has no place in state %s",
	    type, client_state_name(c->state));
	client_fail(c, &err);
}

/* As they come, wherever libssh reads: what it puts into its queue could not be answered in
 * the order of those that it answers itself. Those whose name it does not know it refuses and
 * asks nobody: one that comes while a port is being listened on is answered before its turn. */
void client_on_global(ssh_session ssh, ssh_message m, void *client)
{
	struct client *c = client;
	ssh_message ours = peek_keep_global(m);

	(void)ssh;
	if (ours == NULL) {
		ssh_message_reply_default(m);
	} else if (!c->failing && belongs(c, SSH_REQUEST_GLOBAL)) {
		channels_take_global(c->channels, ours);
	} else {
		peek_free_global(ours);
		if (!c->failing && c->state < CLIENT_STATE_ENDING)
			refuse_message(c, SSH_REQUEST_GLOBAL);
	}
}

static void serve_service(struct client *c, ssh_message msg)
{
	struct err err;

	/* Some ask for it again before each attempt. */
	if (strcmp(ssh_message_service_service(msg), "ssh-userauth") == 0) {
		auth_count(c);
		ssh_message_service_reply_success(msg);
		return;
	}
	err_set(&err, GRPC_INVALID_ARGUMENT, "a service other than ssh-userauth was asked for");
	client_fail(c, &err);
}

/* Takes it. */
static void serve(struct client *c, ssh_message msg)
{
	int type = ssh_message_type(msg);

	if (belongs(c, type) && type != SSH_REQUEST_SERVICE) {
		if (type == SSH_REQUEST_AUTH)
			auth_message(c, msg);
		else
			channels_take(c->channels, msg);
		return;
	}
	if (!belongs(c, type))
		refuse_message(c, type);
	else
		serve_service(c, msg);
	ssh_message_free(msg);
}

static ssh_message next_message(struct client *c)
{
	if (c->state != CLIENT_STATE_AUTH)
		return ssh_message_get(c->ssh);
	library_count_begin(c->sshd->library);
	ssh_message msg = ssh_message_get(c->ssh);
	c->auth.seen += library_count_end(c->sshd->library);
	if (msg == NULL)
		auth_check_dropped(c);
	return msg;
}

/* One step of libssh. */
enum advance {
	ADVANCE_NOTHING, /* the socket has nothing more */
	ADVANCE_READ,    /* and it was no message, or not all of one */
	ADVANCE_MESSAGE  /* libssh may have more that it has read already */
};

static enum advance advance(struct client *c)
{
	uint64_t before = c->socket_count.in_bytes;
	ssh_message msg;

	if (c->state == CLIENT_STATE_KEX) {
		if (ssh_handle_key_exchange(c->ssh) == SSH_OK) {
			client_set_state(c, CLIENT_STATE_AUTH);
			return ADVANCE_MESSAGE;
		}
	} else if ((msg = next_message(c)) != NULL) {
		serve(c, msg);
		return ADVANCE_MESSAGE;
	}
	return c->socket_count.in_bytes != before ? ADVANCE_READ : ADVANCE_NOTHING;
}

static bool is_lost(const struct client *c)
{
	return (ssh_get_status(c->ssh) & (SSH_CLOSED | SSH_CLOSED_ERROR)) != 0 ||
	    !ssh_is_connected(c->ssh);
}

/* What is read for a packet that is still coming is kept: so there is a bound to it. */
static void check_startup(struct client *c)
{
	struct err err;

	if (c->state >= CLIENT_STATE_OPEN || c->socket_count.in_bytes <= CLIENT_STARTUP_MAX)
		return;
	err_set(&err, GRPC_FAILED_PRECONDITION, "more was sent than it takes to log in");
	client_fail(c, &err);
}

static void read_and_serve(struct client *c)
{
	const uint64_t start = c->socket_count.in_bytes;

	while (takes_more(c) && !is_lost(c)) {
		enum advance did = advance(c);

		check_startup(c);
		check_queue(c);
		/* What libssh has read already the loop would not see, so it is served first. */
		if (did == ADVANCE_NOTHING ||
		    (did == ADVANCE_READ && c->socket_count.in_bytes - start >= READ_BUDGET))
			break;
	}
	/* The loop above writes as well; but not when it may not read. */
	if (!takes_more(c) && !is_lost(c) && client_has_pending(c))
		ssh_blocking_flush(c->ssh, 0);
}

/* What came may be of interest to them; and those that were told to wait: their windows
 * may be larger, or there is room. */
static void tell_channels(struct client *c)
{
	if (c->channels == NULL)
		return;
	if (c->told_packets != c->packet_count.in_packets) {
		c->told_packets = c->packet_count.in_packets;
		channels_progress(c->channels);
	}
	if (!c->blocked ||
	    (c->blocked_packets == c->packet_count.in_packets &&
		(!c->blocked_full || room(c) < CLIENT_PENDING_MAX / 2)))
		return;
	c->blocked = false;
	channels_writable(c->channels);
}

/* Clients that have not logged in send small packets one behind the other, and their
 * kernels hold each back until the one before is acknowledged, which ours would not do for
 * 40 ms when there is nothing to send with it. It forgets each time that it was told. */
static void acknowledge(const struct client *c)
{
	const int on = 1;

	if (c->state < CLIENT_STATE_OPEN && c->address.ss_family != AF_UNSPEC)
		setsockopt(c->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

void client_step(struct client *c)
{
	read_and_serve(c);
	acknowledge(c);
	if (c->failing) {
		client_end(c, &c->why);
	} else if (is_lost(c)) {
		client_lost(c);
	} else {
		tell_channels(c);
		watch_want(c->watch,
		    (takes_more(c) ? (unsigned)WATCH_READ : 0) |
			(client_has_pending(c) ? (unsigned)WATCH_WRITE : 0));
	}
}

void client_say_goodbye(struct client *c)
{
	ssh_message msg;

	/* Polling is also how libssh learns that it can write at once, and after this it has
	 * no other chance to. */
	for (int i = 0; i < GOODBYE_READS && (msg = ssh_message_get(c->ssh)) != NULL; i++)
		ssh_message_free(msg);
	ssh_session_set_disconnect_message(c->ssh, c->why.text);
	ssh_disconnect(c->ssh);
}
