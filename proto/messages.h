/* proto/messages.h: every message type of the .proto files, by its name. */
#ifndef PROTO_MESSAGES_H
#define PROTO_MESSAGES_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

/* The type named, for instance, "openshell.v1.Sandbox", or NULL. Any thread. */
const ProtobufCMessageDescriptor *messages_find(const char *name);

/* All of them, sorted by name, map entries too: ${index} from 0 to messages_count() - 1. */
size_t messages_count(void);
const ProtobufCMessageDescriptor *messages_at(size_t index);

/* The enum named, for instance, "openshell.v1.SandboxPhase", or NULL. */
const ProtobufCEnumDescriptor *messages_find_enum(const char *name);

#endif
