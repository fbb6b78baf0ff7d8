/*
 * relay/claim.h: a RelayStream until it is joined to the call it was opened for.
 *
 * Reads init on the stream's loop, asks the registry on the first one whether the
 * channel is the caller's, and joins on the stream's loop again.
 */
#ifndef RELAY_CLAIM_H
#define RELAY_CLAIM_H

#include <stddef.h>

#include "relay/registry.h"
#include "rpc/call.h"

#define CLAIM_INIT_MAX ((size_t)4 << 10) /* bytes of RelayStream's first message */

/* Takes the call over. Any loop. */
void claim_serve(struct tunnels *, struct rpc_call *, const char *sandbox_id);

#endif
