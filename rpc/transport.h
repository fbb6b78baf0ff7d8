/*
 * rpc/transport.h: a connected socket, with TLS between or without. Inside of rpc only.
 *
 * Never blocks. Plain bytes are received into the loop's block and written from where
 * they lie; with TLS there is one copy each way, into and out of a record.
 */
#ifndef RPC_TRANSPORT_H
#define RPC_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/loop.h"
#include "rpc/outq.h"
#include "rpc/tls.h"

struct transport;

enum transport_result {
	TRANSPORT_DONE,
	TRANSPORT_AGAIN,   /* when the socket is ready again */
	TRANSPORT_STARVED, /* the loop has no block to receive into */
	TRANSPORT_EOF,
	TRANSPORT_FAILED /* ${err} says how */
};

/* Takes ${fd} on success. ${tls} NULL: plain. ${host}: of a client, what the peer's
 * certificate must name. */
struct transport *transport_create(
    int fd, struct rpc_tls *tls, bool is_server, const char *host, struct err *);
void transport_free(struct transport *); /* closes; NULL is legal */

int transport_fd(const struct transport *);

/* TLS: again until it is done. ${wants_write}: what the socket is to be ready for. */
enum transport_result transport_handshake(struct transport *, bool *wants_write, struct err *);

/* At most ${max} bytes as one slice. ${more}: there may be more at once. */
enum transport_result transport_read(
    struct transport *, struct loop *, size_t max, struct slice *, bool *more, struct err *);

/* Writes the head of ${out}, telling ${left} what has left. DONE: all of it. AGAIN: when
 * the socket is writable. */
enum transport_result transport_write(
    struct transport *, struct outq *out, outq_left *left, void *cookie, struct err *);

/* Bytes have been received that no readiness of the socket will tell of. */
bool transport_has_pending(const struct transport *);

/* TLS: reading goes on when the socket is writable (a key update has to be answered). */
bool transport_reads_when_writable(const struct transport *);

/* Bytes written that the peer's system has not acknowledged; a Unix socket's peer: read. */
size_t transport_unsent(const struct transport *);

/* The shortest way to the peer's system and back that TCP has seen; 0: there is no TCP. */
uint32_t transport_trip_us(const struct transport *);

/* Nothing more will be written; the peer learns of it. */
void transport_shut(struct transport *);

/* Throws away what the peer still sends, at most ${max} bytes. AGAIN: it may send more. */
enum transport_result transport_discard(struct transport *, size_t max);

#endif
