#include "proto/frame.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* gRPC status codes; base/err.h, which names them for the rest, is not for this room. */
#define CODE_INVALID_ARGUMENT   3
#define CODE_RESOURCE_EXHAUSTED 8
#define CODE_UNIMPLEMENTED      12
#define CODE_INTERNAL           13

#define PREFIX_SIZE 5
#define KEY_MAX     5
#define LENGTH_MAX  5
#define VARINT_MAX  10

/* Most structured messages fit; twice as much each time one does not. */
#define OTHER_FIRST 256

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct input {
	const uint8_t *p;
	size_t n;
	size_t used;
};

void frame_decoder_init(
    struct frame_decoder *d, enum frame_shape shape, uint32_t max_message, uint32_t max_other)
{
	memset(d, 0, sizeof(*d));
	d->shape = shape;
	d->max_message = max_message;
	d->max_other = max_other;
}

void frame_decoder_free(struct frame_decoder *d)
{
	free(d->other);
	d->other = NULL;
}

bool frame_decoder_is_idle(const struct frame_decoder *d)
{
	return d->state == FRAME_STATE_PREFIX && d->head_len == 0;
}

/* The steps below return false when they need input, true to be followed by another. */
static bool fail(struct frame_decoder *d, int code, const char *text)
{
	d->state = FRAME_STATE_FAILED;
	d->code = code;
	d->text = text;
	return true;
}

static bool fail_malformed(struct frame_decoder *d)
{
	return fail(d, CODE_INVALID_ARGUMENT, "message is not a valid protobuf message");
}

static bool fail_two(struct frame_decoder *d)
{
	return fail(d, CODE_INVALID_ARGUMENT,
	    "message has more than its bytes in it: send them in a message of their own");
}

/* What the message, or the wrapper inside it, still has to come. */
static uint32_t room(const struct frame_decoder *d)
{
	return d->inside ? d->inner : d->left;
}

static void take(struct frame_decoder *d, struct input *in, uint32_t len)
{
	in->used += len;
	d->left -= len;
	if (d->inside)
		d->inner -= len;
}

/* As much of the field as the input has. */
static uint32_t run_at_hand(const struct frame_decoder *d, const struct input *in)
{
	size_t have = in->n - in->used;

	return have < d->run ? (uint32_t)have : d->run;
}

static bool grow_other(struct frame_decoder *d, size_t need)
{
	size_t cap = d->other_cap > 0 ? d->other_cap : OTHER_FIRST;
	uint8_t *other;

	while (cap < need)
		cap *= 2;
	other = realloc(d->other, cap);
	if (other == NULL)
		return false;
	d->other = other;
	d->other_cap = cap;
	return true;
}

/* Keeps bytes of a message that may turn out to have no payload. Taking it apart has
 * to go on in any case: the payload may come behind a field nobody knows. */
static bool keep(struct frame_decoder *d, const uint8_t *p, size_t len)
{
	if (d->had_payload)
		return true;
	if (len > d->max_other - d->other_len) {
		fail(d, CODE_RESOURCE_EXHAUSTED,
		    "message without payload is larger than this call takes");
		return false;
	}
	if (d->other_len + len > d->other_cap && !grow_other(d, d->other_len + len)) {
		fail(d, CODE_RESOURCE_EXHAUSTED, "out of memory for a message");
		return false;
	}
	memcpy(d->other + d->other_len, p, len);
	d->other_len += len;
	return true;
}

static void expect_key(struct frame_decoder *d)
{
	d->state = FRAME_STATE_KEY;
	d->head_len = 0;
	d->digits = 0;
	d->number = 0;
}

static void expect_number(struct frame_decoder *d, enum frame_state state)
{
	d->state = state;
	d->digits = 0;
	d->number = 0;
}

static bool expect_run(struct frame_decoder *d, enum frame_state state, uint64_t len)
{
	if (len > room(d))
		return fail_malformed(d);
	d->state = state;
	d->run = (uint32_t)len;
	return true;
}

static bool step_prefix(struct frame_decoder *d, struct input *in, struct frame_event *ev)
{
	uint32_t len = 0;

	free(d->other);
	d->other = NULL;
	d->other_len = d->other_cap = 0;
	while (d->head_len < PREFIX_SIZE && in->used < in->n)
		d->head[d->head_len++] = in->p[in->used++];
	if (d->head_len < PREFIX_SIZE)
		return false;
	for (int i = 1; i < PREFIX_SIZE; i++)
		len = len << 8 | d->head[i];
	if (d->head[0] == 1)
		return fail(d, CODE_UNIMPLEMENTED,
		    "message is compressed: send it with grpc-encoding identity");
	if (d->head[0] != 0)
		return fail(d, CODE_INTERNAL, "message has a bad gRPC prefix");
	if (len > d->max_message)
		return fail(d, CODE_RESOURCE_EXHAUSTED, "message is larger than this call takes");
	d->left = len;
	d->inside = d->had_payload = d->had_other = false;
	expect_key(d);
	ev->kind = FRAME_BEGIN;
	ev->message_len = len;
	return true;
}

