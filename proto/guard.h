/*
 * proto/guard.h: looks at a serialized message before protobuf-c unpacks it.
 *
 * protobuf-c 1.4 calls itself for each nested message without limit, allocates
 * whatever the bytes ask for, copies a submessage that is given many times over as
 * often as it is given, and cuts a text at a NUL byte. A peer decides over all of
 * these. The guard walks the bytes by the descriptor first, without recursion and
 * without allocating, and lets through only what is cheap and means what it says.
 */
#ifndef PROTO_GUARD_H
#define PROTO_GUARD_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Levels of messages within messages: as the official runtimes have it. At about
 * 1 KiB of stack a level protobuf-c then needs some 100 KiB. */
#define GUARD_DEPTH_MAX 100

/* The common receive limit of gRPC libraries. */
#define GUARD_BYTES_DEFAULT ((size_t)4 << 20)

/* What 4 MiB of ordinary content unpack to, four times over. Empty submessages, two
 * bytes each on the wire, would ask for a hundred times their size. */
#define GUARD_MEMORY_DEFAULT ((size_t)16 << 20)

/* No message of the API has a fraction of this; each costs a look-up. */
#define GUARD_FIELDS_DEFAULT ((size_t)128 << 10)

/* A message may declare so many fields; a test holds every descriptor to it. */
#define GUARD_DECLARED_MAX 128

enum guard_result {
	GUARD_OK,
	GUARD_TOO_DEEP,        /* more levels than allowed */
	GUARD_TOO_LARGE,       /* more bytes, or more memory once unpacked, than allowed */
	GUARD_TOO_MANY_FIELDS, /* more fields and list elements than allowed */
	GUARD_MALFORMED,       /* not a message of this type */
	GUARD_BAD_TEXT,        /* a text that is not UTF-8 or has a NUL in it */
	GUARD_REPEATED,        /* a single submessage given more than once */
	GUARD_NO_MEMORY        /* this process has none left; never from guard_check() */
};

struct guard_limits {
	size_t bytes;  /* serialized */
	size_t memory; /* while and after unpacking; an estimate that errs upwards */
	size_t fields; /* fields and elements of lists, at all levels, unknown ones too */
	size_t depth;  /* 1 is a message without submessages; at most GUARD_DEPTH_MAX */
};

extern const struct guard_limits guard_limits_default;

/* What a message that was let through will cost. */
struct guard_cost {
	size_t memory;
	size_t fields;
	size_t depth;
};

/*
 * Whether ${len} bytes at ${data} can be unpacked as ${desc} within ${limits}; NULL
 * takes guard_limits_default. ${cost} is filled when the result is GUARD_OK, and may
 * be NULL. Any thread; time is linear in ${len}.
 */
enum guard_result guard_check(const ProtobufCMessageDescriptor *desc, const uint8_t *data,
    size_t len, const struct guard_limits *limits, struct guard_cost *cost);

/* A clause for an error message, such as "message is nested too deep". */
const char *guard_text(enum guard_result result);

/* The gRPC status code to answer with: 0, 3 (INVALID_ARGUMENT) or 8 (RESOURCE_EXHAUSTED). */
int guard_status(enum guard_result result);

/* Whether a text may go into a string field: UTF-8 and no NUL. Peers refuse a whole
 * message for one text that may not. */
bool guard_is_text(const char *text, size_t len);

#endif
