#include "peer.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "net.h"
#include "rpc/address.h"

#define HEAD        9
#define READ_PIECE  ((size_t)64 << 10)
#define BLOCK_MAX   4096
#define WINDOW_BASE 65535

/* The socket, plain or with TLS. -1: not now. */

static ssize_t tls_result(struct peer *p, int r)
{
	int why = SSL_get_error(p->ssl, r);

	if (r > 0)
		return r;
	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
		return -1;
	p->broken = why != SSL_ERROR_ZERO_RETURN;
	p->eof = true;
	return -1;
}

static ssize_t socket_result(struct peer *p, ssize_t n)
{
	if (n > 0 || (n < 0 && errno == EAGAIN))
		return n;
	p->broken = n < 0;
	p->eof = true;
	return -1;
}

static ssize_t put_out(struct peer *p)
{
	size_t len = p->out_len - p->out_at;

	ERR_clear_error();
	if (p->ssl != NULL)
		return tls_result(p, SSL_write(p->ssl, p->out + p->out_at, (int)len));
	return socket_result(p, write(p->fd, p->out + p->out_at, len));
}

static ssize_t get_in(struct peer *p, size_t max)
{
	ERR_clear_error();
	if (p->ssl != NULL)
		return tls_result(p, SSL_read(p->ssl, p->in + p->in_len, (int)max));
	return socket_result(p, read(p->fd, p->in + p->in_len, max));
}

/* What comes. */

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

struct peer_stream *peer_stream(struct peer *p, uint32_t id)
{
	assert_true((id - 1) / 2 < PEER_STREAMS);
	return &p->streams[(id - 1) / 2];
}

static void note_field(struct peer_stream *s, const nghttp2_nv *nv)
{
	size_t used = strlen(s->head);

	snprintf(s->head + used, sizeof(s->head) - used, "%.*s: %.*s\n", (int)nv->namelen,
	    (const char *)nv->name, (int)nv->valuelen, (const char *)nv->value);
}

static void note_block(struct peer *p, struct peer_stream *s, const uint8_t *at, size_t len)
{
	nghttp2_nv nv;
	int flags = 0;

	while (!(flags & NGHTTP2_HD_INFLATE_FINAL)) {
		ssize_t n = nghttp2_hd_inflate_hd2(p->inflater, &nv, &flags, at, len, 1);
		assert_true(n >= 0);
		at += n;
		len -= (size_t)n;
		if (flags & NGHTTP2_HD_INFLATE_EMIT)
			note_field(s, &nv);
	}
	nghttp2_hd_inflate_end_headers(p->inflater);
	s->blocks++;
}

static void note_settings(struct peer *p, const uint8_t *at, size_t len)
{
	for (; len >= 6; at += 6, len -= 6) {
		if (at[1] != NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE)
			continue;
		for (size_t i = 0; i < PEER_STREAMS; i++)
			p->streams[i].window += (int64_t)get32(at + 2) - p->stream_window;
		p->stream_window = get32(at + 2);
	}
}

/* Frames of the whole connection. */
static void note_control(struct peer *p, uint8_t type, bool is_ack, const uint8_t *at, size_t len)
{
	if (type == PEER_SETTINGS && !is_ack)
		note_settings(p, at, len);
	if (type == PEER_SETTINGS || type == PEER_PING) {
		p->acks += is_ack;
		if (!is_ack && !p->silent)
			peer_frame(p, type, PEER_ACK, 0, at, type == PEER_PING ? len : 0);
	} else if (type == PEER_GOAWAY) {
		p->goaway_last = get32(at);
		p->goaway = get32(at + 4);
		if (p->frames[PEER_GOAWAY] == 1)
			p->first_last = p->goaway_last;
	} else if (type == PEER_WINDOW_UPDATE) {
		p->window += get32(at);
	}
}

