/*
 * transfer/put_pieces.h: the pieces of a large file that goes up in several streams, each a
 * call of its own. It comes between the question how much is there and the call that puts
 * the file in its place. Private to the room; on the loop.
 */
#ifndef TRANSFER_PUT_PIECES_H
#define TRANSFER_PUT_PIECES_H

#include "transfer/client_transfer.h"

#define PUT_STREAMS_MAX 16                   /* pieces of a file at a time */
#define PUT_PIECE_MIN   ((uint64_t)64 << 20) /* bytes; but for what is left in a gap */

/* A stream that is slow at the end keeps the others waiting for no more than this. */
#define PUT_PIECE_MAX ((uint64_t)256 << 20)

/* Whether it can be sent in pieces, and is worth it. */
bool put_pieces_are_wanted(const struct transfer *);

/* Sends what t->put.durable has not, of the file here, or of that in the sandbox whose etag is
 * t->put.etag. over() runs once, never from inside: code GRPC_OK: all
 * of it is durable there; ${refused}: it failed at the other end, or on the way there. It
 * frees. -1: it has not begun. */
int put_pieces_start(struct transfer *,
    void (*over)(struct transfer *, const struct err *, bool refused), struct err *);

/* They have failed with ${t->err}: whether the supervisor knows any may be in doubt now. */
void put_pieces_failed(struct transfer *);

/* Whether what has failed with ${t->err} because of pieces may go in one stream, or with the
 * digest of the whole; each way is tried but once. */
bool put_pieces_go_another_way(struct transfer *);

/* No more is sent; over() comes with ${why}. */
void put_pieces_stop(struct put_pieces *, const struct err *why);
void put_pieces_free(struct put_pieces *); /* NULL is legal */

#endif
