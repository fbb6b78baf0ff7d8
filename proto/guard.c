#include "proto/guard.h"

#include <assert.h>
#include <string.h>

/* What malloc() adds to a block, and protobuf-c's note about each field while it
 * unpacks; its notes grow by doubling, so that up to twice as many are allocated. */
#define BLOCK_OVERHEAD ((size_t)16)
#define SCAN_NOTE      ((size_t)96)

enum wire_type {
	WIRE_VARINT = 0,
	WIRE_FIXED64 = 1,
	WIRE_BYTES = 2,
	WIRE_FIXED32 = 5 /* 3 and 4 are groups, which proto3 has none of */
};

/* One message that is being walked. */
struct level {
	const ProtobufCMessageDescriptor *desc; /* NULL is never pushed */
	const uint8_t *end;
	uint64_t seen[GUARD_DECLARED_MAX / 64]; /* single submessages, by index in desc->fields */
};

struct walk {
	const uint8_t *at;
	const struct guard_limits *limits;
	struct guard_cost cost;
	size_t depth; /* of levels in use */
	struct level levels[GUARD_DEPTH_MAX];
};

const struct guard_limits guard_limits_default = {
	.bytes = GUARD_BYTES_DEFAULT,
	.memory = GUARD_MEMORY_DEFAULT,
	.fields = GUARD_FIELDS_DEFAULT,
	.depth = GUARD_DEPTH_MAX,
};

static enum guard_result spend_memory(struct walk *w, size_t bytes)
{
	if (bytes > w->limits->memory - w->cost.memory)
		return GUARD_TOO_LARGE;
	w->cost.memory += bytes;
	return GUARD_OK;
}

static enum guard_result spend_fields(struct walk *w, size_t count)
{
	if (count > w->limits->fields - w->cost.fields)
		return GUARD_TOO_MANY_FIELDS;
	w->cost.fields += count;
	return GUARD_OK;
}

/* Reads a varint of at most ${max} bytes; false if it is longer or cut off. */
static bool read_varint(struct walk *w, const uint8_t *end, unsigned max, uint64_t *value)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < max && w->at < end; i++) {
		uint8_t byte = *w->at++;

		v |= (uint64_t)(byte & 0x7f) << (7 * i);
		if ((byte & 0x80) == 0) {
			*value = v;
			return true;
		}
	}
	return false;
}

static bool skip(struct walk *w, const uint8_t *end, size_t len)
{
	if ((size_t)(end - w->at) < len)
		return false;
	w->at += len;
	return true;
}

/* The wire type of a single value of a field; lists of numbers may also be packed. */
static enum wire_type wire_type_of(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_FLOAT:
		return WIRE_FIXED32;
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return WIRE_FIXED64;
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_BYTES:
	case PROTOBUF_C_TYPE_MESSAGE:
		return WIRE_BYTES;
	default:
		return WIRE_VARINT;
	}
}

/* What one element of a list takes in the array that protobuf-c makes of it. */
static size_t element_size(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	case PROTOBUF_C_TYPE_STRING:
		return sizeof(char *);
	case PROTOBUF_C_TYPE_MESSAGE:
		return sizeof(ProtobufCMessage *);
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	default:
		return sizeof(uint64_t); /* the smaller numbers are counted as this, too */
	}
}

/* Begins a message whose bytes are the next ${len}. */
static enum guard_result enter(struct walk *w, const ProtobufCMessageDescriptor *desc, size_t len)
{
	struct level *level;

	if (w->depth == w->limits->depth || w->depth == GUARD_DEPTH_MAX)
		return GUARD_TOO_DEEP;
	assert(desc->n_fields <= GUARD_DECLARED_MAX);
	level = &w->levels[w->depth++];
	level->desc = desc;
	level->end = w->at + len;
	memset(level->seen, 0, sizeof(level->seen));
	if (w->cost.depth < w->depth)
		w->cost.depth = w->depth;
	return spend_memory(w, desc->sizeof_message + BLOCK_OVERHEAD);
}

