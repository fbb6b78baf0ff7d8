/*
 * relay/channel.h: one client's call, from the asking for a channel to the end of the
 * relay.
 *
 *	asked --a session is up--> unclaimed --RelayStream names it--> claimed --> over
 *	                               |  ^ offered anew when a newer session comes
 *	                               +--> over: refused, expired, the client went
 *
 * The state is the registry's; the client's leg is on its own loop.
 */
#ifndef RELAY_CHANNEL_H
#define RELAY_CHANNEL_H

#include "base/buf.h"
#include "base/err.h"
#include "relay/leg.h"
#include "relay/registry.h"
#include "rpc/call.h"

/* tunnels_route(). */
void channel_route(
    struct tunnels *, struct rpc_call *, const struct tunnel_request *, struct bufq *rest);

/* These on the first loop. */

/* Asks the sandbox's current session for the channels that wait. */
void channel_offer_all(struct sandbox *);

/* The channel that is claimed, and is from now on; NULL: ${e} says why not, and
 * nothing has changed. ${session_id} is what the claimant says it belongs to, or NULL. */
struct channel *channel_claim(struct tunnels *, const char *channel_id, const char *sandbox_id,
    const char *session_id, struct err *e);

/* Ends every channel of the list: their clients are told ${why}. */
void channel_drop_all(struct registry_channels *, const struct err *why);

/* A supervisor says that a channel is off. Unknown ids and those of other sandboxes
 * are ignored. */
void channel_give_up(
    struct tunnels *, const char *sandbox_id, const char *channel_id, const struct err *why);

/* The timer of tunnels: ends what has waited too long. */
void channel_expire(struct tunnels *);

/* On the loop of ${tunnel}, which it takes: joins the claimed channel's calls. */
void channel_join(struct channel *, struct leg *tunnel);

#endif
