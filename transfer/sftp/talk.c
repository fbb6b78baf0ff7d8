#include "transfer/sftp/talk.h"

#include <assert.h>
#include <string.h>

#define OUT_MAX ((size_t)1 << 20)  /* bytes; more than any answer with TALK_BATCH_BYTES before it */
#define SMALL   ((size_t)64 << 10) /* bytes; a smaller block is not worth keeping */

void talk_init(struct talk *t, const struct talk_link *link, void *cookie)
{
	*t = (struct talk){ .link = link, .cookie = cookie };
	bufq_init(&t->in, TALK_SLICES, SIZE_MAX);
	text_init(&t->out, OUT_MAX);
}

static void drop_blocks(struct talk *t)
{
	for (size_t i = 0; i < TALK_BLOCKS_KEPT; i++) {
		if (t->kept[i] != NULL)
			block_unref(t->kept[i]);
		t->kept[i] = NULL;
	}
}

void talk_free(struct talk *t)
{
	bufq_free(&t->in);
	text_free(&t->out);
	drop_blocks(t);
}

/* Receiving. */

static int queue(struct talk *t, struct slice s, struct err *err)
{
	if ((t->in.count < TALK_SLICES || bufq_settle(&t->in) == 0) && bufq_push(&t->in, s) == 0)
		return 0;
	slice_release(&s);
	return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

/* As talk_link.take. Whoever is quiet holds no memory. */
static int take(struct talk *t, struct slice *s, struct err *err)
{
	int r = t->link->take(t->cookie, s, false, err);

	if (r != 0)
		return r;
	if (talk_flush(t, err) != 0)
		return -1;
	if (t->in.count == 0)
		drop_blocks(t);
	return t->link->take(t->cookie, s, true, err);
}

int talk_need(struct talk *t, size_t n, struct err *err)
{
	struct slice s;

	while (t->in.bytes < n) {
		int r = take(t, &s, err);
		if (r <= 0)
			return r;
		if (queue(t, s, err) != 0)
			return -1;
	}
	return 1;
}

size_t talk_there(const struct talk *t)
{
	return t->in.bytes;
}

size_t talk_peek(const struct talk *t, struct iovec iov[static TALK_SLICES], size_t max)
{
	return bufq_peek(&t->in, iov, TALK_SLICES, max);
}

void talk_copy(const struct talk *t, void *to, size_t n)
{
	struct iovec iov[TALK_SLICES];
	size_t count = talk_peek(t, iov, n);
	uint8_t *at = to;

	assert(n <= t->in.bytes);
	for (size_t i = 0; i < count; at += iov[i++].iov_len)
		memcpy(at, iov[i].iov_base, iov[i].iov_len);
}

void talk_drop(struct talk *t, size_t n)
{
	bufq_drop(&t->in, n);
	if (n > 0)
		t->link->used(t->cookie, n);
}

/* Sending. */

struct text *talk_out(struct talk *t)
{
	return &t->out;
}

int talk_flush(struct talk *t, struct err *err)
{
	if (t->out.failed)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	if (t->out.len == 0)
		return 0;
	struct slice s = slice_copy(t->out.data, t->out.len);
	if (s.data == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	t->out.len = 0;
	if (t->out.cap > 2 * TALK_BATCH_BYTES)
		text_free(&t->out);
	if (t->link->give(t->cookie, s, err) == 0)
		return 0;
	slice_release(&s);
	return -1;
}

int talk_gathered(struct talk *t, struct err *err)
{
	return t->out.len < TALK_BATCH_BYTES && !t->out.failed ? 0 : talk_flush(t, err);
}

/* One that has come back, or else a new one, which is kept if there is room. */
static struct block *large_block(struct talk *t)
{
	size_t i = 0;

	while (i < TALK_BLOCKS_KEPT && t->kept[i] != NULL && !block_is_unshared(t->kept[i]))
		i++;
	struct block *b = i < TALK_BLOCKS_KEPT ? t->kept[i] : NULL;
	if (b == NULL && (b = block_new(TALK_BLOCK_BYTES)) == NULL)
		return NULL;
	if (i < TALK_BLOCKS_KEPT) {
		t->kept[i] = b;
		block_ref(b);
	}
	return b;
}

struct block *talk_block(struct talk *t, size_t size)
{
	assert(size <= TALK_BLOCK_BYTES);
	return size < SMALL ? block_new(size) : large_block(t);
}

int talk_give(struct talk *t, struct slice s, struct err *err)
{
	if (talk_flush(t, err) == 0 && t->link->give(t->cookie, s, err) == 0)
		return 0;
	slice_release(&s);
	return -1;
}

bool talk_is_gone(const struct talk *t)
{
	return t->link->is_gone(t->cookie);
}
