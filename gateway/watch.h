/*
 * gateway/watch.h: WatchSandbox: the present state, then each change, to clients that
 * read as fast as they like.
 *
 * A watcher that is slow is not sent what it missed but what is: at most one batch is
 * on its way to it, and the next is made, from the state of that moment, when the
 * client has taken the one before.
 */
#ifndef GATEWAY_WATCH_H
#define GATEWAY_WATCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "rpc/call.h"

#define WATCHES_MAX     4096               /* open at once */
#define WATCH_LOW_BYTES ((size_t)64 << 10) /* unsent, below which a client takes more */

struct gateway;
struct watches;

struct watches *watches_create(struct err *);

/* When every watch has ended. */
void watches_free(struct watches *);

/* A WatchSandbox call; for rpc_method.request. Any loop. */
void watch_call(struct rpc_call *, struct gateway *, const uint8_t *message, size_t len);

/* Ends all of them with UNAVAILABLE. First loop. */
void watches_end(struct watches *, const struct err *why);

#endif
