/* base/worker.h: a few threads for what may block (files, name look-ups). */
#ifndef BASE_WORKER_H
#define BASE_WORKER_H

#include <stddef.h>

#include "base/err.h"
#include "base/loop.h"

struct workers;

/* One job, embedded in what it is about. ${run} is called on a worker's thread,
 * then ${done} on the loop it was submitted from. From submit to done the memory
 * is the job's. Jobs start in order. */
struct job {
	void (*run)(struct job *);
	void (*done)(struct job *);
	struct loop *loop;
	struct job *next;
	struct post post;
};

struct workers_options {
	size_t threads;
	size_t max_queued; /* jobs waiting for a thread */
	/* Runs first on each thread, e.g. to take another user's ids; a failure
	 * fails workers_create(). May be NULL. */
	int (*enter)(void *cookie, struct err *);
	void *cookie;
};

struct workers *workers_create(const struct workers_options *, struct err *);

/* -1: the queue is full; neither function will be called. */
int workers_submit(struct workers *, struct loop *, struct job *);

/* Waits for running jobs; asserts that none is queued. NULL is legal. */
void workers_free(struct workers *);

#endif
