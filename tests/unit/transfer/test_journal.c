/* What is read from a journal is what was written, or nothing. */
#include "transfer/journal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct journal sample(uint64_t sequence, uint64_t durable)
{
	struct journal j = { .sequence = sequence,
		.durable = { .count = durable > 0, .at = { { 0, durable } } },
		.size_known = true,
		.size = 1000,
		.promise = 2,
		.id = "an_Upload-1",
		.boot = 17,
		.stored_s = sequence + 60,
		.writer = 1234567890123 };

	memset(j.expected, 7, sizeof(j.expected));
	return j;
}

static void assert_same(const struct journal *a, const struct journal *b)
{
	assert_int_equal(a->sequence, b->sequence);
	assert_int_equal(a->durable.count, b->durable.count);
	assert_memory_equal(&a->durable, &b->durable, sizeof(a->durable));
	assert_int_equal(a->size_known, b->size_known);
	assert_int_equal(a->size, b->size);
	assert_int_equal(a->promise, b->promise);
	assert_memory_equal(a->expected, b->expected, sizeof(a->expected));
	assert_string_equal(a->id, b->id);
	assert_int_equal(a->boot, b->boot);
	assert_int_equal(a->stored_s, b->stored_s);
	assert_int_equal(a->writer, b->writer);
}

static void write_slot(uint8_t file[static JOURNAL_SIZE], const struct journal *j)
{
	journal_encode(j, file + journal_offset(j));
}

static void the_later_slot_counts(void **state)
{
	uint8_t file[JOURNAL_SIZE] = { 0 };
	struct journal got;

	(void)state;
	for (uint64_t i = 1; i < 10; i++) {
		struct journal j = sample(i, i * 100);
		write_slot(file, &j);
		assert_true(journal_decode(file, sizeof(file), &got));
		assert_same(&got, &j);
	}
}

static void an_id_may_be_the_longest(void **state)
{
	uint8_t file[JOURNAL_SIZE] = { 0 };
	struct journal j = sample(1, 0), got;

	(void)state;
	memset(j.id, 'x', JOURNAL_ID_MAX);
	j.id[JOURNAL_ID_MAX] = '\0';
	write_slot(file, &j);
	assert_true(journal_decode(file, sizeof(file), &got));
	assert_same(&got, &j);
	assert_true(journal_id_is_valid(j.id));
	assert_false(journal_id_is_valid(""));
	assert_false(journal_id_is_valid("a b"));
	assert_false(journal_id_is_valid("a/b"));
}

/* A write that stops at any byte leaves the state before it, or the one it wrote. */
static void a_torn_write_loses_one_state(void **state)
{
	struct journal before = sample(4, 400), after = sample(5, 500), got;

	(void)state;
	for (size_t n = 0; n <= JOURNAL_SLOT; n++) {
		uint8_t file[JOURNAL_SIZE] = { 0 }, slot[JOURNAL_SLOT];
		struct journal oldest = sample(3, 300);
		write_slot(file, &oldest);
		write_slot(file, &before);
		journal_encode(&after, slot);
		memcpy(file + journal_offset(&after), slot, n);
		assert_true(journal_decode(file, sizeof(file), &got));
		assert_true(got.sequence == 4 || got.sequence == 5);
		assert_same(&got, got.sequence == 4 ? &before : &after);
	}
}

static void every_flipped_bit_is_seen(void **state)
{
	uint8_t file[JOURNAL_SIZE] = { 0 };
	struct journal j = sample(2, 200), got;

	(void)state;
	write_slot(file, &j);
	for (size_t bit = 0; bit < 8 * 496; bit++) { /* fields and checksum */
		file[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_false(journal_decode(file, sizeof(file), &got));
		file[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_true(journal_decode(file, sizeof(file), &got));
}

static void cut_off_and_foreign_files_are_none(void **state)
{
	uint8_t file[JOURNAL_SIZE] = { 0 };
	struct journal j = sample(2, 200), got;

	(void)state;
	assert_false(journal_decode(file, 0, &got));
	assert_false(journal_decode(file, sizeof(file), &got));
	memset(file, 'x', sizeof(file));
	assert_false(journal_decode(file, sizeof(file), &got));
	write_slot(file, &j);
	for (size_t len = 0; len < JOURNAL_SLOT; len++)
		assert_false(journal_decode(file, len, &got));
	assert_true(journal_decode(file, JOURNAL_SLOT, &got));
}

/* Whole and signed, as somebody in the sandbox can make them, but not to be believed. */
static void what_cannot_be_is_none(void **state)
{
	struct journal bad[] = { sample(2, 1001), sample(2, UINT64_MAX), sample(2, 0),
		sample(2, 0) };
	struct journal got;

	(void)state;
	bad[1].size_known = false;
	bad[2].size = UINT64_MAX;
	bad[2].size_known = false;
	memcpy(bad[3].id, "../../etc", sizeof("../../etc"));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint8_t file[JOURNAL_SIZE] = { 0 };
		write_slot(file, &bad[i]);
		assert_false(journal_decode(file, sizeof(file), &got));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_later_slot_counts),
		cmocka_unit_test(an_id_may_be_the_longest),
		cmocka_unit_test(a_torn_write_loses_one_state),
		cmocka_unit_test(every_flipped_bit_is_seen),
		cmocka_unit_test(cut_off_and_foreign_files_are_none),
		cmocka_unit_test(what_cannot_be_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
