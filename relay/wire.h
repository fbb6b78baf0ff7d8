/*
 * relay/wire.h: what both ends of a tunnel have to agree on beyond the .proto files.
 */
#ifndef RELAY_WIRE_H
#define RELAY_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "proto/codec.h"
#include "rpc/call.h"
#include "rpc/server.h"

#define WIRE_CONNECT "/openshell.v1.OpenShell/ConnectSupervisor"
#define WIRE_RELAY   "/openshell.v1.OpenShell/RelayStream"
#define WIRE_FORWARD "/openshell.v1.OpenShell/ForwardTcp"

/* What a supervisor lists in SupervisorHello.features. */
#define WIRE_FEATURE_CALL  "call"             /* serves RelayOpen.call */
#define WIRE_FEATURE_LINES "data-connections" /* opens SessionAccepted.data_connections */

/*
 * Metadata. RelayStream says which session it belongs to. One whose init has no
 * channel_id asks where its connection has landed: it is answered with the index + 1
 * of the gateway's loop in the response headers, and OK.
 */
#define WIRE_META_SESSION "towline-session"
#define WIRE_META_LOOP    "towline-loop"

/* Of one message of a control stream: a RelayOpen carries a whole first message. */
#define WIRE_MESSAGE_MAX ((size_t)RPC_MESSAGE_MAX + ((size_t)64 << 10))

/* Packs and sends. -1 as rpc_call_send(), or no memory. */
int wire_send(struct rpc_call *, const ProtobufCMessage *);

/* Takes a call over and finishes it: nobody hears of it any more. */
void wire_refuse(struct rpc_call *, const struct err *status);

/* codec_unpack() with room for WIRE_MESSAGE_MAX. NULL: INVALID_ARGUMENT or
 * RESOURCE_EXHAUSTED, naming the type. The caller frees with codec_free(). */
void *wire_unpack(const ProtobufCMessageDescriptor *, const uint8_t *, size_t, struct err *);

#endif
