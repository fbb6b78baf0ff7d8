/*
 * Journals, as bytes and as a file beside a part file. Whatever they say, an upload goes on
 * with what is there, or begins at 0, or is refused; and what is decoded encodes again.
 * With an odd first byte the checksums are put right, as who writes one on purpose does.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "scratch.h"
#include "transfer/journal.h"
#include "transfer/part.h"

#define PART_BYTES 64
#define SIGNED     ((size_t)480) /* bytes of a slot that its checksum is of, and is behind */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_round_trip(const struct journal *j)
{
	uint8_t file[JOURNAL_SIZE] = { 0 };
	struct journal again;

	if (!ranges_are_sound(&j->durable) || ranges_end(&j->durable) > INT64_MAX ||
	    (j->size_known && ranges_end(&j->durable) > j->size) || !journal_id_is_valid(j->id))
		abort();
	journal_encode(j, file + journal_offset(j));
	if (!journal_decode(file, sizeof(file), &again) || again.sequence != j->sequence ||
	    memcmp(&again.durable, &j->durable, sizeof(j->durable)) != 0 || again.size != j->size ||
	    again.size_known != j->size_known || again.promise != j->promise ||
	    again.boot != j->boot || again.stored_s != j->stored_s || again.writer != j->writer ||
	    memcmp(again.expected, j->expected, sizeof(j->expected)) != 0 ||
	    strcmp(again.id, j->id) != 0)
		abort();
}

/* An upload of ${wanted} meets a part file of PART_BYTES with the bytes for a journal. */
static void check_resume(const struct journal *wanted, const uint8_t *data, size_t size)
{
	static const uint8_t content[PART_BYTES];
	struct part p;
	struct journal j;
	struct err err = { 0 };

	if (part_resume(&p, scratch_folder(), "f", wanted, 0, &err) != 0)
		abort();
	if (pwrite(p.fd, content, sizeof(content), 0) != sizeof(content) ||
	    ftruncate(p.journal, 0) != 0 || pwrite(p.journal, data, size, 0) != (ssize_t)size)
		abort();
	close(p.fd);
	close(p.journal);
	uint64_t offset = 0;
	if (part_query(scratch_folder(), "f", wanted->id, &j, &err) == 0)
		offset = ranges_prefix(&j.durable);
	if (offset > PART_BYTES)
		abort();
	err_clear(&err);
	if (part_resume(&p, scratch_folder(), "f", wanted, offset, &err) == 0)
		part_remove(&p);
	else if (err.code != GRPC_FAILED_PRECONDITION)
		abort();
	unlinkat(scratch_folder(), p.name, 0);
	unlinkat(scratch_folder(), p.journal_name, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct journal j, wanted = { .size_known = true, .size = 1000, .id = "id" };
	uint8_t file[2 * JOURNAL_SIZE];

	if (size == 0 || size - 1 > sizeof(file))
		return 0;
	memcpy(file, data + 1, size - 1);
	for (size_t at = 0; data[0] % 2 == 1 && at + JOURNAL_SLOT <= size - 1; at += JOURNAL_SLOT)
		digest_of(file + at, SIGNED, file + at + SIGNED);
	if (journal_decode(file, size - 1, &j)) {
		check_round_trip(&j);
		wanted = j;
	} else if (data[0] % 16 > 1) {
		return 0; /* files take their time */
	}
	check_resume(&wanted, file, size - 1);
	return 0;
}
