/* Pieces of one upload: who may write which, what is durable, and what stays. */
#include "transfer/pieces.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/digest.h"
#include "support/alloc.h"
#include "support/leak.h"
#include "transfer/part.h"
#include "transfer/place.h"

#define SIZE ((uint64_t)1000)

struct fixture {
	struct leak *leak;
	struct claims *claims;
	struct pieces_board *board;
	int dir, slash;
	uint8_t content[SIZE];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->leak = leak_begin();
	f->claims = claims_create();
	f->board = pieces_board_create();
	f->dir = open(leak_folder(f->leak), O_PATH | O_DIRECTORY | O_CLOEXEC);
	f->slash = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < SIZE; i++)
		f->content[i] = (uint8_t)(i * 7);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int r;

	pieces_board_free(f->board);
	claims_free(f->claims);
	close(f->dir);
	close(f->slash);
	r = leak_end(f->leak);
	free(f);
	return r;
}

static struct pieces_wanted wanted(const struct fixture *f, uint64_t begin, uint64_t end)
{
	return (struct pieces_wanted){ .claims = f->claims,
		.dir = f->dir,
		.target = "f",
		.begun = { .id = "id", .size_known = true, .size = SIZE, .writer = 1 },
		.range = { begin, end } };
}

static void joins(struct fixture *f, struct piece *p, const struct pieces_wanted *w, bool is_first)
{
	struct err err = { 0 };
	bool first;

	if (pieces_join(f->board, p, w, &first, &err) != 0)
		fail_msg("%s: %s", err_code_name(err.code), err.text);
	assert_int_equal(first, is_first);
}

static void refused(struct fixture *f, const struct pieces_wanted *w, enum grpc_code code)
{
	struct piece p = { 0 };
	struct err err = { 0 };
	bool first;

	assert_int_equal(pieces_join(f->board, &p, w, &first, &err), -1);
	if (err.code != code)
		fail_msg("%s: %s", err_code_name(err.code), err.text);
	piece_leave(&p);
}

/* Writes [from, to) of the file, and syncs it. */
static void writes(struct fixture *f, struct piece *p, uint64_t from, uint64_t to)
{
	struct err err = { 0 };

	assert_int_equal(
	    pwrite(p->fd, f->content + from, to - from, (off_t)from), (ssize_t)(to - from));
	assert_int_equal(piece_sync(p, to, &err), 0);
}

static void assert_durable(struct fixture *f, struct ranges want)
{
	struct journal j = { 0 };
	struct err err = { 0 };

	assert_int_equal(part_query(f->dir, "f", "id", &j, &err), 0);
	assert_int_equal(j.durable.count, want.count);
	assert_memory_equal(&j.durable, &want, sizeof(want));
}

static void forget(struct fixture *f)
{
	struct err err = { 0 };

	assert_int_equal(part_forget(f->dir, "f", "id", &err), 0);
}

static void one_writer_at_a_time(void **state)
{
	struct fixture *f = *state;
	struct pieces_wanted a = wanted(f, 0, 500), b = wanted(f, 500, SIZE);
	struct piece first = { 0 }, second = { 0 };

	joins(f, &first, &a, true);
	joins(f, &second, &b, false);
	refused(f, &a, GRPC_ABORTED);
	struct pieces_wanted other = wanted(f, 0, 10);
	other.begun.writer = 2;
	refused(f, &other, GRPC_ABORTED);
	piece_leave(&first);
	refused(f, &other, GRPC_ABORTED);
	other = wanted(f, 0, 10);
	memcpy(other.begun.id, "another", sizeof("another"));
	refused(f, &other, GRPC_ABORTED);
	other = wanted(f, 0, 10);
	other.begun.size++;
	refused(f, &other, GRPC_FAILED_PRECONDITION);
	other = wanted(f, 0, 10);
	other.begun.promise = 1;
	refused(f, &other, GRPC_FAILED_PRECONDITION);
	other = wanted(f, 0, 10);
	other.target = "g"; /* of a file of its own */
	joins(f, &first, &other, true);
	piece_leave(&first);
	piece_leave(&second);
	piece_leave(&second);
	other = wanted(f, 0, 10);
	other.begun.writer = 2;
	joins(f, &first, &other, true);
	piece_leave(&first);
}

