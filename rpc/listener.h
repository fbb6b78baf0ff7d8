/* rpc/listener.h: a listening socket on a loop. Inside of rpc only. */
#ifndef RPC_LISTENER_H
#define RPC_LISTENER_H

#include "base/err.h"
#include "base/loop.h"
#include "rpc/address.h"
#include "rpc/tls.h"

struct listener;

/* ${accepted} owns the descriptor: CLOEXEC, non-blocking. Without descriptors left,
 * accepting pauses for LISTENER_PAUSE_MS instead of spinning. */
#define LISTENER_PAUSE_MS       1000
#define LISTENER_BACKLOG_BUDGET 64 /* connections accepted in one turn */

struct listener *listener_create(struct loop *, const char *address, struct rpc_tls *,
    void (*accepted)(void *cookie, int fd, struct rpc_tls *), void *cookie,
    char bound[static ADDRESS_TEXT_MAX], struct err *);
void listener_free(struct listener *); /* a Unix socket's path is removed */

#endif
