#include "rpc/outq.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void outq_init(struct outq *q)
{
	memset(q, 0, sizeof(*q));
}

static struct outq_entry *entry_at(const struct outq *q, size_t i)
{
	assert(q->cap > 0);
	return &q->ring[(q->head + i) % q->cap];
}

static void pop_head(struct outq *q)
{
	struct outq_entry *e = entry_at(q, 0);
	block_unref(e->owner);
	e->owner = NULL;
	q->head = (q->head + 1) % q->cap;
	q->count--;
}

void outq_free(struct outq *q, outq_left *left, void *cookie)
{
	while (q->count > 0) {
		void *tag = entry_at(q, 0)->tag;
		pop_head(q);
		if (tag != NULL)
			left(cookie, tag, 0, true);
	}
	q->bytes = 0;
	outq_trim(q);
}

void outq_trim(struct outq *q)
{
	if (q->count > 0)
		return;
	if (q->control != NULL)
		block_unref(q->control);
	q->control = NULL;
	free(q->ring);
	q->ring = NULL;
	q->cap = q->head = 0;
}

static int grow_ring(struct outq *q, size_t entries)
{
	size_t need = q->count + entries;
	if (need <= q->cap)
		return 0;
	size_t cap = q->cap == 0 ? 16 : q->cap;
	while (cap < need)
		cap *= 2;
	struct outq_entry *ring = malloc(cap * sizeof(*ring));
	if (ring == NULL)
		return -1;
	for (size_t i = 0; i < q->count; i++)
		ring[i] = *entry_at(q, i);
	free(q->ring);
	q->ring = ring;
	q->cap = cap;
	q->head = 0;
	return 0;
}

/* A block with room for ${len} bytes; the one in use is rewound when all that was
 * gathered in it has left. */
static int reserve_control(struct outq *q, size_t len)
{
	if (q->control != NULL && block_is_unshared(q->control))
		q->control_used = 0;
	if (q->control != NULL && block_size(q->control) - q->control_used >= len)
		return 0;
	struct block *b = block_new(len > OUTQ_CONTROL_SIZE ? len : OUTQ_CONTROL_SIZE);
	if (b == NULL)
		return -1;
	if (q->control != NULL)
		block_unref(q->control);
	q->control = b;
	q->control_used = 0;
	return 0;
}

int outq_reserve(struct outq *q, size_t entries)
{
	if (grow_ring(q, entries + 1) < 0)
		return -1;
	return reserve_control(q, OUTQ_COPY_MAX + 64);
}

static struct outq_entry *push(struct outq *q, struct slice s)
{
	assert(q->count < q->cap);
	struct outq_entry *e = entry_at(q, q->count++);
	*e = (struct outq_entry){ .data = s.data, .len = s.len, .owner = s.owner };
	q->bytes += s.len;
	return e;
}

/* Copies bytes behind what was gathered last, into the last entry if that ends
 * there. An entry has one tag at most, so payload of a tag closes it. */
static struct outq_entry *gather(struct outq *q, const uint8_t *data, size_t len)
{
	uint8_t *to = block_data(q->control) + q->control_used;
	memcpy(to, data, len);
	q->control_used += len;
	if (q->count > 0) {
		struct outq_entry *last = entry_at(q, q->count - 1);
		if (last->tag == NULL && last->owner == q->control &&
		    last->data + last->len == to) {
			last->len += len;
			q->bytes += len;
			return last;
		}
	}
	struct outq_entry *e = push(q, slice_of(q->control, q->control_used - len, len));
	e->is_settled = true;
	return e;
}

int outq_add_control(struct outq *q, const uint8_t *data, size_t len)
{
	if (grow_ring(q, 1) < 0 || reserve_control(q, len) < 0)
		return -1;
	outq_add_head(q, data, len);
	return 0;
}

void outq_add_head(struct outq *q, const uint8_t *data, size_t len)
{
	assert(q->control != NULL && block_size(q->control) - q->control_used >= len);
	struct outq_entry *e = gather(q, data, len);
	e->head = (uint32_t)e->len;
}

void outq_add_payload(struct outq *q, struct slice s, void *tag)
{
	assert(tag != NULL);
	bool fits = s.len <= OUTQ_COPY_MAX && block_size(q->control) - q->control_used >= s.len;
	if (!fits) {
		push(q, s)->tag = tag;
		return;
	}
	gather(q, s.data, s.len)->tag = tag;
	slice_release(&s);
}

size_t outq_peek(const struct outq *q, struct iovec *iov, size_t n)
{
	size_t filled = q->count < n ? q->count : n;
	for (size_t i = 0; i < filled; i++) {
		const struct outq_entry *e = entry_at(q, i);
		iov[i].iov_base = (void *)(uintptr_t)e->data;
		iov[i].iov_len = e->len;
	}
	return filled;
}

void outq_settle(struct outq *q)
{
	for (size_t i = 0; i < q->count; i++) {
		struct outq_entry *e = entry_at(q, i);
		if (e->is_settled)
			continue;
		struct slice copy = slice_copy(e->data, e->len);
		if (copy.data == NULL)
			return;
		block_unref(e->owner);
		e->owner = copy.owner;
		e->data = copy.data;
		e->is_settled = true;
	}
}

void outq_drop(struct outq *q, size_t bytes, outq_left *left, void *cookie)
{
	assert(bytes <= q->bytes);
	q->bytes -= bytes;
	while (bytes > 0) {
		struct outq_entry *e = entry_at(q, 0);
		size_t n = bytes < e->len ? bytes : e->len;
		size_t head = n < e->head ? n : e->head;
		bool gone = n == e->len;
		void *tag = e->tag;
		e->head -= (uint32_t)head;
		e->data += n;
		e->len -= n;
		bytes -= n;
		if (gone)
			pop_head(q);
		if (tag != NULL)
			left(cookie, tag, n - head, gone);
	}
}
