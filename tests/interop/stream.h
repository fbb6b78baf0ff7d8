/* interop/stream.h: the calls that are answered by a stream. */
#ifndef INTEROP_STREAM_H
#define INTEROP_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "rpc/call.h"

/* One request, as many responses as it asks for. */
void stream_output(struct rpc_call *, void *app, const uint8_t *message, size_t len);

/* Each request is answered before the next is read. */
void stream_full_duplex(struct rpc_call *, void *app);

/* Requests are answered when the last has come. */
void stream_half_duplex(struct rpc_call *, void *app);

#endif
