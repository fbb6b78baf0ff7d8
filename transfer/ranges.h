/*
 * transfer/ranges.h: which bytes of a file: a few ranges, in order and apart from each
 * other. Zeroed, it is none. Pure functions.
 */
#ifndef TRANSFER_RANGES_H
#define TRANSFER_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RANGES_MAX 20 /* what a slot of a journal has room for */

struct range {
	uint64_t begin, end; /* the first byte, and the one behind the last */
};

struct ranges {
	size_t count;
	struct range at[RANGES_MAX]; /* each ends before the next begins */
};

/* False: it would be more than RANGES_MAX, and nothing has changed. */
bool ranges_add(struct ranges *, struct range);
bool ranges_remove(struct ranges *, struct range);

/* Whether they are as they have to be. */
bool ranges_are_sound(const struct ranges *);

bool ranges_overlap(const struct ranges *, struct range);

/* Whether all of it is in one of them. */
bool ranges_have(const struct ranges *, struct range);

/* Whether ${offset} is in one of them or where one ends: what is added there makes none more. */
bool ranges_touch(const struct ranges *, uint64_t offset);

uint64_t ranges_prefix(const struct ranges *); /* bytes from 0 on */
uint64_t ranges_bytes(const struct ranges *);  /* in sum */
uint64_t ranges_end(const struct ranges *);    /* of the last */

/* The first that is missing of ${size} bytes. */
bool ranges_gap(const struct ranges *, uint64_t size, struct range *gap);

#endif
