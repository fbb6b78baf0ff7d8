#include "transfer/sync/sync_split.h"

#include <stdlib.h>
#include <string.h>

struct sync_split *sync_split_create(const char *path, const struct stat *st, uint64_t number)
{
	struct sync_split *s = calloc(1, sizeof(*s));

	if (s == NULL || (s->path = strdup(path)) == NULL) {
		free(s);
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	s->holders = 1;
	s->st = *st;
	s->number = number;
	s->range = sync_range_size((uint64_t)st->st_size);
	s->count = s->left = sync_ranges_of((uint64_t)st->st_size, s->range);
	return s;
}

struct sync_split *sync_split_hold(struct sync_split *s)
{
	pthread_mutex_lock(&s->lock);
	s->holders++;
	pthread_mutex_unlock(&s->lock);
	return s;
}

void sync_split_release(struct sync_split *s)
{
	if (s == NULL)
		return;
	pthread_mutex_lock(&s->lock);
	size_t holders = --s->holders;
	pthread_mutex_unlock(&s->lock);
	if (holders > 0)
		return;
	pthread_mutex_destroy(&s->lock);
	sync_sums_free(s->sums);
	free(s->path);
	free(s);
}

struct sync_range sync_split_range(const struct sync_split *s, size_t n)
{
	return (struct sync_range){ .file = s->number, .size = s->range, .number = n };
}

uint64_t sync_split_end(const struct sync_split *s, size_t n)
{
	return n == s->count - 1 ? (uint64_t)s->st.st_size : (n + 1) * s->range;
}

static uint64_t bit(size_t n)
{
	return (uint64_t)1 << n;
}

bool sync_split_begin(struct sync_split *s, size_t n)
{
	pthread_mutex_lock(&s->lock);
	bool first = s->begun == 0;
	s->begun |= bit(n);
	pthread_mutex_unlock(&s->lock);
	return first;
}

bool sync_split_keep(struct sync_split *s, size_t n, const uint8_t digest[static DIGEST_SIZE])
{
	pthread_mutex_lock(&s->lock);
	bool kept = s->begun == 0;
	memcpy(s->digests[n], digest, DIGEST_SIZE);
	s->kept |= kept ? bit(n) : 0;
	pthread_mutex_unlock(&s->lock);
	return kept;
}

bool sync_split_take_kept(struct sync_split *s, size_t *n)
{
	pthread_mutex_lock(&s->lock);
	bool any = s->begun != 0 && s->kept != 0;
	if (any) {
		*n = (size_t)__builtin_ctzll(s->kept);
		s->kept &= s->kept - 1;
	}
	pthread_mutex_unlock(&s->lock);
	return any;
}

void sync_split_fail(struct sync_split *s, const struct err *why)
{
	pthread_mutex_lock(&s->lock);
	if (s->err.code == GRPC_OK)
		s->err = *why;
	pthread_mutex_unlock(&s->lock);
}

bool sync_split_has_failed(struct sync_split *s)
{
	pthread_mutex_lock(&s->lock);
	bool failed = s->err.code != GRPC_OK;
	pthread_mutex_unlock(&s->lock);
	return failed;
}

bool sync_split_done(struct sync_split *s)
{
	pthread_mutex_lock(&s->lock);
	bool last = --s->left == 0;
	pthread_mutex_unlock(&s->lock);
	return last;
}
