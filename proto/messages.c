#include "proto/messages.h"

#include <stdlib.h>
#include <string.h>

#include "proto/tables.h"

static int compare_message(const void *name, const void *entry)
{
	return strcmp(name, (*(const ProtobufCMessageDescriptor *const *)entry)->name);
}

static int compare_enum(const void *name, const void *entry)
{
	return strcmp(name, (*(const ProtobufCEnumDescriptor *const *)entry)->name);
}

const ProtobufCMessageDescriptor *messages_find(const char *name)
{
	const ProtobufCMessageDescriptor *const *found = bsearch(name, tables_messages,
	    tables_message_count, sizeof(tables_messages[0]), compare_message);

	return found != NULL ? *found : NULL;
}

size_t messages_count(void)
{
	return tables_message_count;
}

const ProtobufCMessageDescriptor *messages_at(size_t index)
{
	return tables_messages[index];
}

const ProtobufCEnumDescriptor *messages_find_enum(const char *name)
{
	const ProtobufCEnumDescriptor *const *found =
	    bsearch(name, tables_enums, tables_enum_count, sizeof(tables_enums[0]), compare_enum);

	return found != NULL ? *found : NULL;
}
