#include "relay/backoff.h"

#include "base/random.h"

uint32_t backoff_next(struct backoff *b)
{
	uint32_t wait = b->next_ms != 0 ? b->next_ms : b->min_ms;

	b->next_ms = wait > b->max_ms / 2 ? b->max_ms : wait * 2;
	return wait + (uint32_t)random_below(wait / 4 + 1);
}

void backoff_reset(struct backoff *b)
{
	b->next_ms = 0;
}
