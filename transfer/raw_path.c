#include "transfer/raw_path.h"

#include <protobuf-c/protobuf-c.h>
#include <stdlib.h>
#include <string.h>

#include "proto/guard.h"

#define RAW "raw_"

/* A text and the bytes beside it; false: ${field} is not such bytes. */
static bool find_pair(ProtobufCMessage *m, const ProtobufCFieldDescriptor *field, char ***text,
    ProtobufCBinaryData **raw, const ProtobufCFieldDescriptor **beside)
{
	if (field->type != PROTOBUF_C_TYPE_BYTES || field->label == PROTOBUF_C_LABEL_REPEATED ||
	    strncmp(field->name, RAW, strlen(RAW)) != 0)
		return false;
	*beside = protobuf_c_message_descriptor_get_field_by_name(
	    m->descriptor, field->name + strlen(RAW));
	if (*beside == NULL || (*beside)->type != PROTOBUF_C_TYPE_STRING)
		return false;
	*text = (char **)((uint8_t *)m + (*beside)->offset);
	*raw = (ProtobufCBinaryData *)((uint8_t *)m + field->offset);
	return true;
}

void raw_path_give(void *message)
{
	ProtobufCMessage *m = message;
	const ProtobufCFieldDescriptor *beside;
	ProtobufCBinaryData *raw;
	char **text;

	for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
		if (!find_pair(m, &m->descriptor->fields[i], &text, &raw, &beside) ||
		    guard_is_text(*text, strlen(*text)))
			continue;
		*raw = (ProtobufCBinaryData){ .len = strlen(*text), .data = (uint8_t *)*text };
		*text = (char *)beside->default_value;
	}
}

static int take(
    const char *name, ProtobufCBinaryData *raw, char **text, const char *empty, struct err *err)
{
	if (memchr(raw->data, '\0', raw->len) != NULL)
		return err_set(err, GRPC_INVALID_ARGUMENT, "%s: a path has no NUL in it", name);
	char *path = realloc(raw->data, raw->len + 1);
	if (path == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	path[raw->len] = '\0';
	*raw = (ProtobufCBinaryData){ 0 };
	if (*text != empty)
		free(*text);
	*text = path;
	return 0;
}

int raw_path_take(void *message, struct err *err)
{
	ProtobufCMessage *m = message;
	const ProtobufCFieldDescriptor *beside;
	ProtobufCBinaryData *raw;
	char **text;

	for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &m->descriptor->fields[i];

		if (find_pair(m, field, &text, &raw, &beside) && raw->len > 0 &&
		    take(field->name, raw, text, beside->default_value, err) != 0)
			return -1;
	}
	return 0;
}