/* A list of numbers in one field. */
static enum guard_result check_packed(
    struct walk *w, const ProtobufCFieldDescriptor *field, size_t len)
{
	const uint8_t *end = w->at + len;
	enum wire_type type = wire_type_of(field->type);
	size_t fixed = type == WIRE_FIXED32 ? 4 : 8;
	size_t count = 0;
	uint64_t ignored;
	enum guard_result r;

	if (type == WIRE_VARINT) {
		for (; w->at < end; count++) {
			if (!read_varint(w, end, 10, &ignored))
				return GUARD_MALFORMED;
		}
	} else {
		if (len % fixed != 0)
			return GUARD_MALFORMED;
		count = len / fixed;
		w->at = end;
	}
	r = spend_fields(w, count);
	return r != GUARD_OK ? r
			     : spend_memory(w, count * element_size(field->type) + BLOCK_OVERHEAD);
}

static enum guard_result check_submessage(
    struct walk *w, struct level *level, const ProtobufCFieldDescriptor *field, size_t len)
{
	if (field->label != PROTOBUF_C_LABEL_REPEATED) {
		size_t index = (size_t)(field - level->desc->fields);
		uint64_t bit = (uint64_t)1 << (index % 64);

		/* Every occurrence would be merged into what came before by copying both. */
		if ((level->seen[index / 64] & bit) != 0)
			return GUARD_REPEATED;
		level->seen[index / 64] |= bit;
	}
	return enter(w, field->descriptor, len);
}

/* A length-delimited field: text, bytes, a submessage or a packed list. */
static enum guard_result check_bytes(
    struct walk *w, struct level *level, const ProtobufCFieldDescriptor *field)
{
	uint64_t len;
	enum guard_result r;

	if (!read_varint(w, level->end, 5, &len) || len > (size_t)(level->end - w->at))
		return GUARD_MALFORMED;
	if (field != NULL && wire_type_of(field->type) != WIRE_BYTES) {
		if (field->label != PROTOBUF_C_LABEL_REPEATED)
			return GUARD_MALFORMED;
		return check_packed(w, field, len);
	}
	if (field != NULL && field->type == PROTOBUF_C_TYPE_MESSAGE)
		return check_submessage(w, level, field, len);
	if (field != NULL && field->type == PROTOBUF_C_TYPE_STRING &&
	    !guard_is_text((const char *)w->at, len))
		return GUARD_BAD_TEXT;
	r = spend_memory(w, len + 1 + BLOCK_OVERHEAD);
	w->at += len;
	return r;
}

static enum guard_result check_number(
    struct walk *w, const uint8_t *end, enum wire_type type, const ProtobufCFieldDescriptor *field)
{
	bool whole;
	uint64_t ignored;

	if (field != NULL && wire_type_of(field->type) != type)
		return GUARD_MALFORMED;
	if (type == WIRE_VARINT)
		whole = read_varint(w, end, 10, &ignored);
	else
		whole = skip(w, end, type == WIRE_FIXED32 ? 4 : 8);
	return whole ? GUARD_OK : GUARD_MALFORMED;
}

/* What a field costs before its value is looked at: the note, and its place in a
 * list or, as protobuf-c keeps fields it does not know, its place among those. */
static enum guard_result spend_field(struct walk *w, const ProtobufCFieldDescriptor *field)
{
	size_t memory = SCAN_NOTE;
	enum guard_result r;

	if (field == NULL)
		memory += sizeof(ProtobufCMessageUnknownField) + BLOCK_OVERHEAD + 10;
	else if (field->label == PROTOBUF_C_LABEL_REPEATED)
		memory += element_size(field->type) + BLOCK_OVERHEAD;
	r = spend_fields(w, 1);
	return r != GUARD_OK ? r : spend_memory(w, memory);
}

/* The next field of the innermost message; a submessage becomes the innermost. */
static enum guard_result check_field(struct walk *w)
{
	struct level *level = &w->levels[w->depth - 1];
	const ProtobufCFieldDescriptor *field;
	uint64_t key;
	enum guard_result r;

