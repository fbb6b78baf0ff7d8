/*
 * sshd/channel_parts.h: a channel, for the files that it is made of.
 *
 *	channel.c       which there are; what a client asks for
 *	channel_flow.c  bytes both ways, and the end
 *	channel_exec.c  commands and shells
 *	channel_sftp.c  the subsystem sftp, and scp
 *	channel_tcp.c   connections both ways
 */
#ifndef SSHD_CHANNEL_PARTS_H
#define SSHD_CHANNEL_PARTS_H

#include <libssh/callbacks.h>
#include <libssh/libssh.h>
#include <libssh/server.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/loop.h"
#include "relay/framed.h"
#include "sshd/channel.h"

#define CHANNEL_UP_MAX     ((size_t)1 << 20)   /* bytes given to a call and not gone yet */
#define CHANNEL_UP_LOW     ((size_t)256 << 10) /* when it has no more, what waits is given to it */
#define CHANNEL_UNREAD_MAX ((size_t)4 << 20)   /* bytes that wait; more were sent past the window */
#define CHANNEL_CONFIRM_MS 15000 /* for a connection in the sandbox to be made, or a port */
#define CHANNEL_OPENING_MS 30000 /* for a client to take one from the sandbox */
#define CHANNEL_LEFT_MS    30000 /* for a call to end when the client has closed its channel */
#define CHANNEL_STALL_MS \
	1000 /* without progress: what waits for a client is copied out of blocks */
#define CHANNEL_AGAIN_MS   20 /* until a call is made again that was one too many; then twice that */
#define CHANNEL_AGAIN_MAX  8  /* times */
#define CHANNEL_PACKET_MIN 256                 /* bytes a client must take at once */
#define CHANNEL_ENV_MAX    64                  /* variables of a channel; more are refused */
#define CHANNEL_VALUE_MAX  1024                /* bytes of one's value, or of a terminal's name */
#define CHANNEL_LINE_MAX   ((size_t)128 << 10) /* bytes of a command */

#define CHANNELS_NOTICE_MS 1000 /* between two notices of a connection */

#define FORWARDS_MAX          16 /* ports that one connection has us listen on; more are refused */
#define FORWARDS_WAITING_MAX  64 /* requests for them without an answer; more end the connection */
#define FORWARDS_REFUSING_MAX 16 /* connections of which the sandbox is told that none takes them */

/*
 *	WAITING --exec, shell, sftp--> RUNNING --all is told--> CLOSING --client closes--> gone
 *	ASKED ---the port answers--------^  |
 *	OPENING ---the client takes it---^  `--client closes first--> LEFT --call ends--> gone
 */
enum channel_state {
	CHANNEL_STATE_WAITING, /* a session of which nothing has been asked */
	CHANNEL_STATE_ASKED,   /* the call is made, and the client waits for an answer */
	CHANNEL_STATE_OPENING, /* the client is asked */
	CHANNEL_STATE_RUNNING,
	CHANNEL_STATE_CLOSING, /* our side is closed */
	CHANNEL_STATE_LEFT     /* the client's is; what it sent is still the call's */
};

struct channel;

/* What a channel is for. */
struct channel_kind {
	const char *name;
	const char *path; /* of its call */
	bool is_session;  /* it ends with an exit status; else when both directions have */
	bool outlives;    /* its call may go on as long as it likes when the client has left */
	bool event;       /* framed_options.event */
	/* A message of the call that is no payload. */
	void (*message)(struct channel *, const uint8_t *, size_t);
};

/* What was asked before a command. */
struct channel_setup;

struct channel {
	struct channels *all;
	struct channel *next, **prev;
	uint64_t number; /* for logs */
	enum channel_state state;
	const struct channel_kind *kind; /* NULL: none yet */

	ssh_channel ssh; /* NULL: none yet, or freed */
	struct ssh_channel_callbacks_struct callbacks;
	ssh_message open; /* the request to open it, while ASKED */
	struct channel_setup *setup;
	struct timer *timer;
	char connection_id[37]; /* from the sandbox */
	bool tty;

