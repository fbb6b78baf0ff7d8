/*
 * unit/rpc/script.h: what both sides of a stream do, a letter an act, while bytes move.
 *
 *	h	response headers		o	headers that end the stream
 *	w	write up to 9,000 bytes		d	drop what is queued
 *	e	end				t	end with trailers
 *	a	reset after the end		r	reset
 *	x	detach
 */
#ifndef TESTS_RPC_SCRIPT_H
#define TESTS_RPC_SCRIPT_H

#include "pair.h"

#define SCRIPT_WINDOW 6000u /* of each stream */

/* A pair that has shaken hands; a server session whose peer by hand has. */
void script_open(struct pair *, uint64_t seed);
void script_open_by_hand(struct pair *, uint64_t seed);

/* A request that both have seen. */
struct pair_stream *script_begin(struct pair *);

/* Closed, or let go. */
bool script_is_over(const struct pair_stream *);

/* Does nothing if the stream is over. */
void script_act(struct pair_stream *, char);

/* Both scripts by turns, at random; a server's begins when the request is there. Runs the
 * pair until it is quiet. */
void script_play(
    struct pair *, struct pair_stream *client, const char *of_client, const char *of_server);

/* Both have ended, and nobody has broken off: nothing was lost. */
void script_check_whole(const struct pair_stream *, const struct pair_stream *peer);

#endif
