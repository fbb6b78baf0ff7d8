/*
 * relay/framed_role.h: the supervisor's end of a channel as a framed call. Private to
 * the room: the dialer opens channels.
 */
#ifndef RELAY_FRAMED_ROLE_H
#define RELAY_FRAMED_ROLE_H

#include "relay/framed.h"

/* Makes the RelayStream call (its ops and cookie are not used). To be followed, in the
 * same turn, by framed_bind(): nothing arrives before. What is sent before the init
 * message is up to the caller. */
struct framed *framed_channel(struct rpc_client *, const struct rpc_client_call *,
    const struct framed_options *, struct err *);

/* The channel's owner has been told otherwise that no more comes: end() will not run. */
void framed_forgo_end(struct framed *);

/* The gateway wants no more of it: resets the call at once, whatever waits to leave, and
 * tells its owner, closed(), later in the turn. Not from one of its callbacks. */
void framed_leave(struct framed *, const struct err *why);

/* ${over} runs once, when the call is over or cancelled: just before closed(), or from
 * inside framed_cancel(). Whoever opened the channel keeps count of it so, whoever owns it. */
void framed_watch(struct framed *, void (*over)(void *cookie), void *cookie);

#endif
