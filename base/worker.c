#include "base/worker.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

struct workers {
	struct workers_options opt;
	pthread_t *threads;
	size_t started;

	pthread_mutex_t lock; /* over all that follows */
	pthread_cond_t changed;
	struct job *first, **last;
	size_t queued;
	size_t entered; /* threads that have done with enter() */
	bool ending;
	struct err failed; /* of enter() */
};

static void run_done(struct post *post)
{
	struct job *job = (struct job *)((char *)post - offsetof(struct job, post));

	job->done(job);
}

/* The next job; NULL when there will be none. */
static struct job *take(struct workers *w)
{
	struct job *job;

	pthread_mutex_lock(&w->lock);
	while (w->first == NULL && !w->ending)
		pthread_cond_wait(&w->changed, &w->lock);
	if ((job = w->first) != NULL) {
		w->first = job->next;
		if (w->first == NULL)
			w->last = &w->first;
		w->queued--;
	}
	pthread_mutex_unlock(&w->lock);
	return job;
}

static bool enter(struct workers *w)
{
	struct err err = { 0 };
	bool fine = w->opt.enter == NULL || w->opt.enter(w->opt.cookie, &err) == 0;

	pthread_mutex_lock(&w->lock);
	if (!fine)
		w->failed = err;
	w->entered++;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	return fine;
}

static void *thread_main(void *arg)
{
	struct workers *w = arg;

	if (!enter(w))
		return NULL;
	for (struct job *job; (job = take(w)) != NULL;) {
		job->run(job);
		job->post.run = run_done;
		loop_post(job->loop, &job->post);
	}
	return NULL;
}

/* The threads take no signals: they are the loop's. */
static int start_threads(struct workers *w)
{
	sigset_t all, old;
	int r = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (; w->started < w->opt.threads && r == 0; w->started += r == 0)
		r = pthread_create(&w->threads[w->started], NULL, thread_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

static int await_entered(struct workers *w, struct err *err)
{
	pthread_mutex_lock(&w->lock);
	while (w->entered < w->started)
		pthread_cond_wait(&w->changed, &w->lock);
	bool failed = w->failed.code != GRPC_OK;
	pthread_mutex_unlock(&w->lock);
	if (failed && err != NULL)
		*err = w->failed;
	return failed ? -1 : 0;
}

struct workers *workers_create(const struct workers_options *opt, struct err *err)
{
	struct workers *w = calloc(1, sizeof(*w));
	int r;

	if (w == NULL || (w->threads = calloc(opt->threads, sizeof(*w->threads))) == NULL) {
		free(w);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	w->opt = *opt;
	w->last = &w->first;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->changed, NULL);
	if ((r = start_threads(w)) != 0)
		err_sys(err, r, "start worker threads");
	if (r != 0 || await_entered(w, err) != 0) {
		workers_free(w);
		return NULL;
	}
	return w;
}

int workers_submit(struct workers *w, struct loop *loop, struct job *job)
{
	int r = -1;

	job->loop = loop;
	job->next = NULL;
	pthread_mutex_lock(&w->lock);
	if (w->queued < w->opt.max_queued) {
		*w->last = job;
		w->last = &job->next;
		w->queued++;
		r = 0;
	}
	pthread_mutex_unlock(&w->lock);
	if (r == 0) /* who wakes finds the lock free */
		pthread_cond_signal(&w->changed);
	return r;
}

void workers_free(struct workers *w)
{
	if (w == NULL)
		return;
	pthread_mutex_lock(&w->lock);
	w->ending = true;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	for (size_t i = 0; i < w->started; i++)
		pthread_join(w->threads[i], NULL);
	assert(w->first == NULL);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->changed);
	free(w->threads);
	free(w);
}
