/*
 * Races for a way out: while paths are opened, made and removed, a thread exchanges a directory
 * on the way with a link that leads out. What is outside is never reached; the garden's teardown
 * checks that nothing came or went there.
 */
#include "base/beneath.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "garden.h"

#define SWAPS_MIN    100
#define OPENS_MIN    6000
#define ROUNDS_MIN   500
#define REMOVALS_MIN 8000 /* few of them are in the right moment */
#define TRY_MS       5000 /* the most that one race takes */
#define LONG         40   /* times all of it with $TOWLINE_LONG: a million operations */

/* Exchanges a directory and a link that leads out, over and over. */
struct swapper {
	const struct garden *garden;
	const char *one, *other;
	pthread_t thread;
	atomic_bool stop;
	atomic_ulong swaps;
};

static void *swap(void *arg)
{
	struct swapper *s = arg;

	while (!atomic_load(&s->stop)) {
		/* It fails while one of them is not there. */
		if (renameat2(
			s->garden->root, s->one, s->garden->root, s->other, RENAME_EXCHANGE) == 0)
			atomic_fetch_add(&s->swaps, 1);
	}
	return NULL;
}

static void start_swapping(
    struct swapper *s, const struct garden *g, const char *one, const char *other)
{
	*s = (struct swapper){ .garden = g, .one = one, .other = other };
	assert_int_equal(pthread_create(&s->thread, NULL, swap, s), 0);
}

static void stop_swapping(struct swapper *s)
{
	atomic_store(&s->stop, true);
	pthread_join(s->thread, NULL);
	assert_true(atomic_load(&s->swaps) > 0);
	if (atomic_load(&s->swaps) % 2 == 1)
		renameat2(s->garden->root, s->one, s->garden->root, s->other, RENAME_EXCHANGE);
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* How often it went well and how often not; a test wants to have seen both. */
struct outcomes {
	unsigned well, badly;
	uint64_t until;
};

static bool seen_enough(struct outcomes *o, unsigned min, struct swapper *s)
{
	unsigned times = getenv("TOWLINE_LONG") != NULL ? LONG : 1;

	min *= times;
	if (o->until == 0)
		o->until = now_ms() + (uint64_t)TRY_MS * times;
	return (o->well + o->badly >= min && o->well > 0 && o->badly > 0 &&
		   atomic_load(&s->swaps) >= SWAPS_MIN) ||
	    now_ms() > o->until;
}

/* Refusals that say what is the case: a link, one that leads out, or too much going on. */
static void assert_refusal(const struct err *e)
{
	assert_true(e->code == GRPC_PERMISSION_DENIED || e->code == GRPC_FAILED_PRECONDITION ||
	    e->code == GRPC_ABORTED || e->code == GRPC_NOT_FOUND);
}

/* A file of the name of the one outside, and one more link to there: beneath "/" as its root
 * "../out" is within. */
static void put_baits(struct garden *g)
{
	assert_int_equal(linkat(g->root, "file", g->root, "a/secret", 0), 0);
	assert_int_equal(symlinkat(leak_path(g->leak, "out"), g->root, "away"), 0);
}

static void race_opens(
    struct garden *g, const char *path, enum beneath_links links, const char *link)
{
	struct outcomes o = { 0 };
	struct swapper s;

	start_swapping(&s, g, "a", link);
	while (!seen_enough(&o, OPENS_MIN, &s)) {
		struct err e = { 0 };
		int fd = beneath_open(g->root, path, O_RDONLY, 0, links, &e);

		if (fd >= 0) {
			assert_true(garden_is_inside(fd));
			o.well++;
		} else {
			assert_refusal(&e);
			o.badly++;
		}
	}
	stop_swapping(&s);
	assert_true(o.well > 0 && o.badly > 0);
}

static void test_opens(void **state)
{
	struct garden *g = *state;

	put_baits(g);
	race_opens(g, "a/secret", BENEATH_FOLLOW, "out");
	race_opens(g, "a/secret", BENEATH_FOLLOW, "away");
	race_opens(g, "a/secret", BENEATH_IN_ROOT, "away");
	race_opens(g, "a/secret", BENEATH_NO_LINKS, "out");
}

/* ".." of a directory that is being moved: below a link outside it would be the folder of both. */
static void test_opens_by_the_parent(void **state)
{
	struct garden *g = *state;

	put_baits(g);
	assert_int_equal(mkdirat(g->root, "a/b", 0700), 0);
	race_opens(g, "a/b/../../file", BENEATH_FOLLOW, "out");
	race_opens(g, "a/b/../../a/b/../file", BENEATH_IN_ROOT, "away");
}

static void test_creates(void **state)
{
	struct garden *g = *state;
	struct outcomes o = { 0 };
	struct swapper s;

	start_swapping(&s, g, "a", "out");
	while (!seen_enough(&o, OPENS_MIN, &s)) {
		char last[BENEATH_NAME_MAX];
		struct err e = { 0 };
		int fd =
		    beneath_open(g->root, "a/new", O_WRONLY | O_CREAT, 0600, BENEATH_FOLLOW, &e);

		if (fd < 0) {
			assert_refusal(&e);
			o.badly++;
			continue;
		}
		close(fd);
		o.well++;
		fd = beneath_parent(g->root, "a/new", false, BENEATH_NO_LINKS, last, &e);
		if (fd >= 0) {
			unlinkat(fd, last, 0);
			close(fd);
		}
	}
	stop_swapping(&s);
	assert_true(o.well > 0 && o.badly > 0);
}

static void test_directories(void **state)
{
	struct garden *g = *state;
	struct outcomes o = { 0 };
	struct swapper s;

	start_swapping(&s, g, "a", "out");
	while (!seen_enough(&o, ROUNDS_MIN, &s)) {
		struct err e = { 0 };

		if (beneath_mkdir(g->root, "a/x/y/z", 0700, BENEATH_FOLLOW, &e) == 0) {
			o.well++;
		} else {
			assert_refusal(&e);
			o.badly++;
		}
		if (beneath_remove_tree(g->root, "a/x", &e) != 0)
			assert_refusal(&e);
	}
	stop_swapping(&s);
	assert_true(o.well > 0 && o.badly > 0);
}

/* A tree of which a directory becomes a link while it is removed: the link goes, not what it
 * leads to. */
static void test_removal(void **state)
{
	struct garden *g = *state;
	struct outcomes o = { 0 };
	struct swapper s;

	start_swapping(&s, g, "tree/x", "out");
	while (!seen_enough(&o, REMOVALS_MIN, &s)) {
		char last[BENEATH_NAME_MAX];
		struct err e = { 0 };
		int fd = beneath_parent(g->root, "tree/x/f", true, BENEATH_NO_LINKS, last, &e);

		if (fd >= 0)
			close(fd);
		if (beneath_remove_tree(g->root, "tree", &e) == 0)
			o.well++;
		else
			o.badly++; /* it was not empty when it should have been */
		/* The link may have gone with the tree, and a directory be in its place. */
		beneath_remove_tree(g->root, "out", &e);
		if (symlinkat("../out", g->root, "out") != 0)
			assert_int_equal(errno, EEXIST);
	}
	stop_swapping(&s);
	assert_true(o.well > 0);
	assert_int_equal(beneath_remove_tree(g->root, "tree", NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		garden_test(test_opens),
		garden_test(test_opens_by_the_parent),
		garden_test(test_creates),
		garden_test(test_directories),
		garden_test(test_removal),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
