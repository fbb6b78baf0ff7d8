/*
 * gateway/health.h: grpc.health.v1, for probes and load balancers.
 *
 * Any loop; health_end() on the first.
 */
#ifndef GATEWAY_HEALTH_H
#define GATEWAY_HEALTH_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "rpc/call.h"

struct health;

/* ${loops} are those that calls come in on. */
struct health *health_create(struct loop **loops, size_t count, struct err *);

/* When every watch has ended. */
void health_free(struct health *);

/* Check and Watch, with the gateway as the application. */
void health_check(struct rpc_call *, void *gateway, const uint8_t *message, size_t len);
void health_watch(struct rpc_call *, void *gateway, const uint8_t *message, size_t len);

/* From now on nothing is served: watchers are told, and their calls end. */
void health_end(struct health *);

#endif
