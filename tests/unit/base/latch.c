#include "latch.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define WAIT_SECONDS 60

void latch_init(struct latch *l, unsigned count)
{
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->changed, NULL);
	l->left = count;
}

void latch_free(struct latch *l)
{
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->changed);
}

void latch_reach(struct latch *l)
{
	pthread_mutex_lock(&l->lock);
	l->left--;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
}

void latch_wait(struct latch *l)
{
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_SECONDS;
	pthread_mutex_lock(&l->lock);
	while (l->left > 0 && r == 0)
		r = pthread_cond_timedwait(&l->changed, &l->lock, &until);
	pthread_mutex_unlock(&l->lock);
	if (r != 0) {
		fprintf(stderr, "%u have not come in time\n", l->left);
		abort();
	}
}