	/* From the client to the call. */
	size_t under_way; /* bytes written to the call and not gone */
	size_t unread;    /* bytes that libssh still holds */
	bool client_eof;  /* no more comes */
	bool client_closed;
	bool half_closed; /* and the call knows */

	/* Until the sandbox has taken the call: */
	bool trying;
	unsigned attempts; /* that were too many for it */
	uint8_t *first;    /* the call's first message */
	size_t first_len;
	struct timer *again;

	/* From the call to the client. */
	struct framed *call; /* NULL: over, or to be made again */
	struct bufq out, err;
	bool call_ended;
	bool deaf;      /* the client takes no more, */
	bool told_deaf; /* and the command knows */
	bool eof_sent;
	struct err status; /* of the call */

	/* How the command ended. */
	bool has_exit, core_dumped;
	int exit_code;
	char signal[33]; /* "": none */
};

struct forwards;

struct channels {
	struct client *client;
	struct channel *first;
	size_t count;
	uint64_t last_number;
	struct post turn;
	struct forwards *forwards; /* ports that the client has us listen on */
	char *notice;              /* NULL: none yet */
	bool notice_is_said;
	uint64_t notice_ms; /* when there was one last */
};

/* channel.c */

/* A channel without libssh's; NULL: there are too many, or no memory. */
struct channel *channel_create(struct channels *, enum channel_state);
void channel_drop(struct channel *); /* and its call, and libssh's */
/*
 * Why a forward was refused, which libssh has no words for: to those who look (`ssh -v`), and
 * to stderr of the commands that run, or of the next one. Not more than one in a second, and
 * not the same again.
 */
void channels_explain(struct channels *, const char *why);
void channels_say_notice(struct channel *); /* to a command that begins */
/* The turn's end looks at all channels. */
void channels_wake(struct channels *);
/* Binds libssh's channel, which it takes; its data comes to us from now on. -1: no memory. */
int channel_attach(struct channel *, ssh_channel);
void channel_detach(struct channel *); /* closes and frees it; twice is harmless */

/* channel_flow.c */

/* Makes the call, which starts with a packed message. -1: ${err} says why not. */
int channel_start(
    struct channel *, const struct channel_kind *, const void *first, size_t len, struct err *);
void channel_again(void *channel); /* makes the call again, when a timer says so */
/* The client takes no more of what comes. */
void channel_stop_output(struct channel *);
/* All that can be done now. May free it. */
void channel_step(struct channel *);
/* A line to the client's stderr, behind what is queued there. */
void channel_say(struct channel *, const char *line);
/* Runs nothing and says why: clients show no reason for a request that failed. */
void channel_refuse(struct channel *, enum grpc_code, const char *why);
extern const struct ssh_channel_callbacks_struct channel_callbacks;

/* channel_exec.c */

/* A request of a session: true if it was granted. */
bool channel_exec_pty(struct channel *, ssh_message);
bool channel_exec_env(struct channel *, ssh_message);
void channel_exec_run(struct channel *, const char *command); /* "": a shell */
bool channel_exec_resize(struct channel *, ssh_message);
void channel_exec_signal(struct channel *, const char *name);
/* Of a command that runs; false: it is none, or cannot be told. */
bool channel_exec_close_input(struct channel *);
bool channel_exec_close_output(struct channel *);
void channel_setup_free(struct channel_setup *); /* NULL is legal */

/* channel_sftp.c */
bool channel_sftp_subsystem(struct channel *, const char *name);
/* False: ${command} is no scp of ours to serve. */
bool channel_scp_run(struct channel *, const char *command);

/* channel_tcp.c */

/* Takes the request to open a channel. */
void channel_tcp_open(struct channels *, ssh_message);
/* While ASKED or OPENING. */
void channel_tcp_answer(struct channel *);
/* Takes a global request. */
void channel_tcp_global(struct channels *, ssh_message);
void forwards_writable(struct forwards *);
struct forwards *forwards_create(struct channels *); /* NULL: no memory */
void forwards_free(struct forwards *);               /* NULL is legal */

#endif