static bool end_message(struct frame_decoder *d, struct frame_event *ev)
{
	d->state = FRAME_STATE_PREFIX;
	d->head_len = 0;
	ev->kind = FRAME_END;
	ev->had_payload = d->had_payload;
	if (!d->had_payload) {
		ev->data = d->other;
		ev->len = d->other_len;
	}
	return true;
}

/* What field ${field} of the message at hand is: bytes, a wrapper of bytes, or other. */
static enum frame_value value_of(const struct frame_decoder *d, uint32_t field)
{
	if (d->inside)
		return field == 1 ? FRAME_VALUE_PAYLOAD : FRAME_VALUE_OTHER;
	if (d->shape == FRAME_SHAPE_BYTES && field == 2)
		return FRAME_VALUE_PAYLOAD;
	if (d->shape == FRAME_SHAPE_EVENT && (field == 1 || field == 2))
		return FRAME_VALUE_WRAPPER;
	return FRAME_VALUE_OTHER;
}

/* Fields that exclude a payload: init, start, metadata and header are 1, resize and
 * exit are 3, trailer is 16. A field of any other number is one that this side does
 * not know yet, and no reason to refuse. */
static bool excludes_payload(const struct frame_decoder *d, uint32_t field)
{
	return !d->inside && (field == 1 || field == 3 || field == 16);
}

static bool begin_wrapper_or_payload(struct frame_decoder *d, uint32_t field)
{
	if (d->inside) {
		if (d->had_bytes)
			return fail_two(d);
		d->had_bytes = true;
	} else {
		if (d->had_payload || d->had_other)
			return fail_two(d);
		d->had_payload = true;
		d->field = field;
		d->other_len = 0; /* fields nobody knows: only a message without payload is kept */
	}
	expect_number(d, FRAME_STATE_LENGTH);
	return true;
}

static bool begin_other(struct frame_decoder *d, uint32_t field, unsigned wire)
{
	if (excludes_payload(d, field)) {
		if (d->had_payload)
			return fail_two(d);
		d->had_other = true;
	}
	if (!keep(d, d->head, d->head_len))
		return true;
	switch (wire) {
	case WIRE_VARINT:
		expect_number(d, FRAME_STATE_VARINT);
		return true;
	case WIRE_BYTES:
		expect_number(d, FRAME_STATE_LENGTH);
		return true;
	case WIRE_FIXED64:
		return expect_run(d, FRAME_STATE_SKIP, 8);
	case WIRE_FIXED32:
		return expect_run(d, FRAME_STATE_SKIP, 4);
	default:
		return fail_malformed(d);
	}
}

static bool begin_field(struct frame_decoder *d)
{
	uint32_t field = (uint32_t)(d->number >> 3);
	unsigned wire = d->number & 7;

	if (d->number > UINT32_MAX || field == 0)
		return fail_malformed(d);
	d->value = value_of(d, field);
	if (d->value == FRAME_VALUE_OTHER)
		return begin_other(d, field, wire);
	if (wire != WIRE_BYTES)
		return fail_malformed(d);
	return begin_wrapper_or_payload(d, field);
}

/* Takes one byte of a number of at most ${max}; true when it was the last. */
static bool take_digit(struct frame_decoder *d, struct input *in, unsigned max)
{
	uint8_t byte;

	if (room(d) == 0 || d->digits == max) {
		fail_malformed(d);
		return false;
	}
	byte = in->p[in->used];
	take(d, in, 1);
	d->number |= (uint64_t)(byte & 0x7f) << (7 * d->digits++);
	return (byte & 0x80) == 0;
}

static bool step_key(struct frame_decoder *d, struct input *in, struct frame_event *ev)
{
	if (d->inside && d->inner == 0 && d->digits == 0)
		d->inside = false;
	if (d->left == 0 && d->digits == 0)
		return end_message(d, ev);
	if (in->used == in->n && room(d) > 0)
		return false;
	if (d->head_len < KEY_MAX && room(d) > 0)
		d->head[d->head_len++] = in->p[in->used];
	if (take_digit(d, in, KEY_MAX))
		return begin_field(d);
	return true;
}

