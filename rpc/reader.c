#include "rpc/reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/call.h"

/* Slices that wait; when a peer sends tiny ones they are made one. */
#define QUEUE_SLICES_MAX 1024
#define GATHER_MIN       4096 /* bytes; the first size of the gathered message */

/* One message and a stream's window: more cannot be on its way. */
static size_t queue_limit(size_t max_message)
{
	return RPC_PREFIX_SIZE + max_message + RPC_WINDOW_MAX;
}

void rpc_reader_init(struct rpc_reader *r, size_t max_message)
{
	*r = (struct rpc_reader){ .max_message = max_message };
	bufq_init(&r->queue, QUEUE_SLICES_MAX, queue_limit(max_message));
}

void rpc_reader_free(struct rpc_reader *r)
{
	bufq_free(&r->queue);
	slice_release(&r->current);
	free(r->message);
	r->message = NULL;
	r->prefix_len = r->filled = r->cap = 0;
}

/* Fills ${out} with the first ${len} bytes of the queue. */
static void pop_bytes(struct bufq *queue, uint8_t *out, size_t len)
{
	while (len > 0) {
		struct slice s = bufq_pop(queue, len);

		memcpy(out, s.data, s.len);
		out += s.len;
		len -= s.len;
		slice_release(&s);
	}
}

/* Makes one slice of all that is queued. */
static int merge(struct bufq *queue)
{
	size_t len = queue->bytes;
	struct block *block = block_new(len);

	if (block == NULL)
		return -1;
	pop_bytes(queue, block_data(block), len);

	struct slice s = slice_of(block, 0, len);

	block_unref(block);
	return bufq_push(queue, s); /* cannot fail: the ring is there */
}

int rpc_reader_push(struct rpc_reader *r, struct slice s, struct err *err)
{
	size_t held = r->prefix_len + r->filled + r->queue.bytes;

	if (s.len > r->queue.max_bytes - held) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "more than %zu bytes of messages wait to be read", r->queue.max_bytes);
		goto drop;
	}
	if (r->queue.count >= QUEUE_SLICES_MAX && s.len > 0 && merge(&r->queue) < 0) {
		err_sys(err, ENOMEM, "queue a message");
		goto drop;
	}
	if (bufq_push(&r->queue, s) < 0) {
		err_sys(err, ENOMEM, "queue a message");
		goto drop;
	}
	return 0;
drop:
	slice_release(&s);
	return -1;
}

/* Whether the prefix of the next message is whole. */
static bool take_prefix(struct rpc_reader *r)
{
	size_t want = RPC_PREFIX_SIZE - r->prefix_len;

	if (want > r->queue.bytes)
		want = r->queue.bytes;
	pop_bytes(&r->queue, r->prefix + r->prefix_len, want);
	r->prefix_len += want;
	return r->prefix_len == RPC_PREFIX_SIZE;
}

static int parse_prefix(const struct rpc_reader *r, size_t *len, struct err *err)
{
	const uint8_t *p = r->prefix;

	if (p[0] == 1)
		return err_set(err, GRPC_UNIMPLEMENTED,
		    "the message is compressed; send messages without compression");
	if (p[0] != 0)
		return err_set(err, GRPC_INTERNAL, "the first byte of a message is %u, not 0 or 1",
		    (unsigned)p[0]);
	*len = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
	if (*len > r->max_message)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "a message of %zu bytes is larger than the limit of %zu", *len, r->max_message);
	return 0;
}

/* Room for ${need} of the message's ${len} bytes: what has come decides how much
 * memory is taken, not what was announced. */
static int reserve(struct rpc_reader *r, size_t need, size_t len, struct err *err)
{
	size_t cap = 2 * r->cap;

	if (need <= r->cap)
		return 0;
	if (cap < GATHER_MIN)
		cap = GATHER_MIN;
	if (cap < need)
		cap = need;
	if (cap > len)
		cap = len;

	uint8_t *message = realloc(r->message, cap);

	if (message == NULL)
		return err_sys(err, ENOMEM, "read a message");
	r->message = message;
	r->cap = cap;
	return 0;
}

/* Copies what has come of the message at once, so that a partial message does not
 * hold receive blocks while the rest is awaited. 1: it is whole. */
static int gather(struct rpc_reader *r, size_t len, struct err *err)
{
	size_t part = len - r->filled;

	if (part > r->queue.bytes)
		part = r->queue.bytes;
	if (part == 0)
		return 0;
	if (reserve(r, r->filled + part, len, err) < 0)
		return -1;
	pop_bytes(&r->queue, r->message + r->filled, part);
	r->filled += part;
	return r->filled == len;
}

static bool lies_in_one_slice(const struct rpc_reader *r, size_t len)
{
	struct iovec head;

	return r->filled == 0 && r->queue.bytes >= len &&
	    bufq_peek(&r->queue, &head, 1, len) == 1 && head.iov_len == len;
}

/* Nothing is there: an idle call holds no memory for messages. */
static void forget(struct rpc_reader *r)
{
	free(r->message);
	r->message = NULL;
	r->cap = 0;
}

int rpc_reader_next(struct rpc_reader *r, const uint8_t **message, size_t *len, struct err *err)
{
	slice_release(&r->current);
	if (!take_prefix(r)) {
		forget(r);
		return 0;
	}
	if (parse_prefix(r, len, err) < 0)
		return -1;
	if (*len == 0) {
		*message = r->prefix;
	} else if (lies_in_one_slice(r, *len)) {
		r->current = bufq_pop(&r->queue, *len);
		*message = r->current.data;
	} else {
		int whole = gather(r, *len, err);

		if (whole <= 0)
			return whole;
		*message = r->message;
	}
	r->prefix_len = r->filled = 0;
	return 1;
}

bool rpc_reader_is_partial(const struct rpc_reader *r)
{
	return r->prefix_len > 0 || r->queue.bytes > 0;
}

/* Puts what has been taken out of the queue for the next message back in front. */
static int put_back(struct rpc_reader *r)
{
	size_t len = r->prefix_len + r->filled;
	struct block *block = len > 0 ? block_new(len) : NULL;
	struct bufq all;

	if (len == 0)
		return 0;
	if (block == NULL)
		return -1;
	memcpy(block_data(block), r->prefix, r->prefix_len);
	if (r->filled > 0)
		memcpy(block_data(block) + r->prefix_len, r->message, r->filled);

	struct slice head = slice_of(block, 0, len);

	block_unref(block);
	bufq_init(&all, r->queue.max_slices + 1, r->queue.max_bytes);
	if (bufq_push(&all, head) < 0) {
		slice_release(&head);
		return -1;
	}
	if (bufq_move(&all, &r->queue) < 0) {
		bufq_free(&all);
		return -1;
	}
	bufq_free(&r->queue);
	r->queue = all;
	r->prefix_len = r->filled = 0;
	return 0;
}

int rpc_reader_rest(struct rpc_reader *r, struct bufq *to)
{
	slice_release(&r->current);
	if (put_back(r) < 0)
		return -1;
	return bufq_move(to, &r->queue);
}
