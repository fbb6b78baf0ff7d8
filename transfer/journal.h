/*
 * transfer/journal.h: what is written down about an upload, to go on with it later.
 *
 * A journal is two slots of JOURNAL_SLOT bytes, written in turn: a write that is torn by
 * a crash spoils one of them, and the other still tells an older state, which is as true
 * as it was. A slot counts when its magic, version and checksum are right; of two that
 * count the later one does. Nothing else in the bytes is believed: what is torn, foreign
 * or of another version is no journal. Pure functions.
 */
#ifndef TRANSFER_JOURNAL_H
#define TRANSFER_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "transfer/ranges.h"

#define JOURNAL_SLOT   ((size_t)512) /* a sector: what a disk writes whole */
#define JOURNAL_SIZE   (2 * JOURNAL_SLOT)
#define JOURNAL_ID_MAX 64 /* characters of an upload_id */

struct journal {
	uint64_t sequence;     /* of the slot it was read from; the next one to write is one more */
	struct ranges durable; /* what a sync has confirmed */
	bool size_known;
	uint64_t size;    /* of the whole file, as promised */
	uint32_t promise; /* enum place_digest: what ${expected} is */
	uint8_t expected[32];
	char id[JOURNAL_ID_MAX + 1];
	uint64_t boot;     /* clock_boot() of who wrote it; 0: unknown */
	uint64_t stored_s; /* and its clock_boot_s() then */
	uint64_t writer;   /* who sent all of it, in pieces; 0: several, or in one stream */
	bool adds_promise; /* not written down. Of what is wanted: one without a promise gets it */
};

/* The slot to write ${j} to is number j->sequence % 2. */
void journal_encode(const struct journal *, uint8_t slot[static JOURNAL_SLOT]);
off_t journal_offset(const struct journal *);

/* Takes a file of any length. False: it holds no journal. */
bool journal_decode(const uint8_t *bytes, size_t len, struct journal *);

/* Whether ${id} is 1 to JOURNAL_ID_MAX of [A-Za-z0-9_-]. */
bool journal_id_is_valid(const char *id);

#endif