static bool begin_value(struct frame_decoder *d)
{
	switch (d->value) {
	case FRAME_VALUE_WRAPPER:
		if (d->number > room(d))
			return fail_malformed(d);
		d->inside = true;
		d->inner = (uint32_t)d->number;
		d->had_bytes = false;
		expect_key(d);
		return true;
	case FRAME_VALUE_PAYLOAD:
		return expect_run(d, FRAME_STATE_PAYLOAD, d->number);
	case FRAME_VALUE_OTHER:
		break;
	}
	return expect_run(d, FRAME_STATE_SKIP, d->number);
}

/* A length, or a value that is a number itself. */
static bool step_number(struct frame_decoder *d, struct input *in)
{
	bool is_length = d->state == FRAME_STATE_LENGTH;
	bool last;

	if (in->used == in->n && room(d) > 0)
		return false;
	if (d->value == FRAME_VALUE_OTHER && room(d) > 0 && !keep(d, in->p + in->used, 1))
		return true;
	last = take_digit(d, in, is_length ? LENGTH_MAX : VARINT_MAX);
	if (!last)
		return true;
	if (is_length)
		return begin_value(d);
	expect_key(d);
	return true;
}

static bool step_skip(struct frame_decoder *d, struct input *in)
{
	uint32_t len = run_at_hand(d, in);

	if (d->run == 0) {
		expect_key(d);
		return true;
	}
	if (len == 0)
		return false;
	if (!keep(d, in->p + in->used, len))
		return true;
	take(d, in, len);
	d->run -= len;
	return true;
}

static bool step_payload(struct frame_decoder *d, struct input *in, struct frame_event *ev)
{
	uint32_t len = run_at_hand(d, in);

	if (d->run == 0) {
		expect_key(d);
		return true;
	}
	if (len == 0)
		return false;
	ev->kind = FRAME_PAYLOAD;
	ev->field = d->field;
	ev->data = in->p + in->used;
	ev->len = len;
	take(d, in, len);
	d->run -= len;
	return true;
}

static bool step(struct frame_decoder *d, struct input *in, struct frame_event *ev)
{
	switch (d->state) {
	case FRAME_STATE_PREFIX:
		return step_prefix(d, in, ev);
	case FRAME_STATE_KEY:
		return step_key(d, in, ev);
	case FRAME_STATE_LENGTH:
	case FRAME_STATE_VARINT:
		return step_number(d, in);
	case FRAME_STATE_SKIP:
		return step_skip(d, in);
	case FRAME_STATE_PAYLOAD:
		return step_payload(d, in, ev);
	case FRAME_STATE_FAILED:
		break;
	}
	ev->kind = FRAME_ERROR;
	ev->code = d->code;
	ev->text = d->text;
	return true;
}

size_t frame_decoder_feed(
    struct frame_decoder *d, const uint8_t *p, size_t n, struct frame_event *ev)
{
	struct input in = { p, n, 0 };

	memset(ev, 0, sizeof(*ev));
	while (ev->kind == FRAME_NONE && step(d, &in, ev))
		;
	return in.used;
}

static size_t put_varint(uint8_t *out, uint32_t value)
{
	size_t n = 0;

	for (; value >= 0x80; value >>= 7)
		out[n++] = (uint8_t)(value | 0x80);
	out[n++] = (uint8_t)value;
	return n;
}

static size_t put_field(uint8_t *out, uint32_t field, uint32_t len)
{
	size_t n = put_varint(out, field << 3 | WIRE_BYTES);

	return n + put_varint(out + n, len);
}

static void put_prefix(uint8_t *out, uint32_t len)
{
	out[0] = 0;
	out[1] = (uint8_t)(len >> 24);
	out[2] = (uint8_t)(len >> 16);
	out[3] = (uint8_t)(len >> 8);
	out[4] = (uint8_t)len;
}

size_t frame_header(uint8_t out[FRAME_HEADER_MAX], uint32_t field, uint32_t payload_len)
{
	size_t n = PREFIX_SIZE;

	assert(payload_len <= FRAME_PAYLOAD_MAX);
	n += put_field(out + n, field, payload_len);
	put_prefix(out, (uint32_t)(n - PREFIX_SIZE) + payload_len);
	return n;
}

size_t frame_header_nested(
    uint8_t out[FRAME_HEADER_MAX], uint32_t outer, uint32_t inner, uint32_t payload_len)
{
	uint8_t within[2 * KEY_MAX];
	size_t within_len = put_field(within, inner, payload_len);
	size_t n = PREFIX_SIZE;

	assert(payload_len <= FRAME_PAYLOAD_MAX);
	n += put_field(out + n, outer, (uint32_t)within_len + payload_len);
	memcpy(out + n, within, within_len);
	n += within_len;
	put_prefix(out, (uint32_t)(n - PREFIX_SIZE) + payload_len);
	return n;
}
