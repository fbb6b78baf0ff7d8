/* Frames made by hand, and looked at. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "pair.h"

#define FRAME_HEAD 9
#define BLOCK_MAX  512

static struct pair_end *session_of(struct pair *p)
{
	return p->client.h2 != NULL ? &p->client : &p->server;
}

static void put32(uint8_t *to, uint32_t value)
{
	for (unsigned i = 0; i < 4; i++)
		to[i] = (uint8_t)(value >> (24 - 8 * i));
}

void pair_put(struct pair *p, const void *data, size_t len)
{
	pair_bytes_add(&session_of(p)->in, data, len);
}

void pair_put_frame(
    struct pair *p, unsigned type, unsigned flags, int32_t id, const void *payload, size_t len)
{
	uint8_t head[FRAME_HEAD] = { (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len,
		(uint8_t)type, (uint8_t)flags };

	put32(head + 5, (uint32_t)id);
	pair_put(p, head, sizeof(head));
	pair_put(p, payload, len);
}

void pair_put_u32(struct pair *p, unsigned type, int32_t id, uint32_t value)
{
	uint8_t payload[4];

	put32(payload, value);
	pair_put_frame(p, type, 0, id, payload, sizeof(payload));
}

void pair_put_settings(struct pair *p, uint16_t name, uint32_t value)
{
	uint8_t entry[6] = { (uint8_t)(name >> 8), (uint8_t)name };

	put32(entry + 2, value);
	pair_put_frame(p, PAIR_SETTINGS, 0, 0, entry, sizeof(entry));
}

void pair_put_preface(struct pair *p)
{
	static const char magic[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

	if (session_of(p)->is_server)
		pair_put(p, magic, sizeof(magic) - 1);
}

size_t pair_field(uint8_t *to, const char *name, const char *value)
{
	size_t name_len = strlen(name), value_len = strlen(value);

	assert_true(name_len < 127 && value_len < 127);
	*to++ = 0;
	*to++ = (uint8_t)name_len;
	memcpy(to, name, name_len);
	to += name_len;
	*to++ = (uint8_t)value_len;
	memcpy(to, value, value_len);
	return 3 + name_len + value_len;
}

static void put_block(struct pair *p, int32_t id, bool end_stream, const uint8_t *block, size_t len)
{
	assert_true(len <= BLOCK_MAX);
	pair_put_frame(p, PAIR_HEADERS, PAIR_END_HEADERS | (end_stream ? PAIR_END_STREAM : 0u), id,
	    block, len);
}

size_t pair_request_block(uint8_t *to)
{
	size_t n = pair_field(to, ":method", "POST");

	n += pair_field(to + n, ":scheme", "http");
	n += pair_field(to + n, ":path", "/test.Service/Method");
	n += pair_field(to + n, ":authority", "hand");
	return n;
}

void pair_put_request(struct pair *p, int32_t id, bool end_stream)
{
	uint8_t block[BLOCK_MAX];

	put_block(p, id, end_stream, block, pair_request_block(block));
}

void pair_put_response(struct pair *p, int32_t id, bool end_stream)
{
	uint8_t block[BLOCK_MAX];

	put_block(p, id, end_stream, block, pair_field(block, ":status", "200"));
}

static struct pair_bytes *taken_by(struct pair *p)
{
	return &session_of(p)->peer->in;
}

bool pair_take(struct pair *p, struct pair_frame *f)
{
	static const char magic[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	struct pair_bytes *b = taken_by(p);
	const uint8_t *head;

	if (b->len - b->at >= sizeof(magic) - 1 &&
	    memcmp(b->data + b->at, magic, sizeof(magic) - 1) == 0)
		b->at += sizeof(magic) - 1;
	if (b->len - b->at < FRAME_HEAD)
		return false;
	head = b->data + b->at;
	*f = (struct pair_frame){ .len = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2],
		.type = head[3],
		.flags = head[4],
		.payload = head + FRAME_HEAD };
	f->id = (int32_t)((uint32_t)head[5] << 24 | (uint32_t)head[6] << 16 |
	    (uint32_t)head[7] << 8 | head[8]);
	if (b->len - b->at - FRAME_HEAD < f->len)
		return false;
	b->at += FRAME_HEAD + f->len;
	return true;
}

bool pair_take_type(struct pair *p, unsigned type, struct pair_frame *f)
{
	while (pair_take(p, f))
		if (f->type == type)
			return true;
	return false;
}

uint32_t pair_u32(const struct pair_frame *f, size_t offset)
{
	const uint8_t *p = f->payload + offset;

	assert_true(offset + 4 <= f->len);
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