	if (!read_varint(w, level->end, 5, &key) || key > UINT32_MAX || key >> 3 == 0)
		return GUARD_MALFORMED;
	field = protobuf_c_message_descriptor_get_field(level->desc, (unsigned)(key >> 3));
	r = spend_field(w, field);
	if (r != GUARD_OK)
		return r;
	switch (key & 7) {
	case WIRE_BYTES:
		return check_bytes(w, level, field);
	case WIRE_VARINT:
	case WIRE_FIXED64:
	case WIRE_FIXED32:
		return check_number(w, level->end, (enum wire_type)(key & 7), field);
	default:
		return GUARD_MALFORMED;
	}
}

enum guard_result guard_check(const ProtobufCMessageDescriptor *desc, const uint8_t *data,
    size_t len, const struct guard_limits *limits, struct guard_cost *cost)
{
	static const uint8_t nothing; /* a place to be when ${data} is NULL */
	/* Levels are set up as they are entered; clearing all of them each time
	 * would cost more than most messages. */
	struct walk w;
	enum guard_result r;

	w.at = len > 0 ? data : &nothing;
	w.limits = limits != NULL ? limits : &guard_limits_default;
	w.cost = (struct guard_cost){ 0 };
	w.depth = 0;
	if (len > w.limits->bytes)
		return GUARD_TOO_LARGE;
	r = enter(&w, desc, len);
	while (r == GUARD_OK && w.depth > 0) {
		if (w.at == w.levels[w.depth - 1].end)
			w.depth--;
		else
			r = check_field(&w);
	}
	if (r == GUARD_OK && cost != NULL)
		*cost = w.cost;
	return r;
}

const char *guard_text(enum guard_result result)
{
	switch (result) {
	case GUARD_OK:
		return "message is sound";
	case GUARD_TOO_DEEP:
		return "message is nested too deep";
	case GUARD_TOO_LARGE:
		return "message is too large";
	case GUARD_TOO_MANY_FIELDS:
		return "message has too many fields";
	case GUARD_MALFORMED:
		return "message is not of the type this method takes";
	case GUARD_BAD_TEXT:
		return "message has a text that is not UTF-8 or holds a NUL byte";
	case GUARD_REPEATED:
		return "message gives a single field more than once";
	case GUARD_NO_MEMORY:
		return "out of memory while reading the message";
	}
	return "message is unsound";
}

int guard_status(enum guard_result result)
{
	switch (result) {
	case GUARD_OK:
		return 0;
	case GUARD_TOO_LARGE:
	case GUARD_TOO_MANY_FIELDS:
	case GUARD_NO_MEMORY:
		return 8;
	default:
		return 3;
	}
}

/* The length of the UTF-8 sequence at ${p}, 0 if there is none: no overlong forms, no
 * surrogates, nothing past U+10FFFF, and here no NUL either. */
static size_t sequence_length(const uint8_t *p, size_t left)
{
	uint8_t low = 0x80, high = 0xbf; /* bounds of the second byte */
	size_t len;

	if (p[0] < 0x80)
		return p[0] != 0;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	if (left < len || p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	}
	return len;
}

/* How many bytes at ${p} are plain ASCII and no NUL, as most are: counted in eights. */
static size_t ascii_run(const uint8_t *p, size_t left)
{
	const uint64_t ones = 0x0101010101010101, tops = 0x8080808080808080;
	size_t n = 0;
	uint64_t eight;

	for (; left - n >= sizeof(eight); n += sizeof(eight)) {
		memcpy(&eight, p + n, sizeof(eight));
		if (((eight | (eight - ones)) & tops) != 0)
			break;
	}
	return n;
}

bool guard_is_text(const char *text, size_t len)
{
	const uint8_t *p = (const uint8_t *)text;
	size_t i = ascii_run(p, len), n;

	for (; i < len; i += n + ascii_run(p + i + n, len - i - n)) {
		n = sequence_length(p + i, len - i);
		if (n == 0)
			return false;
	}
	return true;
}
