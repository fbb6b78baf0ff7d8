#include "transfer/lane.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct lane {
	struct loop *loop;
	const struct lane_ops *ops;
	void *cookie;
	int (*work)(struct lane *, void *arg, struct err *);
	void *arg;
	size_t window, out_window;
	pthread_t thread;

	pthread_mutex_t lock; /* over all that follows */
	pthread_cond_t moved;
	struct bufq in, out;
	size_t used;      /* inbound: bytes the loop has not been told of */
	size_t under_way; /* outbound: bytes written and not credited */
	bool eof, aborted, ended;
	int result;
	struct err err; /* of the thread */
	struct err abort;
	struct post post;
	bool posted;

	struct slice current; /* the thread's own: what lane_read() gave out */
};

static void lane_post(struct post *);

/* With the lock held: the loop has something to hear. */
static void tell_loop(struct lane *l)
{
	if (l->posted)
		return;
	l->posted = true;
	l->post.run = lane_post;
	loop_post(l->loop, &l->post);
}

/* On the loop: all that has happened since. The owner may free the lane in ended(). */
static void lane_post(struct post *post)
{
	struct lane *l = (struct lane *)((char *)post - offsetof(struct lane, post));
	struct bufq arrived;

	pthread_mutex_lock(&l->lock);
	l->posted = false;
	size_t used = l->used;
	bool ended = l->ended;
	l->used = 0;
	arrived = l->out;
	bufq_init(&l->out, LANE_SLICES_MAX, SIZE_MAX);
	pthread_mutex_unlock(&l->lock);

	if (used > 0 && l->ops->used != NULL)
		l->ops->used(l->cookie, used);
	for (struct slice s; (s = bufq_pop(&arrived, SIZE_MAX)).len > 0;)
		l->ops->data(l->cookie, s);
	bufq_free(&arrived);
	if (ended)
		l->ops->ended(l->cookie, l->result, l->result == 0 ? NULL : &l->err);
}

static void *thread_main(void *arg)
{
	struct lane *l = arg;
	struct err err = { 0 };
	int result = l->work(l, l->arg, &err);

	slice_release(&l->current);
	pthread_mutex_lock(&l->lock);
	l->result = result;
	l->err = err;
	l->ended = true;
	tell_loop(l);
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

/* The thread takes no signals: they are the loop's. */
static int start_thread(struct lane *l)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = pthread_create(&l->thread, NULL, thread_main, l);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

struct lane *lane_start(struct loop *loop, size_t window,
    int (*work)(struct lane *, void *arg, struct err *), void *arg, const struct lane_ops *ops,
    void *cookie, struct err *err)
{
	struct lane *l = calloc(1, sizeof(*l));

	if (l == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	l->loop = loop;
	l->ops = ops;
	l->cookie = cookie;
	l->work = work;
	l->arg = arg;
	l->window = window;
	l->out_window = ops->out_window != 0 ? ops->out_window : window;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->moved, NULL);
	bufq_init(&l->in, LANE_SLICES_MAX, SIZE_MAX);
	bufq_init(&l->out, LANE_SLICES_MAX, SIZE_MAX);
	int r = start_thread(l);
	if (r != 0) {
		err_sys(err, r, "a thread for the archive");
		pthread_mutex_destroy(&l->lock);
		pthread_cond_destroy(&l->moved);
		free(l);
		return NULL;
	}
	return l;
}

int lane_push(struct lane *l, struct slice s)
{
	pthread_mutex_lock(&l->lock);
	bool gone = l->aborted || l->ended || l->eof;
	int r = gone || l->in.bytes > l->window ? -1 : bufq_push(&l->in, s);
	if (r != 0 && !gone) { /* what comes behind it must not be taken for what comes next */
		err_set(
		    &l->abort, GRPC_RESOURCE_EXHAUSTED, "the chunks are too small and too many");
		l->aborted = true;
	}
	pthread_cond_broadcast(&l->moved);
	pthread_mutex_unlock(&l->lock);
	return r;
}

void lane_eof(struct lane *l)
{
	pthread_mutex_lock(&l->lock);
	l->eof = true;
	pthread_cond_broadcast(&l->moved);
	pthread_mutex_unlock(&l->lock);
}

void lane_credit(struct lane *l, size_t bytes)
{
	pthread_mutex_lock(&l->lock);
	assert(bytes <= l->under_way);
	l->under_way -= bytes;
	pthread_cond_broadcast(&l->moved);
	pthread_mutex_unlock(&l->lock);
}

void lane_abort(struct lane *l, const struct err *why)
{
	pthread_mutex_lock(&l->lock);
	if (!l->aborted)
		l->abort = *why;
	l->aborted = true;
	pthread_cond_broadcast(&l->moved);
	pthread_mutex_unlock(&l->lock);
}

void lane_free(struct lane *l)
{
	pthread_join(l->thread, NULL);
	loop_unpost(l->loop, &l->post);
	bufq_free(&l->in);
	bufq_free(&l->out);
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->moved);
	free(l);
}

ssize_t lane_read(struct lane *l, const void **bytes, struct err *err)
{
	ssize_t n = 0;

	pthread_mutex_lock(&l->lock);
	if (l->current.len > 0) {
		l->used += l->current.len;
		slice_release(&l->current);
		tell_loop(l);
	}
	while (l->in.bytes == 0 && !l->eof && !l->aborted)
		pthread_cond_wait(&l->moved, &l->lock);
	if (l->aborted) {
		*err = l->abort;
		n = -1;
	} else if (l->in.bytes > 0) {
		l->current = bufq_pop(&l->in, SIZE_MAX);
		*bytes = l->current.data;
		n = (ssize_t)l->current.len;
	}
	pthread_mutex_unlock(&l->lock);
	return n;
}

int lane_take(struct lane *l, struct slice *s, bool wait, struct err *err)
{
	int r = 0;

	pthread_mutex_lock(&l->lock);
	while (wait && l->in.bytes == 0 && !l->eof && !l->aborted)
		pthread_cond_wait(&l->moved, &l->lock);
	if (l->aborted) {
		*err = l->abort;
		r = -1;
	} else if (l->in.bytes > 0) {
		*s = bufq_pop(&l->in, SIZE_MAX);
		r = 1;
	}
	pthread_mutex_unlock(&l->lock);
	return r;
}

void lane_release(struct lane *l, size_t bytes)
{
	pthread_mutex_lock(&l->lock);
	l->used += bytes;
	tell_loop(l);
	pthread_mutex_unlock(&l->lock);
}

bool lane_is_aborted(struct lane *l)
{
	pthread_mutex_lock(&l->lock);
	bool aborted = l->aborted;
	pthread_mutex_unlock(&l->lock);
	return aborted;
}

int lane_give(struct lane *l, struct slice s, struct err *err)
{
	size_t len = s.len;
	int r = 0;

	pthread_mutex_lock(&l->lock);
	while (l->under_way >= l->out_window && !l->aborted)
		pthread_cond_wait(&l->moved, &l->lock);
	if (l->aborted) {
		*err = l->abort;
		r = -1;
	} else if (bufq_push(&l->out, s) != 0) {
		r = err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	} else {
		l->under_way += len;
		tell_loop(l);
	}
	pthread_mutex_unlock(&l->lock);
	return r;
}

int lane_write(struct lane *l, const void *bytes, size_t len, struct err *err)
{
	struct slice s = slice_copy(bytes, len);

	if (s.data == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	if (lane_give(l, s, err) == 0)
		return 0;
	slice_release(&s);
	return -1;
}
