/*
 * gateway/reflection.h: grpc.reflection.v1 (and v1alpha, the same by an older name), so
 * that tools such as grpcurl need no .proto files. On the loop of the call.
 */
#ifndef GATEWAY_REFLECTION_H
#define GATEWAY_REFLECTION_H

#include "rpc/call.h"

#define REFLECTION_REQUEST_MAX ((size_t)4 << 10) /* bytes of one request */
#define REFLECTION_QUEUE_MAX   ((size_t)1 << 20) /* unsent answers, above which no more are made */

/* For rpc_method.open. */
void reflection_open(struct rpc_call *, void *gateway);

#endif
