/* Pieces come, are written, synced and leave on several threads at a time. */
#include "transfer/pieces.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/leak.h"
#include "transfer/part.h"

#define WRITERS 4
#define PIECES  64 /* of the file, handed out in turn */
#define PIECE   ((uint64_t)512)
#define SIZE    (PIECES * PIECE)

struct fixture {
	struct leak *leak;
	struct claims *claims;
	struct pieces_board *board;
	int dir;
	atomic_uint next;
	atomic_uint sum; /* bytes that are durable, at least */
	atomic_bool over;
};

/* What a thread finds wrong; cmocka's assertions are for one. */
static const char *write_piece(struct fixture *f, unsigned number)
{
	uint64_t begin = number * PIECE;
	struct pieces_wanted w = { .claims = f->claims,
		.dir = f->dir,
		.target = "f",
		.begun = { .id = "id", .size_known = true, .size = SIZE, .writer = 1 },
		.range = { begin, begin + PIECE } };
	struct piece p = { 0 };
	struct err err = { 0 };
	uint8_t bytes[PIECE];
	bool first;

	memset(bytes, (int)number, sizeof(bytes));
	if (pieces_join(f->board, &p, &w, &first, &err) != 0)
		return "it was refused";
	if (pieces_join(f->board, &(struct piece){ 0 }, &w, &first, NULL) == 0)
		return "another got the same piece";
	for (uint64_t at = 0; at < PIECE; at += PIECE / 2)
		if (pwrite(p.fd, bytes + at, PIECE / 2, (off_t)(begin + at)) != PIECE / 2 ||
		    piece_sync(&p, begin + at + PIECE / 2, &err) != 0)
			return "it was not written";
	atomic_fetch_add(&f->sum, (unsigned)PIECE);
	piece_leave(&p);
	return NULL;
}

static void *run_writer(void *cookie)
{
	struct fixture *f = cookie;
	const char *wrong = NULL;

	for (unsigned n; wrong == NULL && (n = atomic_fetch_add(&f->next, 1)) < PIECES;)
		wrong = write_piece(f, n);
	return (void *)wrong;
}

/* What is told to be durable only grows. */
static void *run_asker(void *cookie)
{
	struct fixture *f = cookie;
	struct journal j;

	while (!atomic_load(&f->over)) {
		unsigned least = atomic_load(&f->sum);
		if (part_query(f->dir, "f", "id", &j, NULL) != 0)
			j.durable = (struct ranges){ 0 };
		if (ranges_bytes(&j.durable) < least)
			return "less is durable than was";
		usleep(200);
	}
	return NULL;
}

static void the_whole_file(void **state)
{
	struct fixture f = {
		.leak = leak_begin(), .claims = claims_create(), .board = pieces_board_create()
	};
	pthread_t writers[WRITERS], asker;
	void *wrong;
	struct journal j;

	(void)state;
	f.dir = open(leak_folder(f.leak), O_PATH | O_DIRECTORY | O_CLOEXEC);
	pthread_create(&asker, NULL, run_asker, &f);
	for (size_t i = 0; i < WRITERS; i++)
		pthread_create(&writers[i], NULL, run_writer, &f);
	for (size_t i = 0; i < WRITERS; i++) {
		pthread_join(writers[i], &wrong);
		assert_null(wrong);
	}
	atomic_store(&f.over, true);
	pthread_join(asker, &wrong);
	assert_null(wrong);

	assert_int_equal(part_query(f.dir, "f", "id", &j, NULL), 0);
	assert_int_equal(ranges_prefix(&j.durable), SIZE);
	assert_int_equal(j.writer, 1);
	assert_int_equal(part_forget(f.dir, "f", "id", NULL), 0);
	pieces_board_free(f.board);
	claims_free(f.claims);
	close(f.dir);
	assert_int_equal(leak_end(f.leak), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_whole_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
