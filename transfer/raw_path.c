#include "transfer/raw_path.h"

#include <protobuf-c/protobuf-c.h>
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/guard.h"

#define RAW "raw_"

/* A text and the bytes beside it, or a list of texts and a list of bytes. */
struct pair {
	const ProtobufCFieldDescriptor *raw, *beside;
	bool is_list;
	void *bytes, *text;              /* in the message */
	size_t *byte_count, *text_count; /* of lists */
};

/* False: the ${i}-th field is not such bytes. */
static bool find_pair(ProtobufCMessage *m, unsigned i, struct pair *p)
{
	uint8_t *at = (uint8_t *)m;

	p->raw = &m->descriptor->fields[i];
	if (p->raw->type != PROTOBUF_C_TYPE_BYTES || strncmp(p->raw->name, RAW, strlen(RAW)) != 0)
		return false;
	p->beside = protobuf_c_message_descriptor_get_field_by_name(
	    m->descriptor, p->raw->name + strlen(RAW));
	p->is_list = p->raw->label == PROTOBUF_C_LABEL_REPEATED;
	if (p->beside == NULL || p->beside->type != PROTOBUF_C_TYPE_STRING ||
	    (p->beside->label == PROTOBUF_C_LABEL_REPEATED) != p->is_list)
		return false;
	p->bytes = at + p->raw->offset;
	p->text = at + p->beside->offset;
	p->byte_count = (size_t *)(at + p->raw->quantifier_offset);
	p->text_count = (size_t *)(at + p->beside->quantifier_offset);
	return true;
}

static ProtobufCBinaryData bytes_of(char *text)
{
	return (ProtobufCBinaryData){ .len = strlen(text), .data = (uint8_t *)text };
}

void raw_path_give(void *message)
{
	ProtobufCMessage *m = message;
	struct pair p;

	for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
		if (!find_pair(m, i, &p) || p.is_list)
			continue;
		char **text = p.text;
		if (guard_is_text(*text, strlen(*text)))
			continue;
		*(ProtobufCBinaryData *)p.bytes = bytes_of(*text);
		*text = (char *)p.beside->default_value;
	}
}

/* Lists. */

static bool is_all_text(const struct pair *p)
{
	char *const *texts = *(char ***)p->text;

	for (size_t i = 0; i < *p->text_count; i++)
		if (!guard_is_text(texts[i], strlen(texts[i])))
			return false;
	return true;
}

bool raw_path_has_lists(void *message)
{
	ProtobufCMessage *m = message;
	struct pair p;

	for (unsigned i = 0; i < m->descriptor->n_fields; i++)
		if (find_pair(m, i, &p) && p.is_list && !is_all_text(&p))
			return true;
	return false;
}

/* The new lists are in the message alone, if there are any. */
static int give_lists(ProtobufCMessage *m)
{
	struct pair p;

	for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
		if (!find_pair(m, i, &p) || !p.is_list || is_all_text(&p))
			continue;
		char **texts = *(char ***)p.text;
		size_t count = *p.text_count;
		ProtobufCBinaryData *list = calloc(count, sizeof(*list));
		if (list == NULL)
			return -1;
		for (size_t k = 0; k < count; k++)
			list[k] = bytes_of(texts[k]);
		*(ProtobufCBinaryData **)p.bytes = list;
		*p.byte_count = count;
		*p.text_count = 0;
	}
	return 0;
}

static void free_lists(ProtobufCMessage *m)
{
	struct pair p;

	for (unsigned i = 0; i < m->descriptor->n_fields; i++)
		if (find_pair(m, i, &p) && p.is_list)
			free(*(ProtobufCBinaryData **)p.bytes);
}

uint8_t *raw_path_pack(const void *request, void *message, size_t *len)
{
	ProtobufCMessage *m = message;
	size_t size = m->descriptor->sizeof_message;
	void *before = malloc(size);
	uint8_t *packed = NULL;

	if (before == NULL)
		return NULL;
	memcpy(before, message, size);
	raw_path_give(message);
	if (give_lists(m) == 0)
		packed = codec_pack_new(request, len);
	free_lists(m);
	memcpy(message, before, size);
	free(before);
	return packed;
}

/* Coming in. */

/* ${raw} becomes a text, and is none any more. NULL: it has a NUL, or there is no memory. */
static char *text_of(const char *name, ProtobufCBinaryData *raw, struct err *err)
{
	if (raw->len > 0 && memchr(raw->data, '\0', raw->len) != NULL) {
		err_set(err, GRPC_INVALID_ARGUMENT, "%s: a path has no NUL in it", name);
		return NULL;
	}
	char *text = realloc(raw->data, raw->len + 1);
	if (text == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	text[raw->len] = '\0';
	*raw = (ProtobufCBinaryData){ 0 };
	return text;
}

static int take(const struct pair *p, struct err *err)
{
	ProtobufCBinaryData *raw = p->bytes;
	char **text = p->text, *path;

	if (raw->len == 0)
		return 0;
	if ((path = text_of(p->raw->name, raw, err)) == NULL)
		return -1;
	if (*text != p->beside->default_value)
		free(*text);
	*text = path;
	return 0;
}

/* At each moment the message has what it has. */
static int take_list(const struct pair *p, struct err *err)
{
	ProtobufCBinaryData **bytes = p->bytes;
	char ***texts = p->text;
	size_t count = *p->byte_count;

	if (count == 0)
		return 0;
	for (size_t i = 0; i < *p->text_count; i++)
		free((*texts)[i]);
	free(*texts);
	*p->text_count = 0;
	if ((*texts = calloc(count, sizeof(**texts))) == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	for (; *p->text_count < count; ++*p->text_count) {
		char *text = text_of(p->raw->name, &(*bytes)[*p->text_count], err);
		if (text == NULL)
			return -1;
		(*texts)[*p->text_count] = text;
	}
	free(*bytes);
	*bytes = NULL;
	*p->byte_count = 0;
	return 0;
}

int raw_path_take(void *message, struct err *err)
{
	ProtobufCMessage *m = message;
	struct pair p;

	for (unsigned i = 0; i < m->descriptor->n_fields; i++)
		if (find_pair(m, i, &p) && (p.is_list ? take_list(&p, err) : take(&p, err)) != 0)
			return -1;
	return 0;
}
