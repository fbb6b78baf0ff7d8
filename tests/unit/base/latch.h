/* Something that several threads reach and one waits for, though not for ever. */
#ifndef BASE_TEST_LATCH_H
#define BASE_TEST_LATCH_H

#include <pthread.h>

struct latch {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned left;
};

void latch_init(struct latch *, unsigned count);
void latch_free(struct latch *);

/* One of the count has come. Any thread; does not block. */
void latch_reach(struct latch *);

/* Waits until all have come. Ends the test program after 60 seconds. */
void latch_wait(struct latch *);

#endif
