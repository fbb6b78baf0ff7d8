/* The queue of slices of base/buf.h. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define FIRST_SLICES 8

void bufq_init(struct bufq *q, size_t max_slices, size_t max_bytes)
{
	*q = (struct bufq){ .max_slices = max_slices, .max_bytes = max_bytes };
}

static struct slice *at(const struct bufq *q, size_t i)
{
	assert(q->cap > 0);
	return &q->ring[(q->head + i) % q->cap];
}

void bufq_free(struct bufq *q)
{
	for (size_t i = 0; i < q->count; i++)
		slice_release(at(q, i));
	free(q->ring);
	q->ring = NULL;
	q->head = q->count = q->cap = q->bytes = 0;
}

bool bufq_full(const struct bufq *q, size_t len)
{
	return q->count >= q->max_slices || len > q->max_bytes - q->bytes;
}

/* Room for ${want} slices; what is queued moves to the front of the new ring. */
static int grow(struct bufq *q, size_t want)
{
	size_t cap = q->cap > 0 ? q->cap : FIRST_SLICES;

	if (want <= q->cap)
		return 0;
	while (cap < want)
		cap *= 2;
	struct slice *ring = malloc(cap * sizeof(*ring));
	if (ring == NULL)
		return -1;
	for (size_t i = 0; i < q->count; i++)
		ring[i] = *at(q, i);
	free(q->ring);
	q->ring = ring;
	q->head = 0;
	q->cap = cap;
	return 0;
}

int bufq_push(struct bufq *q, struct slice s)
{
	if (s.len == 0) {
		slice_release(&s);
		return 0;
	}
	if (bufq_full(q, s.len) || grow(q, q->count + 1) != 0)
		return -1;
	*at(q, q->count++) = s;
	q->bytes += s.len;
	return 0;
}

struct slice bufq_pop(struct bufq *q, size_t max)
{
	struct slice out = { 0 };

	if (q->count == 0 || max == 0)
		return out;
	struct slice *head = at(q, 0);
	if (head->len > max) {
		out = slice_sub(head, 0, max);
		head->data += max;
		head->len -= max;
	} else {
		out = *head;
		q->head = (q->head + 1) % q->cap;
		q->count--;
	}
	q->bytes -= out.len;
	return out;
}

size_t bufq_peek(const struct bufq *q, struct iovec *iov, size_t n, size_t max)
{
	size_t used = 0;

	for (size_t i = 0; i < q->count && used < n && max > 0; i++, used++) {
		const struct slice *s = at(q, i);
		size_t len = s->len < max ? s->len : max;
		iov[used] = (struct iovec){ .iov_base = (void *)s->data, .iov_len = len };
		max -= len;
	}
	return used;
}

void bufq_drop(struct bufq *q, size_t bytes)
{
	assert(bytes <= q->bytes);
	while (bytes > 0) {
		struct slice s = bufq_pop(q, bytes);
		bytes -= s.len;
		slice_release(&s);
	}
}

int bufq_move(struct bufq *to, struct bufq *from)
{
	if (from->count == 0)
		return 0;
	if (from->count > to->max_slices - to->count || from->bytes > to->max_bytes - to->bytes ||
	    grow(to, to->count + from->count) != 0)
		return -1;
	for (size_t i = 0; i < from->count; i++)
		*at(to, to->count++) = *at(from, i);
	to->bytes += from->bytes;
	from->count = from->head = from->bytes = 0;
	return 0;
}

int bufq_settle(struct bufq *q)
{
	struct block *b;
	size_t n = 0;

	if (q->count == 0)
		return 0;
	if ((b = block_new(q->bytes)) == NULL)
		return -1;
	for (size_t i = 0; i < q->count; i++) {
		struct slice *s = at(q, i);
		memcpy(block_data(b) + n, s->data, s->len);
		n += s->len;
		slice_release(s);
	}
	q->head = 0;
	q->count = 1;
	q->ring[0] = (struct slice){ .owner = b, .data = block_data(b), .len = n };
	return 0;
}
