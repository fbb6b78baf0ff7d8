/*
 * rpc/conn_internal.h: a connection as the conn*.c files share it. Private to them.
 *
 *	conn.c       birth, the states, the end, questions
 *	conn_io.c    input and output
 *	conn_time.c  everything that may not take too long
 */
#ifndef RPC_CONN_INTERNAL_H
#define RPC_CONN_INTERNAL_H

#include "base/log.h"
#include "rpc/conn.h"
#include "rpc/outq.h"

enum conn_state { CONN_CONNECTING, CONN_HANDSHAKE, CONN_OPEN, CONN_LINGER, CONN_CLOSING };

struct rpc_conn {
	struct loop *loop;
	const struct rpc_options *options;
	const struct conn_ops *ops;
	void *cookie;
	uint64_t id;
	char peer[ADDRESS_TEXT_MAX];
	char *authority;
	void *data;
	void (*free_data)(void *data);

	enum conn_state state;
	bool is_server, is_tls;
	bool told_ready;
	struct err why;  /* of the end */
	struct post end; /* runs it */

	struct transport *transport;
	struct watch *watch;
	struct h2 *h2;
	struct outq out;
	struct slice input; /* read and not yet fed: the turn's budget of frames was used up */
	struct post turn;   /* output, at the end of a turn in which something happened */
	bool blocked;       /* output waits for the socket */
	bool again;         /* input waits for the next turn, not for the socket */
	bool starved;       /* input waits for a receive block */
	struct post rearm;  /* the timer, when it has fired for input that waits */

	struct timer *timer;
	uint64_t armed_ms;   /* when it fires; 0: it does not run */
	uint64_t since_ms;   /* when the state began */
	uint64_t heard_ms;   /* when bytes last came */
	uint64_t moved_ms;   /* when output last left, or began to wait */
	uint64_t pinged_ms;  /* when the PING went out that is not answered; 0: none is */
	uint64_t swept_ms;   /* when what waits was last looked at; 0: nothing waits */
	uint64_t starved_ms; /* when reading failed for want of a block */
	uint64_t noticed_ms; /* when the first GOAWAY of a drain went out; 0: no drain */
	bool drained;        /* the second one has */
	size_t unsent;       /* bytes in the kernel when a drained connection was last looked at */
};

extern const struct log_area conn_log;

void conn_set_state(struct rpc_conn *, enum conn_state);

/* conn_io.c: what the watch, the turn's end and the timer call. */
void conn_input(struct rpc_conn *);
void conn_output(struct rpc_conn *);
void conn_turn_later(struct rpc_conn *);
void conn_watch(struct rpc_conn *); /* asks for what is waited for */

/* A fault: what is framed still goes out (a GOAWAY that says why), then the end. */
void conn_fail(struct rpc_conn *, const struct err *why);
void conn_linger(struct rpc_conn *);

/* conn_time.c */
void conn_arm(struct rpc_conn *); /* cheap: to be called whenever a wait may have begun */
void conn_on_timer(void *conn);

#endif
