#include "transfer/sync/sync_delta.h"

#include <stdlib.h>
#include <string.h>

#include "base/digest.h"

#define FACTOR      0x08104225u         /* of the polynomial; any odd number with many bits */
#define READ_MIN    ((size_t)256 << 10) /* bytes read ahead at a time */
#define NO_BLOCK    UINT32_MAX
#define FILTER_BITS 16 /* of the filter, for a place in the index: few pass that are in no block */

struct sum {
	uint32_t weak;
	uint32_t next; /* with the same place in the index */
	uint64_t strong;
};

struct sync_sums {
	uint64_t size, seed;
	size_t block, count, have;
	struct sum *sums;
	uint32_t *index; /* of the first block, by weak sum */
	size_t mask;
	uint8_t *filter; /* a bit for each of some weak sums: whether any block has it */
	size_t filter_mask;
};

size_t sync_block_of(uint64_t size)
{
	size_t block = SYNC_BLOCK_MIN;

	while (block < SYNC_BLOCK_MAX &&
	    ((uint64_t)block * block < size || size / block >= SYNC_BLOCKS_MAX))
		block *= 2;
	return size <= (uint64_t)block * SYNC_BLOCKS_MAX ? block : 0;
}

/* Four bytes a step: the multiplications do not wait for each other. */
uint32_t sync_weak(const uint8_t *p, size_t n)
{
	const uint32_t f2 = FACTOR * FACTOR, f3 = f2 * FACTOR, f4 = f3 * FACTOR;
	uint32_t h = 0;
	size_t i = 0;

	for (; i + 4 <= n; i += 4)
		h = h * f4 + p[i] * f3 + p[i + 1] * f2 + p[i + 2] * FACTOR + p[i + 3];
	for (; i < n; i++)
		h = h * FACTOR + p[i];
	return h;
}

static uint32_t power(uint32_t base, size_t n)
{
	uint32_t r = 1;

	for (; n > 0; n >>= 1, base *= base)
		if (n & 1)
			r *= base;
	return r;
}

void sync_sum(const uint8_t *block, size_t len, uint64_t seed, uint8_t out[static SYNC_SUM_SIZE])
{
	uint32_t weak = sync_weak(block, len);
	uint64_t strong = digest_short(block, len, seed);

	for (size_t i = 0; i < 4; i++)
		out[i] = (uint8_t)(weak >> 8 * i);
	for (size_t i = 0; i < 8; i++)
		out[4 + i] = (uint8_t)(strong >> 8 * i);
}

struct sync_sums *sync_sums_create(uint64_t size, size_t block, uint64_t seed, struct err *err)
{
	struct sync_sums *s;
	size_t cap = 1024;

