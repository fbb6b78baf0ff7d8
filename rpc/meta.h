/*
 * rpc/meta.h: metadata, the headers and trailers of a call.
 *
 * Names are lower case. Values of names that end in "-bin" are bytes here and
 * base64 on the wire (gRPC over HTTP2, "Custom-Metadata"); others are ASCII text.
 * Pseudo-headers and what gRPC itself uses (te, content-type, grpc-*) are not in
 * here, but for those of a relay's own use.
 */
#ifndef RPC_META_H
#define RPC_META_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define RPC_META_ITEMS_MAX 64
/* Names and values of one header block; also SETTINGS_MAX_HEADER_LIST_SIZE. */
#define RPC_META_BYTES_MAX 16384

struct rpc_meta_item {
	char *name;
	char *value; /* NUL-terminated for convenience */
	size_t len;
};

struct rpc_meta {
	struct rpc_meta_item *items;
	size_t count, cap, bytes;
};

void rpc_meta_init(struct rpc_meta *);
void rpc_meta_free(struct rpc_meta *);

/* Copies both. RESOURCE_EXHAUSTED past the limits, INVALID_ARGUMENT for a name or
 * value HTTP/2 does not allow. */
int rpc_meta_add(struct rpc_meta *, const char *name, const void *value, size_t len, struct err *);
int rpc_meta_add_text(struct rpc_meta *, const char *name, const char *value, struct err *);

/* The first value of that name, NULL if there is none. */
const char *rpc_meta_get(const struct rpc_meta *, const char *name);

#endif
