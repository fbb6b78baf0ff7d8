#include "base/buf.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SPARE_MAX 4 /* blocks kept warm; more go back to the system at once */

struct block {
	_Atomic size_t refs;
	struct pool *pool;  /* NULL: its bytes follow the struct */
	struct block *next; /* spare or returned */
	uint8_t *data;
	size_t size;
};

/* Blocks in all, and who may touch them: spare and the counts belong to the loop's
 * thread; what other threads release waits in returned. */
struct pool {
	size_t block_size, max_blocks;
	size_t mapped; /* live, spare or returned */
	size_t spare_count, peak;
	uint64_t full;
	struct block *spare;
	pthread_t owner;
	bool has_owner;
	pthread_mutex_t lock;
	struct block *returned; /* under the lock */
	_Atomic size_t returned_count;
};

static size_t round_to_pages(size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (n + page - 1) / page * page;
}

struct pool *pool_create(size_t block_size, size_t max_blocks)
{
	struct pool *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	p->block_size = round_to_pages(block_size);
	p->max_blocks = max_blocks;
	pthread_mutex_init(&p->lock, NULL);
	return p;
}

static void unmap(struct pool *p, struct block *b)
{
	munmap(b->data, b->size);
	free(b);
	p->mapped--;
}

static void keep_spare(struct pool *p, struct block *b)
{
	if (p->spare_count >= SPARE_MAX) {
		unmap(p, b);
		return;
	}
	b->next = p->spare;
	p->spare = b;
	p->spare_count++;
}

/* Takes in what other threads have given back. */
static void collect_returned(struct pool *p)
{
	struct block *list;

	if (atomic_load_explicit(&p->returned_count, memory_order_acquire) == 0)
		return;
	pthread_mutex_lock(&p->lock);
	list = p->returned;
	p->returned = NULL;
	atomic_store(&p->returned_count, 0);
	pthread_mutex_unlock(&p->lock);
	while (list != NULL) {
		struct block *next = list->next;
		keep_spare(p, list);
		list = next;
	}
}

void pool_trim(struct pool *p, size_t keep)
{
	collect_returned(p);
	while (p->spare_count > keep) {
		struct block *b = p->spare;
		p->spare = b->next;
		p->spare_count--;
		unmap(p, b);
	}
}

void pool_free(struct pool *p)
{
	if (p == NULL)
		return;
	pool_trim(p, 0);
	assert(p->mapped == 0);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void pool_stats(struct pool *p, struct pool_stats *s)
{
	collect_returned(p);
	*s = (struct pool_stats){ .block_size = p->block_size,
		.max_blocks = p->max_blocks,
		.live = p->mapped - p->spare_count,
		.spare = p->spare_count,
		.peak = p->peak,
		.full = p->full };
}

static struct block *map_block(struct pool *p)
{
	struct block *b = malloc(sizeof(*b));

	if (b == NULL)
		return NULL;
	b->data =
	    mmap(NULL, p->block_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (b->data == MAP_FAILED) {
		free(b);
		return NULL;
	}
	b->size = p->block_size;
	b->pool = p;
	p->mapped++;
	return b;
}

struct block *block_get(struct pool *p)
{
	struct block *b;

	if (!p->has_owner) {
		p->owner = pthread_self();
		p->has_owner = true;
	}
	collect_returned(p);
	if ((b = p->spare) != NULL) {
		p->spare = b->next;
		p->spare_count--;
	} else if (p->mapped >= p->max_blocks) {
		p->full++;
		return NULL;
	} else if ((b = map_block(p)) == NULL) {
		return NULL;
	}
	atomic_init(&b->refs, 1);
	b->next = NULL;
	if (p->mapped - p->spare_count > p->peak)
		p->peak = p->mapped - p->spare_count;
	return b;
}

struct block *block_new(size_t size)
{
	struct block *b = size <= SIZE_MAX - sizeof(*b) ? malloc(sizeof(*b) + size) : NULL;

	if (b == NULL)
		return NULL;
	atomic_init(&b->refs, 1);
	b->pool = NULL;
	b->next = NULL;
	b->data = (uint8_t *)(b + 1);
	b->size = size;
	return b;
}

void block_ref(struct block *b)
{
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
}

void block_unref(struct block *b)
{
	struct pool *p;

	if (b == NULL || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
		return;
	if ((p = b->pool) == NULL) {
		free(b);
	} else if (pthread_equal(p->owner, pthread_self())) {
		keep_spare(p, b);
	} else {
		pthread_mutex_lock(&p->lock);
		b->next = p->returned;
		p->returned = b;
		atomic_fetch_add_explicit(&p->returned_count, 1, memory_order_release);
		pthread_mutex_unlock(&p->lock);
	}
}

uint8_t *block_data(struct block *b)
{
	return b->data;
}

size_t block_size(const struct block *b)
{
	return b->size;
}

bool block_is_unshared(const struct block *b)
{
	return atomic_load_explicit(&b->refs, memory_order_acquire) == 1;
}

struct slice slice_of(struct block *b, size_t off, size_t len)
{
	assert(off <= b->size && len <= b->size - off);
	block_ref(b);
	return (struct slice){ .owner = b, .data = b->data + off, .len = len };
}

struct slice slice_dup(const struct slice *s)
{
	if (s->owner != NULL)
		block_ref(s->owner);
	return *s;
}

struct slice slice_sub(const struct slice *s, size_t off, size_t len)
{
	struct slice sub = slice_dup(s);

	assert(off <= s->len && len <= s->len - off);
	sub.data += off;
	sub.len = len;
	return sub;
}

struct slice slice_copy(const void *data, size_t len)
{
	struct block *b = block_new(len);

	if (b == NULL)
		return (struct slice){ 0 };
	if (len > 0)
		memcpy(b->data, data, len);
	return (struct slice){ .owner = b, .data = b->data, .len = len };
}

void slice_release(struct slice *s)
{
	block_unref(s->owner);
	*s = (struct slice){ 0 };
}
