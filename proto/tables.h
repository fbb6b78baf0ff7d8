/*
 * proto/tables.h: what generate/ makes of the .proto files at build time. For the
 * .c files of this folder; others use methods.h, messages.h and descriptors.h.
 */
#ifndef PROTO_TABLES_H
#define PROTO_TABLES_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/descriptors.h"
#include "proto/methods.h"

struct tables_symbol {
	const char *name;
	const struct descriptors_file *file;
};

struct tables_extension {
	const char *type; /* that is extended */
	int32_t number;
	const struct descriptors_file *file;
};

/* Each sorted by name, by strcmp(). */
extern const struct method_info tables_methods[];
extern const size_t tables_method_count;

extern const ProtobufCMessageDescriptor *const tables_messages[];
extern const size_t tables_message_count;

extern const ProtobufCEnumDescriptor *const tables_enums[];
extern const size_t tables_enum_count;

extern const struct descriptors_file *const tables_files[];
extern const size_t tables_file_count;

extern const struct tables_symbol tables_symbols[];
extern const size_t tables_symbol_count;

extern const struct tables_extension tables_extensions[];
extern const size_t tables_extension_count;

extern const char *const tables_services[];
extern const size_t tables_service_count;

#endif
