/* relay/backoff.h: how long to wait before the next attempt. */
#ifndef RELAY_BACKOFF_H
#define RELAY_BACKOFF_H

#include <stdint.h>

struct backoff {
	uint32_t min_ms, max_ms;
	uint32_t next_ms; /* without jitter; 0: min_ms */
};

/* Doubles from min_ms to max_ms. Up to a quarter is added by chance, so that those
 * who lost the same gateway do not come back as one. */
uint32_t backoff_next(struct backoff *);

/* It worked: the next wait is the shortest. */
void backoff_reset(struct backoff *);

#endif
