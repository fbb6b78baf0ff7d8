/*
 * proto/frame.h: the messages of the byte path, taken apart as they arrive.
 *
 * TcpForwardFrame, RelayFrame, ExecSandboxInput, UploadFileRequest and
 * DownloadFileResponse all carry their bytes in field 2, so that one decoder serves
 * them and a payload never has to be gathered: it is handed out as pieces of the
 * input. What else they carry (init, start, resize, metadata, header, trailer) is
 * small and comes whole.
 */
#ifndef PROTO_FRAME_H
#define PROTO_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the messages that come whole. */
#define FRAME_OTHER_DEFAULT ((uint32_t)64 << 10)

/* The most frame_header() writes: prefix, and field number and length twice. */
#define FRAME_HEADER_MAX 25

/* The longest payload of one message: room for its header within 32 bits. */
#define FRAME_PAYLOAD_MAX (UINT32_MAX - FRAME_HEADER_MAX)

/* Which fields of a message carry payload. */
enum frame_shape {
	FRAME_SHAPE_BYTES, /* field 2, bytes */
	FRAME_SHAPE_EVENT, /* ExecSandboxEvent: fields 1 and 2, messages with bytes in field 1 */
	FRAME_SHAPE_WHOLE  /* none: every message comes whole */
};

enum frame_kind {
	FRAME_NONE,    /* all input is used up; feed more */
	FRAME_BEGIN,   /* a message of ${message_len} bytes begins */
	FRAME_PAYLOAD, /* ${len} bytes at ${data}, which lie in the input */
	FRAME_END,     /* the message is over; see had_payload */
	FRAME_ERROR    /* the stream cannot go on; so it stays */
};

struct frame_event {
	enum frame_kind kind;
	uint32_t message_len; /* FRAME_BEGIN */
	uint32_t field;       /* FRAME_PAYLOAD: 2; of an event 1 for stdout, 2 for stderr */

	/* FRAME_PAYLOAD: never empty. FRAME_END: the message, if it had no payload;
	 * the decoder's, until it is fed again. */
	const uint8_t *data;
	size_t len;

	bool had_payload; /* FRAME_END: it was a payload message, be it of 0 bytes */

	int code;         /* FRAME_ERROR: a gRPC status code */
	const char *text; /* FRAME_ERROR: what is wrong, for the peer */
};

enum frame_state {
	FRAME_STATE_PREFIX,
	FRAME_STATE_KEY,    /* of a field, or the end of a message */
	FRAME_STATE_LENGTH, /* of a field's value */
	FRAME_STATE_VARINT, /* a value that is a varint */
	FRAME_STATE_SKIP,   /* any other value that is no payload */
	FRAME_STATE_PAYLOAD,
	FRAME_STATE_FAILED
};

/* What the value of a field is to the decoder. */
enum frame_value {
	FRAME_VALUE_OTHER,
	FRAME_VALUE_WRAPPER, /* a message that holds the payload */
	FRAME_VALUE_PAYLOAD
};

/* Embedded by its owner; the fields are the decoder's own. */
struct frame_decoder {
	uint32_t max_message;
	uint32_t max_other;
	enum frame_shape shape;
	enum frame_state state;

	uint8_t head[5]; /* prefix of a message, or key of a field */
	uint8_t head_len;
	uint8_t digits; /* bytes read of ${number} */
	uint64_t number;
	enum frame_value value; /* what the length is of */

	uint32_t left;  /* bytes of the message still to come */
	uint32_t inner; /* of a wrapper inside it, while inside */
	uint32_t run;   /* of the field being skipped or handed out */
	uint32_t field; /* outer field of the payload */
	bool inside;    /* a wrapper */
	bool had_payload;
	bool had_bytes; /* the bytes in the wrapper */
	bool had_other; /* a field that a payload message must not have */

	uint8_t *other; /* the message so far, while it has no payload */
	size_t other_len;
	size_t other_cap;

	int code;
	const char *text;
};

/* No allocation; a decoder of a stream without structured messages never makes one. */
void frame_decoder_init(
    struct frame_decoder *, enum frame_shape, uint32_t max_message, uint32_t max_other);

void frame_decoder_free(struct frame_decoder *);

/*
 * Takes a part of the ${n} bytes at ${p}, says how many, and fills ${ev} with the one
 * thing that it saw. Call again with what is left until the kind is FRAME_NONE; an
 * event may need no further input, so that n = 0 is no reason to stop:
 *
 *	do {
 *		size_t used = frame_decoder_feed(&d, p, n, &ev);
 *		p += used;
 *		n -= used;
 *		...
 *	} while (ev.kind != FRAME_NONE && ev.kind != FRAME_ERROR);
 *
 * FRAME_ERROR: UNIMPLEMENTED (compressed), RESOURCE_EXHAUSTED (a message longer than
 * max_message, or one without payload longer than max_other), INVALID_ARGUMENT (no
 * protobuf; or two of the fields of which a message has one: a payload that is out
 * cannot be taken back as protobuf's last-one-wins would have it), INTERNAL (bad flag).
 */
size_t frame_decoder_feed(
    struct frame_decoder *, const uint8_t *p, size_t n, struct frame_event *ev);

/* Between messages: an end of the stream is where it should be. */
bool frame_decoder_is_idle(const struct frame_decoder *);

/*
 * Writes what goes before ${payload_len} bytes to make them a gRPC message whose
 * field ${field} they are, and returns its length. The nested one is a message whose
 * field ${outer} is a message whose field ${inner} they are.
 */
size_t frame_header(uint8_t out[FRAME_HEADER_MAX], uint32_t field, uint32_t payload_len);
size_t frame_header_nested(
    uint8_t out[FRAME_HEADER_MAX], uint32_t outer, uint32_t inner, uint32_t payload_len);

#endif