	if (block < SYNC_BLOCK_MIN || block > SYNC_BLOCK_MAX || size == 0 ||
	    size > (uint64_t)block * SYNC_BLOCKS_MAX) {
		err_set(err, GRPC_INVALID_ARGUMENT, "a signature of blocks of %zu bytes", block);
		return NULL;
	}
	if ((s = calloc(1, sizeof(*s))) != NULL) {
		s->size = size;
		s->block = block;
		s->seed = seed;
		s->count = (size_t)((size + block - 1) / block);
		while (cap < s->count * 2)
			cap *= 2;
		s->mask = cap - 1;
		s->filter_mask = cap * FILTER_BITS - 1;
		s->filter = calloc(cap, FILTER_BITS / 8);
		s->sums = malloc(s->count * sizeof(*s->sums));
		s->index = malloc(cap * sizeof(*s->index));
	}
	if (s == NULL || s->filter == NULL || s->sums == NULL || s->index == NULL) {
		sync_sums_free(s);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	memset(s->index, 0xff, cap * sizeof(*s->index));
	return s;
}

void sync_sums_free(struct sync_sums *s)
{
	if (s == NULL)
		return;
	free(s->filter);
	free(s->sums);
	free(s->index);
	free(s);
}

static uint32_t mix(uint32_t weak)
{
	weak ^= weak >> 15;
	weak *= 0x2c1b3c6du;
	return weak ^ weak >> 13;
}

static bool passes(const struct sync_sums *s, uint32_t hash)
{
	size_t bit = hash & s->filter_mask;

	return (s->filter[bit / 8] >> bit % 8 & 1) != 0;
}

/* The last block is looked for by its place alone, as it is shorter. */
static void enter_index(struct sync_sums *s, size_t i)
{
	uint32_t hash = mix(s->sums[i].weak);

	if (i == s->count - 1 && s->size % s->block != 0)
		return;
	size_t bit = hash & s->filter_mask;
	s->filter[bit / 8] |= (uint8_t)(1 << bit % 8);
	/* Blocks that are all alike would make the chain long; one of them is enough. */
	for (uint32_t k = s->index[hash & s->mask]; k != NO_BLOCK; k = s->sums[k].next)
		if (s->sums[k].weak == s->sums[i].weak && s->sums[k].strong == s->sums[i].strong)
			return;
	s->sums[i].next = s->index[hash & s->mask];
	s->index[hash & s->mask] = (uint32_t)i;
}

int sync_sums_add(struct sync_sums *s, const uint8_t *p, size_t len, struct err *err)
{
	if (len % SYNC_SUM_SIZE != 0 || len / SYNC_SUM_SIZE > s->count - s->have)
		return err_set(err, GRPC_INVALID_ARGUMENT, "sums of more blocks than there are");
	for (; len > 0; len -= SYNC_SUM_SIZE, p += SYNC_SUM_SIZE) {
		struct sum *sum = &s->sums[s->have];
		*sum = (struct sum){ .next = NO_BLOCK };
		for (size_t i = 0; i < 4; i++)
			sum->weak |= (uint32_t)p[i] << 8 * i;
		for (size_t i = 0; i < 8; i++)
			sum->strong |= (uint64_t)p[4 + i] << 8 * i;
		enter_index(s, s->have++);
	}
	return 0;
}

bool sync_sums_are_all(const struct sync_sums *s)
{
	return s->have == s->count;
}

/* The search: ${at} is the window's beginning, what is before it since ${literal} is not
 * found. */
struct search {
	const struct sync_sums *s;
	const struct sync_delta_ops *ops;
	void *cookie;
	struct err *err;
	uint8_t *data;
	size_t cap, literal, at, end;
	bool eof, rolled;    /* ${weak} is of the window */
	uint32_t weak, drop; /* FACTOR to the power of the block */
	size_t expected;     /* the block behind the one found last; count: none */
};

static int flush_literal(struct search *x)
{
	size_t from = x->literal;

	x->literal = x->at;
	return x->at > from ? x->ops->literal(x->cookie, x->data + from, x->at - from, x->err) : 0;
}

/* A block at the window and one byte more to roll to, or all there is. */
static int fill(struct search *x)
{
	if (x->eof || x->end - x->at > x->s->block)
		return 0;
	if (flush_literal(x) != 0)
		return -1;
	memmove(x->data, x->data + x->at, x->end - x->at);
	x->end -= x->at;
	x->at = x->literal = 0;
	while (!x->eof && x->end < x->cap) {
		ssize_t n = x->ops->read(x->cookie, x->data + x->end, x->cap - x->end, x->err);
		if (n < 0)
			return -1;
		x->eof = n == 0;
		x->end += (size_t)n;
	}
	return 0;
}

/* How long the block is. */
static size_t length_of(const struct sync_sums *s, size_t i)
{
	return i < s->count - 1 || s->size % s->block == 0 ? s->block
							   : (size_t)(s->size % s->block);
}

static bool is_block(const struct search *x, size_t i)
{
	size_t len = length_of(x->s, i);

	return x->end - x->at >= len &&
	    digest_short(x->data + x->at, len, x->s->seed) == x->s->sums[i].strong;
}

/* The block the window is, or count. */
static size_t look_up(struct search *x)
{
	const struct sync_sums *s = x->s;
	uint32_t hash;

	if (x->end - x->at < s->block)
		return s->count;
	if (!x->rolled)
		x->weak = sync_weak(x->data + x->at, s->block);
	x->rolled = true;
	hash = mix(x->weak);
	if (!passes(s, hash))
		return s->count;
	for (uint32_t i = s->index[hash & s->mask]; i != NO_BLOCK; i = s->sums[i].next)
		if (s->sums[i].weak == x->weak && is_block(x, i))
			return i;
	return s->count;
}

static int found(struct search *x, size_t i)
{
	size_t len = length_of(x->s, i);

	if (flush_literal(x) != 0)
		return -1;
	x->at += len;
	x->literal = x->at;
	x->rolled = false;
	x->expected = i + 1;
	return x->ops->copy(x->cookie, (uint64_t)i * x->s->block, len, x->err);
}

/* On by a byte that is in no block, and by all those behind it that the filter lets us tell:
 * of a file that is all new this is where the time goes. */
static void roll(struct search *x)
{
	const size_t block = x->s->block, left = x->end - x->at - block;
	const uint8_t *p = x->data + x->at;
	uint32_t weak = x->weak;
	size_t n = 0;

	while (n < left) {
		weak = weak * FACTOR - p[n] * x->drop + p[n + block];
		n++;
		if (passes(x->s, mix(weak)))
			break;
	}
	x->weak = weak;
	x->at += n;
	if (n == 0) { /* the window's end is the end of what is here */
		x->at++;
		x->rolled = false;
	}
}

/* What is shorter than a block: the last block, if it is that, or nothing that is known. */
static int take_tail(struct search *x)
{
	const struct sync_sums *s = x->s;
	size_t last = s->count - 1, len = length_of(s, last);

	if (len < s->block && x->end - x->at >= len) {
		x->at = x->end - len;
		if (is_block(x, last))
			return found(x, last);
	}
	x->at = x->end;
	return flush_literal(x);
}

static int search(struct search *x)
{
	while (fill(x) == 0) {
		size_t i = x->s->count;

		if (x->expected < x->s->count && length_of(x->s, x->expected) == x->s->block &&
		    is_block(x, x->expected))
			i = x->expected;
		x->expected = x->s->count;
		if (i == x->s->count)
			i = look_up(x);
		if (i < x->s->count) {
			if (found(x, i) != 0)
				return -1;
		} else if (x->end - x->at < x->s->block) {
			return take_tail(x);
		} else {
			roll(x);
		}
	}
	return -1;
}

int sync_delta(const struct sync_sums *s, uint64_t from, const struct sync_delta_ops *ops,
    void *cookie, struct err *err)
{
	struct search x = { .s = s,
		.ops = ops,
		.cookie = cookie,
		.err = err,
		.cap = s->block + (s->block > READ_MIN ? s->block : READ_MIN),
		.drop = power(FACTOR, s->block),
		.expected = from / s->block < s->count ? (size_t)(from / s->block) : s->count };

	if ((x.data = malloc(x.cap)) == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	int r = search(&x);
	free(x.data);
	return r;
}
