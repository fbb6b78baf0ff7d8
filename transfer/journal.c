#include "transfer/journal.h"

#include <string.h>

#include "base/digest.h"

#define VERSION 4

/* Where things are in a slot; numbers are little-endian. */
enum field {
	FIELD_MAGIC = 0,
	FIELD_VERSION = 8,
	FIELD_FLAGS = 12,
	FIELD_SEQUENCE = 16,
	FIELD_SIZE = 24,
	FIELD_PROMISE = 32,
	FIELD_COUNT = 36, /* of ranges */
	FIELD_EXPECTED = 40,
	FIELD_ID = 72, /* with NULs to its end */
	FIELD_BOOT = FIELD_ID + JOURNAL_ID_MAX,
	FIELD_STORED = FIELD_BOOT + 8,
	FIELD_WRITER = FIELD_STORED + 8,
	FIELD_RANGES = FIELD_WRITER + 8,
	FIELD_CHECKSUM = FIELD_RANGES + RANGES_MAX * 16,
};

_Static_assert(FIELD_CHECKSUM + DIGEST_SIZE <= JOURNAL_SLOT, "a slot has room for all");

#define FLAG_SIZE_KNOWN 1U

static const char magic[8] = "TOWLJRNL";

static void put(uint8_t *at, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get(const uint8_t *at, size_t bytes)
{
	uint64_t value = 0;

	for (size_t i = bytes; i > 0; i--)
		value = value << 8 | at[i - 1];
	return value;
}

void journal_encode(const struct journal *j, uint8_t slot[static JOURNAL_SLOT])
{
	memset(slot, 0, JOURNAL_SLOT);
	memcpy(slot + FIELD_MAGIC, magic, sizeof(magic));
	put(slot + FIELD_VERSION, VERSION, 4);
	put(slot + FIELD_FLAGS, j->size_known ? FLAG_SIZE_KNOWN : 0, 4);
	put(slot + FIELD_SEQUENCE, j->sequence, 8);
	put(slot + FIELD_SIZE, j->size, 8);
	put(slot + FIELD_PROMISE, j->promise, 4);
	put(slot + FIELD_COUNT, j->durable.count, 4);
	for (size_t i = 0; i < j->durable.count; i++) {
		put(slot + FIELD_RANGES + 16 * i, j->durable.at[i].begin, 8);
		put(slot + FIELD_RANGES + 16 * i + 8, j->durable.at[i].end, 8);
	}
	memcpy(slot + FIELD_EXPECTED, j->expected, sizeof(j->expected));
	memcpy(slot + FIELD_ID, j->id, strnlen(j->id, JOURNAL_ID_MAX));
	put(slot + FIELD_BOOT, j->boot, 8);
	put(slot + FIELD_STORED, j->stored_s, 8);
	put(slot + FIELD_WRITER, j->writer, 8);
	digest_of(slot, FIELD_CHECKSUM, slot + FIELD_CHECKSUM);
}

off_t journal_offset(const struct journal *j)
{
	return (off_t)(j->sequence % 2 * JOURNAL_SLOT);
}

static bool decode_ranges(const uint8_t slot[static JOURNAL_SLOT], struct ranges *r)
{
	*r = (struct ranges){ .count = get(slot + FIELD_COUNT, 4) };
	for (size_t i = 0; i < r->count && i < RANGES_MAX; i++)
		r->at[i] = (struct range){ get(slot + FIELD_RANGES + 16 * i, 8),
			get(slot + FIELD_RANGES + 16 * i + 8, 8) };
	return ranges_are_sound(r);
}

static bool decode_slot(const uint8_t slot[static JOURNAL_SLOT], struct journal *j)
{
	uint8_t sum[DIGEST_SIZE];
	uint64_t flags = get(slot + FIELD_FLAGS, 4);

	if (memcmp(slot + FIELD_MAGIC, magic, sizeof(magic)) != 0 ||
	    get(slot + FIELD_VERSION, 4) != VERSION)
		return false;
	digest_of(slot, FIELD_CHECKSUM, sum);
	if (memcmp(slot + FIELD_CHECKSUM, sum, sizeof(sum)) != 0)
		return false;
	*j = (struct journal){
		.sequence = get(slot + FIELD_SEQUENCE, 8),
		.size_known = (flags & FLAG_SIZE_KNOWN) != 0,
		.size = get(slot + FIELD_SIZE, 8),
		.promise = (uint32_t)get(slot + FIELD_PROMISE, 4),
		.boot = get(slot + FIELD_BOOT, 8),
		.stored_s = get(slot + FIELD_STORED, 8),
		.writer = get(slot + FIELD_WRITER, 8),
	};
	memcpy(j->expected, slot + FIELD_EXPECTED, sizeof(j->expected));
	memcpy(j->id, slot + FIELD_ID, JOURNAL_ID_MAX);
	/* A checksum keeps accidents out, not somebody who writes one: so no number here may
	 * be one that arithmetic with it would trip over. */
	return decode_ranges(slot, &j->durable) && j->size <= INT64_MAX &&
	    ranges_end(&j->durable) <= (j->size_known ? j->size : INT64_MAX) &&
	    journal_id_is_valid(j->id);
}

bool journal_decode(const uint8_t *bytes, size_t len, struct journal *j)
{
	struct journal slot;
	bool found = false;

	for (size_t at = 0; at + JOURNAL_SLOT <= len && at < JOURNAL_SIZE; at += JOURNAL_SLOT) {
		if (!decode_slot(bytes + at, &slot) || (found && slot.sequence < j->sequence))
			continue;
		*j = slot;
		found = true;
	}
	return found;
}

bool journal_id_is_valid(const char *id)
{
	static const char allowed[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
	size_t len = strnlen(id, JOURNAL_ID_MAX + 1);

	return len > 0 && len <= JOURNAL_ID_MAX && strspn(id, allowed) == len;
}
