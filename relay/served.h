/*
 * relay/served.h: the channels that a supervisor serves.
 *
 * Each is a RelayStream call of ours that answers another's call. A channel belongs to
 * its method's handler from when it is opened; what stays here is what ends it from
 * outside: its deadline, RelayClose, and the end of its connection.
 */
#ifndef RELAY_SERVED_H
#define RELAY_SERVED_H

#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "openshell/v1/openshell.pb-c.h"
#include "relay/dialer.h"
#include "relay/uplink.h"
#include "rpc/client.h"
#include "rpc/meta.h"

#define SERVED_GRACE_MS 5000 /* from a channel's deadline to the reset of its stream */
#define SERVED_ID_MAX   255  /* bytes of a channel's id; ours have 36 */

struct served;

/* Borrows both: of the options the methods and app. NULL: no memory. */
struct served *served_create(struct loop *, const struct dialer_options *, const struct rpc_meta *);

/* Asserts that no channel is left. NULL is legal. */
void served_free(struct served *);

/* The session that channels are opened in from now on. */
int served_set_session(struct served *, const char *session_id, struct err *);

/* Serves a RelayOpen on ${client}'s connection. What cannot be served is answered with
 * a status on the channel, or with RelayOpenResult on ${uplink}. */
void served_open(
    struct served *, struct uplink *, struct rpc_client *, const Openshell__V1__RelayOpen *);

/* The gateway gives a channel up: it is reset, and its handler told so in this turn.
 * Unknown ids are ignored. */
void served_close(struct served *, const char *channel_id, const char *reason);

uint32_t served_count(const struct served *);  /* open now */
uint64_t served_opened(const struct served *); /* ever */

#endif
