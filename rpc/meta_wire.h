/*
 * rpc/meta_wire.h: metadata as HTTP/2 header fields. Inside of rpc only.
 *
 * Bytes of "-bin" names are base64 on the wire: sent without padding, accepted
 * with and without, several values of one field joined by commas.
 */
#ifndef RPC_META_WIRE_H
#define RPC_META_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "rpc/meta.h"

/* A received field of text that needs no NUL at its end. */
struct meta_field {
	const char *name;
	size_t name_len;
	const char *value;
	size_t value_len;
};

/* The value of ${name} is bytes: it ends in "-bin". */
bool meta_is_binary(const char *name);

/* Adds a received field. Pseudo-headers and those of gRPC itself are left out and
 * count as done, but for grpc-status-details-bin, which a relay passes on.
 * INVALID_ARGUMENT: bad base64, or as rpc_meta_add(). */
int meta_from_wire(struct rpc_meta *, const struct meta_field *, struct err *);

/*
 * Walks over the fields to send:
 *
 *	struct meta_wire wire;
 *	if (meta_wire_begin(&wire, meta, err) < 0) ...
 *	while (meta_wire_next(&wire, &field)) ...
 *	meta_wire_end(&wire);
 *
 * What the fields point to is good until meta_wire_end(), as long as the metadata
 * lives; so all of them may be collected first. ${meta} may be NULL.
 */
struct meta_wire {
	const struct rpc_meta *meta;
	size_t index;
	char *text; /* all encoded values, one after the other */
	size_t used;
};

int meta_wire_begin(struct meta_wire *, const struct rpc_meta *, struct err *);
bool meta_wire_next(struct meta_wire *, struct meta_field *);
void meta_wire_end(struct meta_wire *);

/* Standard base64. Encoding has no padding; ${out} holds META_BASE64_SIZE(len)
 * bytes and is NUL-terminated. Decoding takes at most ${len} * 3 / 4 bytes of
 * ${out}, which may be ${text} itself; -1: not base64. Both return the length. */
#define META_BASE64_SIZE(len) (((len) + 2) / 3 * 4 + 1)
size_t meta_base64_encode(const void *bytes, size_t len, char *out);
ptrdiff_t meta_base64_decode(const char *text, size_t len, uint8_t *out);

#endif