/* An upload in one stream has a claim of the same kind. */
static void neither_with_another_upload(void **state)
{
	struct fixture *f = *state;
	struct pieces_wanted w = wanted(f, 0, 500);
	struct claim_target target;
	struct claim claim = { 0 };
	struct piece p = { 0 };
	struct err err = { 0 };

	assert_int_equal(claim_target_of(&target, f->dir, "f", &err), 0);
	assert_int_equal(claims_take(f->claims, &claim, &target, &err), 0);
	refused(f, &w, GRPC_ABORTED);
	claims_drop(&claim);
	joins(f, &p, &w, true);
	assert_int_equal(claims_take(f->claims, &claim, &target, &err), -1);
	piece_leave(&p);
	assert_int_equal(claims_take(f->claims, &claim, &target, &err), 0);
	claims_drop(&claim);
}

static void what_is_durable_stays(void **state)
{
	struct fixture *f = *state;
	struct pieces_wanted a = wanted(f, 0, 500), b = wanted(f, 500, SIZE);
	struct piece first = { 0 }, second = { 0 };

	joins(f, &first, &a, true);
	joins(f, &second, &b, false);
	writes(f, &first, 0, 100);
	writes(f, &second, 500, 700);
	assert_durable(f, (struct ranges){ .count = 2, .at = { { 0, 100 }, { 500, 700 } } });
	piece_leave(&first);
	piece_leave(&second);
	assert_durable(f, (struct ranges){ .count = 2, .at = { { 0, 100 }, { 500, 700 } } });
	/* What is sent again is not durable meanwhile, and what was wrong is not either. */
	struct pieces_wanted again = wanted(f, 600, 650);
	joins(f, &first, &again, true);
	assert_durable(
	    f, (struct ranges){ .count = 3, .at = { { 0, 100 }, { 500, 600 }, { 650, 700 } } });
	writes(f, &first, 600, 650);
	assert_durable(f, (struct ranges){ .count = 2, .at = { { 0, 100 }, { 500, 700 } } });
	piece_forget(&first);
	piece_leave(&first);
	assert_durable(
	    f, (struct ranges){ .count = 3, .at = { { 0, 100 }, { 500, 600 }, { 650, 700 } } });
	forget(f);
}

static void nothing_durable_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	struct pieces_wanted a = wanted(f, 0, 500);
	struct piece p = { 0 };

	joins(f, &p, &a, true);
	assert_int_equal(pwrite(p.fd, "x", 1, 0), 1);
	piece_leave(&p);
	/* The folder is empty, or the fixture says so. */
}

static void a_journal_has_room_for_so_many(void **state)
{
	struct fixture *f = *state;
	struct piece pieces[RANGES_MAX] = { 0 };
	struct pieces_wanted w;

	for (uint64_t i = 0; i < RANGES_MAX; i++) {
		w = wanted(f, 20 * i + 10, 20 * i + 20);
		joins(f, &pieces[i], &w, i == 0);
	}
	w = wanted(f, 900, 910);
	refused(f, &w, GRPC_RESOURCE_EXHAUSTED);
	for (uint64_t i = 0; i < RANGES_MAX; i++) {
		writes(f, &pieces[i], 20 * i + 10, 20 * i + 20);
		if (i < RANGES_MAX - 1)
			piece_leave(&pieces[i]);
	}
	refused(f, &w, GRPC_RESOURCE_EXHAUSTED);
	w = wanted(f, 20, 30); /* between two of them */
	joins(f, &pieces[0], &w, false);
	writes(f, &pieces[0], 20, 30);
	w = wanted(f, 900, 910);
	joins(f, &pieces[1], &w, false);
	for (size_t i = 0; i < RANGES_MAX; i++)
		piece_leave(&pieces[i]);
	forget(f);
}

