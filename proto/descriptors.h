/*
 * proto/descriptors.h: the .proto files themselves, compiled into
 * google.protobuf.FileDescriptorProto, for server reflection.
 */
#ifndef PROTO_DESCRIPTORS_H
#define PROTO_DESCRIPTORS_H

#include <stddef.h>
#include <stdint.h>

struct descriptors_file {
	const char *name;    /* as imports write it: "openshell/v1/openshell.proto" */
	const uint8_t *data; /* a serialized FileDescriptorProto */
	size_t len;
	const struct descriptors_file *const *imports; /* what it needs to be understood */
	size_t import_count;
};

/* The file of that name, or NULL. All of these: any thread. */
const struct descriptors_file *descriptors_find_file(const char *name);

/* The file that declares a message, enum, service, method or extension, by its full
 * name ("openshell.v1.OpenShell", "openshell.v1.OpenShell.GetSandbox"), or NULL. */
const struct descriptors_file *descriptors_find_symbol(const char *symbol);

/* The file that extends the message ${type} by field ${number}, or NULL. */
const struct descriptors_file *descriptors_find_extension(const char *type, int32_t number);

/* The extensions of a message: fills at most ${max} of ${numbers}, returns how many
 * there are. */
size_t descriptors_extensions(const char *type, int32_t *numbers, size_t max);

/* The number of services and the full name of each, sorted. A server lists those of
 * them that it serves. */
size_t descriptors_service_count(void);
const char *descriptors_service_at(size_t index);

#endif