static void note_frame(struct peer *p, const uint8_t *head, const uint8_t *at, size_t len)
{
	uint8_t type = head[3], flags = head[4];
	uint32_t id = get32(head + 5);

	bool is_ack = (type == PEER_SETTINGS || type == PEER_PING) && (flags & PEER_ACK);

	/* The PINGs that measure the way are as many as they are. */
	bool is_probe = type == PEER_PING && len == 8 && memcmp(at, "trip", 5) == 0;

	if (type < PEER_FRAMES && !is_ack && !is_probe)
		p->frames[type]++;
	if (id == 0) {
		note_control(p, type, is_ack, at, len);
		return;
	}
	struct peer_stream *s = peer_stream(p, id);
	if (type == PEER_HEADERS) {
		note_block(p, s, at, len);
	} else if (type == PEER_DATA) {
		s->data += len;
		s->sum = net_sum(s->sum, at, len);
		if (len > 0 && !p->silent)
			peer_u32(p, PEER_WINDOW_UPDATE, 0, (uint32_t)len);
		if (len > 0 && !p->silent && !(flags & PEER_END_STREAM))
			peer_u32(p, PEER_WINDOW_UPDATE, id, (uint32_t)len);
	} else if (type == PEER_RST_STREAM) {
		s->was_reset = true;
		s->reset = get32(at);
	} else if (type == PEER_WINDOW_UPDATE) {
		s->window += get32(at);
	}
	if (type == PEER_HEADERS || type == PEER_DATA)
		s->ended = s->ended || (flags & PEER_END_STREAM);
}

