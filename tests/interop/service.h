/*
 * interop/service.h: grpc.testing.TestService, which the interoperability clients of other
 * gRPC implementations call ("gRPC Interop Test Case Descriptions").
 */
#ifndef INTEROP_SERVICE_H
#define INTEROP_SERVICE_H

#include <stddef.h>

#include "rpc/server.h"

/* The rows of its methods; UnimplementedCall is none. */
extern const struct rpc_method service_methods[];
extern const size_t service_method_count;

#endif
