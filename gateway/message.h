/* gateway/message.h: small things that messages of the API are made of. */
#ifndef GATEWAY_MESSAGE_H
#define GATEWAY_MESSAGE_H

#include <google/protobuf/timestamp.pb-c.h>
#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* codec_unpack() with an error: the caller frees with codec_free(). */
void *message_unpack(
    const ProtobufCMessageDescriptor *, const uint8_t *data, size_t len, struct err *);

/* Initialises ${time} too. */
void message_set_time(Google__Protobuf__Timestamp *time, int64_t ms);

#endif