static void note_frames(struct peer *p)
{
	static const char magic[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	size_t at = 0;

	if (p->in_len >= sizeof(magic) - 1 && memcmp(p->in, magic, sizeof(magic) - 1) == 0)
		at = sizeof(magic) - 1;
	while (p->in_len - at >= HEAD) {
		const uint8_t *head = p->in + at;
		size_t len = get32(head) >> 8;

		if (p->in_len - at < HEAD + len)
			break;
		note_frame(p, head, head + HEAD, len);
		at += HEAD + len;
	}
	p->in_len -= at;
	memmove(p->in, p->in + at, p->in_len);
}

static void read_some(struct peer *p)
{
	size_t budget = p->pace != 0 ? p->pace : SIZE_MAX;
	ssize_t n;

	while (budget > 0 && !p->eof) {
		size_t max = budget < READ_PIECE ? budget : READ_PIECE;

		if (p->in_cap - p->in_len < max) {
			p->in_cap += READ_PIECE;
			p->in = realloc(p->in, p->in_cap);
			assert_non_null(p->in);
		}
		if ((n = get_in(p, max)) < 0)
			return;
		p->in_len += (size_t)n;
		budget -= (size_t)n;
		note_frames(p);
	}
}

static void on_tick(void *cookie)
{
	struct peer *p = cookie;
	ssize_t n;

	if (p->fd < 0)
		return;
	if (!p->deaf)
		read_some(p);
	while (p->out_at < p->out_len && !p->broken && (n = put_out(p)) > 0)
		p->out_at += (size_t)n;
	if (p->out_at == p->out_len)
		p->out_at = p->out_len = 0;
	timer_start(p->tick, 1);
}

/* Birth and death. */

void peer_open(struct peer *p, struct loop *loop, int fd, struct ssl_st *ssl)
{
	memset(p, 0, sizeof(*p));
	p->loop = loop;
	p->fd = fd;
	p->ssl = ssl;
	if (ssl != NULL)
		SSL_set_fd(ssl, fd);
	p->window = p->stream_window = WINDOW_BASE;
	for (size_t i = 0; i < PEER_STREAMS; i++)
		p->streams[i].window = WINDOW_BASE;
	assert_int_equal(nghttp2_hd_inflate_new(&p->inflater), 0);
	p->tick = timer_create_on(loop, on_tick, p);
	assert_non_null(p->tick);
	timer_start(p->tick, 0);
}

void peer_connect(struct peer *p, struct loop *loop, const char *bound, struct ssl_st *ssl)
{
	struct address address;
	struct err err;

	assert_int_equal(address_parse(bound, &address, &err), 0);
	int fd = address_connect(&address, &err);
	assert_true(fd >= 0);
	peer_open(p, loop, fd, ssl);
}

void peer_close(struct peer *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

void peer_free(struct peer *p)
{
	peer_close(p);
	timer_free(p->tick);
	if (p->ssl != NULL) /* or its session could not be used again */
		SSL_set_shutdown(p->ssl, SSL_SENT_SHUTDOWN);
	SSL_free(p->ssl);
	nghttp2_hd_inflate_del(p->inflater);
	free(p->in);
	free(p->out);
}

/* What is written. */

void peer_put(struct peer *p, const void *bytes, size_t len)
{
	if (p->out_len + len > p->out_cap) {
		p->out_cap = 2 * (p->out_len + len);
		p->out = realloc(p->out, p->out_cap);
		assert_non_null(p->out);
	}
	if (len > 0)
		memcpy(p->out + p->out_len, bytes, len);
	p->out_len += len;
}

static void put32(uint8_t *to, uint32_t value)
{
	for (unsigned i = 0; i < 4; i++)
		to[i] = (uint8_t)(value >> (24 - 8 * i));
}

void peer_frame(
    struct peer *p, unsigned type, unsigned flags, uint32_t id, const void *payload, size_t len)
{
	uint8_t head[HEAD] = { (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len,
		(uint8_t)type, (uint8_t)flags };

	put32(head + 5, id);
	peer_put(p, head, sizeof(head));
	peer_put(p, payload, len);
}

void peer_u32(struct peer *p, unsigned type, uint32_t id, uint32_t value)
{
	uint8_t payload[4];

	put32(payload, value);
	peer_frame(p, type, 0, id, payload, sizeof(payload));
}

void peer_begin(struct peer *p, bool is_client, uint32_t stream_window)
{
	static const char magic[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	uint8_t entry[6] = { 0, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE };

	if (is_client)
		peer_put(p, magic, sizeof(magic) - 1);
	put32(entry + 2, stream_window);
	peer_frame(p, PEER_SETTINGS, 0, 0, entry, sizeof(entry));
	peer_u32(p, PEER_WINDOW_UPDATE, 0, PEER_WINDOW_MAX / 2 - WINDOW_BASE);
}

/* A length of HPACK (RFC 7541, section 5.1), with a prefix of seven bits. */
static size_t put_length(uint8_t *to, size_t len)
{
	size_t n = 0;

	if (len < 127) {
		to[n++] = (uint8_t)len;
		return n;
	}
	to[n++] = 127;
	for (len -= 127; len >= 128; len /= 128)
		to[n++] = (uint8_t)(len % 128 + 128);
	to[n++] = (uint8_t)len;
	return n;
}

static size_t put_text(uint8_t *to, const char *text)
{
	size_t n = put_length(to, strlen(text));

	memcpy(to + n, text, strlen(text));
	return n + strlen(text);
}

/* Literal fields that are not indexed. */
static size_t put_fields(uint8_t *block, size_t n, const char *const *fields)
{
	for (; fields != NULL && *fields != NULL; fields += 2) {
		assert_true(n + strlen(fields[0]) + strlen(fields[1]) + 9 < BLOCK_MAX);
		block[n++] = 0;
		n += put_text(block + n, fields[0]);
		n += put_text(block + n, fields[1]);
	}
	return n;
}

void peer_headers(struct peer *p, unsigned flags, uint32_t id, const char *const *fields)
{
	uint8_t block[BLOCK_MAX];
	size_t len = put_fields(block, 0, fields);

	peer_frame(p, PEER_HEADERS, PEER_END_HEADERS | flags, id, block, len);
}

void peer_request(struct peer *p, uint32_t id, const char *path, const char *const *more)
{
	const char *const fields[] = { ":method", "POST", ":scheme", "http", ":path", path,
		":authority", "hand", "te", "trailers", "content-type", "application/grpc", NULL };
	uint8_t block[BLOCK_MAX];
	size_t len = put_fields(block, put_fields(block, 0, fields), more);

	peer_frame(p, PEER_HEADERS, PEER_END_HEADERS, id, block, len);
}

void peer_message(struct peer *p, unsigned flags, uint32_t id, const char *text)
{
	uint8_t message[BLOCK_MAX] = { 0 };
	size_t len = strlen(text);

	assert_true(len + 5 <= sizeof(message));
	put32(message + 1, (uint32_t)len);
	memcpy(message + 5, text, len);
	peer_frame(p, PEER_DATA, flags, id, message, len + 5);
}
