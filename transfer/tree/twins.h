/*
 * transfer/tree/twins.h: whether two files in sandboxes have the same content, asked of both:
 * their sizes first, and if these are the same, their digests. Private to the room.
 *
 * All functions are called on the loop; callbacks come from it.
 */
#ifndef TRANSFER_TREE_TWINS_H
#define TRANSFER_TREE_TWINS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "rpc/client.h"
#include "transfer/across.h"

struct twins;

struct twins_result {
	bool same;
	uint64_t bytes; /* of either, if they are the same */
	uint8_t digest[DIGEST_SIZE];
};

struct twins_options {
	struct rpc_client *client;
	struct across_place from, to;
	const char *workspace; /* of both; "": default */
	/* Once, last; twins_free() inside or after. What is not there, or no file, at ${to} is
	 * not the same; at ${from} it is an error. */
	void (*ended)(void *cookie, const struct twins_result *, const struct err *);
	void *cookie;
};

/* Texts are lent until the end. NULL: no memory, or no call can be made. */
struct twins *twins_start(const struct twins_options *, struct err *);
void twins_free(struct twins *); /* also before the end, which does not come then */

#endif
