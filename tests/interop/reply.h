/* interop/reply.h: what the test service's answers have in common. */
#ifndef INTEROP_REPLY_H
#define INTEROP_REPLY_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "proto/guard.h"
#include "rpc/call.h"
#include "rpc/meta.h"

/* Bytes of payload a client may ask for in one response. */
#define REPLY_PAYLOAD_MAX (4 << 20)

/* Sends one message. */
int reply_send(struct rpc_call *, const ProtobufCMessage *, struct err *);

/* Zeros for a payload of the ${size} a client asked for; the caller frees them. */
int reply_zeros(int32_t size, ProtobufCBinaryData *, struct err *);

/* The status a client asked for, as it wrote it: unlike err_set() this keeps control
 * characters, which the client compares. */
void reply_status(struct err *, int32_t code, const char *message);

/* Why a request could not be unpacked. */
int reply_malformed(struct err *, enum guard_result);

/* Returns the metadata the client wants to see again: the headers at once, what belongs
 * to the end in ${trailers}, which the caller frees, also after an error. */
int reply_echo(struct rpc_call *, struct rpc_meta *trailers, struct err *);

#endif
