#include "chat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/alloc.h"

static void add(uint8_t **data, size_t *len, size_t *cap, const void *bytes, size_t n)
{
	alloc_hold();
	if (*len + n > *cap) {
		*cap = 2 * (*len + n);
		*data = realloc(*data, *cap);
		assert_non_null(*data);
	}
	alloc_release();
	if (n > 0)
		memcpy(*data + *len, bytes, n);
	*len += n;
}

static int take(void *cookie, struct slice *s, bool wait, struct err *err)
{
	struct chat *c = cookie;
	size_t n = c->said_len - c->at;

	(void)wait;
	if (c->gone_after > 0 && c->told_len >= c->gone_after)
		return err_set(err, GRPC_CANCELLED, "gone");
	if (c->piece > 0 && n > c->piece)
		n = c->piece;
	if (n == 0)
		return 0;
	*s = slice_copy(c->said + c->at, n);
	if (s->data == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	c->at += n;
	return 1;
}

static void used(void *cookie, size_t bytes)
{
	struct chat *c = cookie;

	c->used += bytes;
	assert_true(c->used <= c->at);
}

static int give(void *cookie, struct slice s, struct err *err)
{
	struct chat *c = cookie;

	if (c->gone_after > 0 && c->told_len >= c->gone_after)
		return err_set(err, GRPC_CANCELLED, "gone");
	add(&c->told, &c->told_len, &c->told_cap, s.data, s.len);
	c->largest = s.len > c->largest ? s.len : c->largest;
	slice_release(&s);
	return 0;
}

static bool is_gone(void *cookie)
{
	struct chat *c = cookie;

	return c->gone_after > 0 && c->told_len >= c->gone_after;
}

static const struct talk_link link = {
	.take = take,
	.used = used,
	.give = give,
	.is_gone = is_gone,
};

void chat_begin(struct chat *c)
{
	*c = (struct chat){ 0 };
	talk_init(&c->talk, &link, c);
}

void chat_end(struct chat *c)
{
	talk_free(&c->talk);
	free(c->said);
	free(c->told);
}

void chat_say(struct chat *c, const void *bytes, size_t len)
{
	add(&c->said, &c->said_len, &c->said_cap, bytes, len);
}
