/*
 * relay/ends.h: a loop, a descriptor as fdio, and the other end of it in the test's hands.
 */
#ifndef TESTS_RELAY_ENDS_H
#define TESTS_RELAY_ENDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "relay/fdio.h"

#define ENDS_WAIT_MS 10000

/* What an fdio has said. Credit is given back at once, unless ${hold}. */
struct end {
	struct loop *loop;
	struct fdio *fdio; /* NULL: freed */
	bool hold;
	uint8_t *got;
	size_t len, cap;
	size_t owed, largest; /* of credit; of the slices */
	uint64_t sent;
	unsigned datas, eofs, read_fails, write_fails;
	struct err why;
	unsigned free_at; /* frees itself in a callback: the END_IN_* of it */
};

#define END_IN_DATA   1u
#define END_IN_EOF    2u
#define END_IN_SENT   4u
#define END_IN_FAILED 8u

/* ${window}: as in fdio_options. Takes the descriptors; ends the test if they are none. */
void end_open(struct end *, struct loop *, int read_fd, int write_fd, size_t window);
void end_close(struct end *);

/* Writes ${len} bytes of the pattern that begins at ${from} of it. */
void end_write(struct end *, uint64_t from, size_t len);
void end_give_credit(struct end *, size_t bytes);

/* The pattern: no two parts of it that could be mistaken for each other are alike. */
uint8_t end_byte(uint64_t at);
bool end_is_pattern(const uint8_t *, size_t len, uint64_t from);

/* Runs the loop until ${is} says so; ends the test if that takes ENDS_WAIT_MS. ${is} may
 * do what the other end does meanwhile. */
void ends_wait(struct loop *, bool (*is)(void *cookie), void *cookie);

/* Runs the loop for so long; how much processor time it took, in milliseconds. */
uint64_t ends_idle(struct loop *, uint32_t ms);

#endif