/* The whole way, with the end that puts it in its place. */

static struct place_options options(const struct fixture *f, uint64_t offset, uint64_t bytes)
{
	return (struct place_options){ .workdir = f->dir,
		.slash = f->slash,
		.path = "f",
		.size_known = true,
		.size = SIZE,
		.id = "id",
		.offset = offset,
		.piece_bytes = bytes,
		.writer = bytes > 0 ? 1 : 0,
		.board = f->board,
		.claims = f->claims,
		.expiry_ms = 1000000 };
}

static int put(struct fixture *f, uint64_t offset, uint64_t bytes, struct err *err)
{
	struct place_options o = options(f, offset, bytes);
	uint8_t digest[DIGEST_SIZE], want[DIGEST_SIZE];
	uint64_t put;
	struct place *p = place_open(&o, err);

	if (p == NULL)
		return -1;
	while (!place_is_ready(p))
		if (place_prepare(p, err) != 0) {
			place_suspend(p);
			return -1;
		}
	if (bytes > 0 && place_write(p, f->content + offset, bytes, err) != 0) {
		place_suspend(p);
		return -1;
	}
	if (place_commit(p, &put, digest, err) != 0)
		return -1;
	assert_int_equal(put, bytes > 0 ? bytes : SIZE);
	digest_of(bytes > 0 ? f->content + offset : f->content, put, want);
	assert_memory_equal(digest, want, sizeof(want));
	return 0;
}

static int put_all(struct fixture *f, struct err *err)
{
	return put(f, 600, 400, err) == 0 && put(f, 0, 300, err) == 0 &&
		put(f, 300, 300, err) == 0 && put(f, SIZE, 0, err) == 0
	    ? 0
	    : -1;
}

static void in_its_place(struct fixture *f)
{
	uint8_t got[SIZE + 1];
	int fd = openat(f->dir, "f", O_RDONLY | O_CLOEXEC);

	assert_int_equal(read(fd, got, sizeof(got)), SIZE);
	assert_memory_equal(got, f->content, SIZE);
	close(fd);
	unlinkat(f->dir, "f", 0);
}

static void all_of_them_are_the_file(void **state)
{
	struct fixture *f = *state;
	struct err err = { 0 };

	assert_int_equal(put(f, 0, 300, &err), 0);
	assert_int_equal(put(f, SIZE, 0, &err), -1);
	assert_int_equal(err.code, GRPC_OUT_OF_RANGE);
	err_clear(&err);
	if (put_all(f, &err) != 0)
		fail_msg("%s", err.text);
	in_its_place(f);
}

/* With the same id, after all has ended well: it is another file. */
static void and_once_more(void **state)
{
	struct fixture *f = *state;
	struct err err = { 0 };

	assert_int_equal(put_all(f, &err), 0);
	memset(f->content, 'x', SIZE);
	if (put_all(f, &err) != 0)
		fail_msg("%s", err.text);
	in_its_place(f);
}

static void in_pieces(void *cookie)
{
	struct fixture *f = cookie;
	struct place_options o = options(f, 0, 0);
	struct err err = { 0 };

	if (put_all(f, &err) == 0)
		in_its_place(f);
	else
		assert_true(alloc_has_failed());
	alloc_hold();
	place_forget(&o, NULL);
	alloc_release();
}

static void no_memory_no_harm(void **state)
{
	alloc_torture(in_pieces, *state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_writer_at_a_time),
		TEST(neither_with_another_upload),
		TEST(what_is_durable_stays),
		TEST(nothing_durable_leaves_nothing),
		TEST(a_journal_has_room_for_so_many),
		TEST(all_of_them_are_the_file),
		TEST(and_once_more),
		TEST(no_memory_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
