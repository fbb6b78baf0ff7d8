#include "relay/handover.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

struct handover {
	struct loop *near, *far;

	struct pump_sink target; /* far loop only */
	bool far_left;
	struct bufq batch; /* taken from the queue; kept for its memory */

	void (*sent)(void *cookie, size_t bytes); /* near loop only */
	void *cookie;
	bool near_left;

	pthread_mutex_t lock;
	struct bufq queue;
	bool finish, stop; /* to be passed on */
	bool stopped;      /* why is set, once */
	struct err why;
	size_t credit;
	bool forth_posted, back_posted;

	struct post forth, back;
	atomic_uint refs; /* two sides, and each post under way */
};

static void handover_unref(struct handover *h)
{
	if (atomic_fetch_sub(&h->refs, 1) != 1)
		return;
	bufq_free(&h->queue);
	bufq_free(&h->batch);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

static void handover_deliver(struct handover *h, bool finish, bool stop)
{
	struct slice bytes;

	while (h->batch.count > 0) {
		bytes = bufq_pop(&h->batch, SIZE_MAX);
		if (h->far_left || h->target.write(h->target.self, bytes) != 0)
			slice_release(&bytes);
	}
	if (finish && !h->far_left)
		h->target.finish(h->target.self);
	if (stop && !h->far_left)
		h->target.stop(h->target.self, &h->why);
}

/* On the far loop. */
static void handover_run_forth(struct post *post)
{
	struct handover *h = (struct handover *)((char *)post - offsetof(struct handover, forth));
	struct bufq empty = h->batch;
	bool finish, stop;

	pthread_mutex_lock(&h->lock);
	h->batch = h->queue;
	h->queue = empty;
	finish = h->finish;
	stop = h->stop;
	h->finish = h->stop = false;
	h->forth_posted = false;
	pthread_mutex_unlock(&h->lock);

	handover_deliver(h, finish, stop);
	handover_unref(h);
}

/* On the near loop. */
static void handover_run_back(struct post *post)
{
	struct handover *h = (struct handover *)((char *)post - offsetof(struct handover, back));
	size_t credit;

	pthread_mutex_lock(&h->lock);
	credit = h->credit;
	h->credit = 0;
	h->back_posted = false;
	pthread_mutex_unlock(&h->lock);

	if (!h->near_left)
		h->sent(h->cookie, credit);
	handover_unref(h);
}

struct handover *handover_create(struct loop *near, struct loop *far, struct pump_sink target,
    void (*sent)(void *cookie, size_t bytes), void *cookie)
{
	struct handover *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return NULL;
	h->near = near;
	h->far = far;
	h->target = target;
	h->sent = sent;
	h->cookie = cookie;
	h->forth.run = handover_run_forth;
	h->back.run = handover_run_back;
	bufq_init(&h->queue, HANDOVER_SLICES_MAX, HANDOVER_BYTES_MAX);
	bufq_init(&h->batch, HANDOVER_SLICES_MAX, HANDOVER_BYTES_MAX);
	pthread_mutex_init(&h->lock, NULL);
	atomic_init(&h->refs, 2);
	return h;
}

/* With the lock held: whether the far loop has to be told. */
static bool handover_claim_forth(struct handover *h)
{
	bool post = !h->forth_posted;

	h->forth_posted = true;
	return post;
}

static void handover_post_forth(struct handover *h)
{
	atomic_fetch_add(&h->refs, 1);
	loop_post(h->far, &h->forth);
}

static int handover_write(void *self, struct slice bytes)
{
	struct handover *h = self;
	bool post = false;
	int result;

	pthread_mutex_lock(&h->lock);
	if (bufq_full(&h->queue, bytes.len)) /* of small slices: the far loop was long away */
		(void)bufq_settle(&h->queue);
	result = bufq_push(&h->queue, bytes);
	if (result == 0)
		post = handover_claim_forth(h);
	pthread_mutex_unlock(&h->lock);
	if (post)
		handover_post_forth(h);
	return result;
}

static void handover_finish(void *self)
{
	struct handover *h = self;
	bool post;

	pthread_mutex_lock(&h->lock);
	h->finish = true;
	post = handover_claim_forth(h);
	pthread_mutex_unlock(&h->lock);
	if (post)
		handover_post_forth(h);
}

/* The first reason stands: the far loop may be reading it. */
static void handover_stop(void *self, const struct err *why)
{
	struct handover *h = self;
	bool post = false;

	pthread_mutex_lock(&h->lock);
	if (!h->stopped) {
		h->stopped = h->stop = true;
		h->why = *why;
		post = handover_claim_forth(h);
	}
	pthread_mutex_unlock(&h->lock);
	if (post)
		handover_post_forth(h);
}

struct pump_sink handover_sink(struct handover *h)
{
	return (struct pump_sink){
		.write = handover_write,
		.finish = handover_finish,
		.stop = handover_stop,
		.self = h,
	};
}

void handover_sent(struct handover *h, size_t bytes)
{
	bool post;

	pthread_mutex_lock(&h->lock);
	h->credit += bytes;
	post = !h->back_posted;
	h->back_posted = true;
	pthread_mutex_unlock(&h->lock);
	if (!post)
		return;
	atomic_fetch_add(&h->refs, 1);
	loop_post(h->near, &h->back);
}

void handover_leave_near(struct handover *h)
{
	h->near_left = true;
	handover_unref(h);
}

void handover_leave_far(struct handover *h)
{
	h->far_left = true;
	handover_unref(h);
}
