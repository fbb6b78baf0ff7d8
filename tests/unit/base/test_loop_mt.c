/* Loops that others post to: nothing lost, in order, on the loop's own thread. */
#include "base/loop.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "latch.h"
#include "leaks.h"

#define THREADS 4
#define POSTS   5000

struct runner {
	struct loop *loop;
	pthread_t thread;
};

static void *run_loop(void *arg)
{
	loop_run(((struct runner *)arg)->loop);
	return NULL;
}

static void start(struct runner *r, unsigned index)
{
	struct err e;

	r->loop = loop_create(index, &e);
	assert_non_null(r->loop);
	assert_int_equal(pthread_create(&r->thread, NULL, run_loop, r), 0);
}

static void finish(struct runner *r)
{
	loop_stop(r->loop);
	pthread_join(r->thread, NULL);
	loop_free(r->loop);
}

/* Posts of one thread; the loop's thread alone touches what is behind "of the loop". */
struct poster {
	struct loop *loop;
	pthread_t thread;
	struct message *messages;
	unsigned next, out_of_order, elsewhere; /* of the loop */
};

struct message {
	struct post post;
	struct poster *poster;
	unsigned number;
};

static void count_message(struct post *p)
{
	struct message *m = (struct message *)p;
	struct poster *poster = m->poster;

	poster->out_of_order += m->number != poster->next++;
	poster->elsewhere += !loop_is_current(poster->loop);
}

static void *post_all(void *arg)
{
	struct poster *p = arg;

	for (unsigned i = 0; i < POSTS; i++) {
		p->messages[i] =
		    (struct message){ .post.run = count_message, .poster = p, .number = i };
		loop_post(p->loop, &p->messages[i].post);
	}
	return NULL;
}

/* With a loop that runs, and with one that does not until all have been posted. */
static void post_from_threads(bool running)
{
	struct poster posters[THREADS] = { 0 };
	struct runner r;
	struct err e;

	if (running)
		start(&r, 0);
	else
		r.loop = loop_create(0, &e);
	for (unsigned i = 0; i < THREADS; i++) {
		posters[i].loop = r.loop;
		posters[i].messages = calloc(POSTS, sizeof(*posters[i].messages));
		assert_int_equal(
		    pthread_create(&posters[i].thread, NULL, post_all, &posters[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(posters[i].thread, NULL);
	if (running) {
		assert_false(loop_is_current(r.loop));
		finish(&r); /* what is left runs here */
	} else {
		loop_run_idle(r.loop);
		loop_free(r.loop);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		assert_int_equal(posters[i].next, POSTS);
		assert_int_equal(posters[i].out_of_order, 0);
		assert_int_equal(posters[i].elsewhere, 0);
		free(posters[i].messages);
	}
}

static void test_posts_of_many(void **state)
{
	(void)state;
	post_from_threads(true);
	post_from_threads(false);
}

/* A message that is sent back and forth. */
struct ball {
	struct post post;
	struct loop *loops[2];
	unsigned crossings, elsewhere;
	struct latch *landed;
};

static void hit(struct post *p)
{
	struct ball *b = (struct ball *)p;

	b->elsewhere += !loop_is_current(b->loops[b->crossings % 2]);
	if (++b->crossings < POSTS)
		loop_post(b->loops[b->crossings % 2], p);
	else
		latch_reach(b->landed);
}

static void test_across_two_loops(void **state)
{
	struct runner r[2];
	struct ball balls[3];
	struct latch landed;

	(void)state;
	latch_init(&landed, 3);
	for (unsigned i = 0; i < 2; i++)
		start(&r[i], i);
	for (unsigned i = 0; i < 3; i++) {
		balls[i] = (struct ball){
			.post.run = hit, .loops = { r[0].loop, r[1].loop }, .landed = &landed
		};
		loop_post(r[0].loop, &balls[i].post);
	}
	latch_wait(&landed);
	finish(&r[0]);
	finish(&r[1]);
	latch_free(&landed);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(balls[i].crossings, POSTS);
		assert_int_equal(balls[i].elsewhere, 0);
	}
}

/* Stops that meet a loop before, while and after it looks. */
static void test_stops(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 300; i++) {
		struct runner r;

		start(&r, 0);
		if (i % 3 == 0)
			sched_yield();
		finish(&r);
	}
}

/* A slice made on the loop's thread and given away comes back to its pool. */
struct parcel {
	struct post post;
	struct loop *from, *to;
	struct slice slice;
	unsigned rounds, wrong;
	struct latch *home;
};

static void unpack(struct post *p);

static void pack(struct post *p)
{
	struct parcel *parcel = (struct parcel *)p;
	size_t room;
	uint8_t *at;

	if (parcel->rounds == 0) {
		latch_reach(parcel->home);
		return;
	}
	if ((at = loop_recv_reserve(parcel->from, 4096, &room)) != NULL) {
		for (size_t i = 0; i < 4096; i++)
			at[i] = (uint8_t)parcel->rounds;
		parcel->slice = loop_recv_take(parcel->from, 4096);
	}
	p->run = unpack;
	loop_post(parcel->to, p);
}

static void unpack(struct post *p)
{
	struct parcel *parcel = (struct parcel *)p;

	parcel->wrong += parcel->slice.len != 4096;
	for (size_t i = 0; i < parcel->slice.len; i++)
		parcel->wrong += parcel->slice.data[i] != (uint8_t)parcel->rounds;
	slice_release(&parcel->slice);
	parcel->rounds--;
	p->run = pack;
	loop_post(parcel->from, p);
}

static void test_received_here_released_there(void **state)
{
	struct runner r[2];
	struct parcel parcels[8];
	struct latch home;

	(void)state;
	latch_init(&home, 8);
	start(&r[0], 0);
	start(&r[1], 1);
	for (unsigned i = 0; i < 8; i++) {
		parcels[i] = (struct parcel){ .post.run = pack,
			.from = r[0].loop,
			.to = r[1].loop,
			.rounds = 200,
			.home = &home };
		loop_post(r[0].loop, &parcels[i].post);
	}
	latch_wait(&home);
	finish(&r[0]);
	finish(&r[1]);
	latch_free(&home);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(parcels[i].wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		leaks_test(test_posts_of_many),
		leaks_test(test_across_two_loops),
		leaks_test(test_stops),
		leaks_test(test_received_here_released_there),
	};
	struct err e;

	/* The first loop opens a pipe that libuv keeps for good. */
	loop_free(loop_create(0, &e));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
