/*
 * proto/codec.h: messages to bytes and back. The only way in: nothing else in the
 * project calls protobuf-c's unpack functions, which a peer could lead astray.
 *
 *	Openshell__V1__ExecSandboxRequest *request;
 *	enum guard_result why;
 *
 *	request = codec_unpack(&openshell__v1__exec_sandbox_request__descriptor, data, len, &why);
 *	if (request == NULL)
 *		return err_set(e, guard_status(why), "ExecSandbox: %s", guard_text(why));
 *	...
 *	codec_free(request);
 */
#ifndef PROTO_CODEC_H
#define PROTO_CODEC_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/guard.h"

/*
 * A message of type ${desc} from ${len} bytes at ${data}, which are not needed after.
 * The caller owns it and frees it with codec_free(). NULL: ${why}, which may be
 * NULL, says what is wrong. codec_unpack() holds it to guard_limits_default.
 */
void *codec_unpack(const ProtobufCMessageDescriptor *desc, const uint8_t *data, size_t len,
    enum guard_result *why);
void *codec_unpack_within(const ProtobufCMessageDescriptor *desc, const uint8_t *data, size_t len,
    const struct guard_limits *limits, enum guard_result *why);

/* Frees a message that codec_unpack() made, with all it holds. NULL is legal. */
void codec_free(void *message);

/* The bytes ${message} takes; `&x.base` of the generated struct. */
size_t codec_size(const ProtobufCMessage *message);

/* Writes codec_size() bytes to ${out} and returns their number. */
size_t codec_pack(const ProtobufCMessage *message, uint8_t *out);

/* The same into memory of its own, which the caller frees with free(). NULL: no memory. */
uint8_t *codec_pack_new(const ProtobufCMessage *message, size_t *len);

#endif
