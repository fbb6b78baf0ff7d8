/* rpc/ssh_wire.h: SSH's strings and numbers (RFC 4251, section 5). Inside of rpc only. */
#ifndef RPC_SSH_WIRE_H
#define RPC_SSH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is left to read. A failed read sticks: it empties the rest. */
struct ssh_wire_in {
	const uint8_t *at;
	size_t left;
	bool failed;
};

uint32_t ssh_wire_u32(struct ssh_wire_in *);

/* A string's bytes, which point into the input. */
const uint8_t *ssh_wire_string(struct ssh_wire_in *, size_t *len);
bool ssh_wire_is(struct ssh_wire_in *, const char *text); /* the next string is this text */

/* Everything was read, and nothing failed. */
bool ssh_wire_done(const struct ssh_wire_in *);

/* Into ${at} of ${size} bytes; a write that does not fit sticks as ${failed}. */
struct ssh_wire_out {
	uint8_t *at;
	size_t len, size;
	bool failed;
};

void ssh_wire_put(struct ssh_wire_out *, const void *, size_t);
void ssh_wire_put_u32(struct ssh_wire_out *, uint32_t);
void ssh_wire_put_string(struct ssh_wire_out *, const void *, size_t);
void ssh_wire_put_text(struct ssh_wire_out *, const char *);

#endif
