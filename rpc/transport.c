#include "rpc/transport.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "rpc/tls_context.h"

#define READ_MIN ((size_t)64 << 10) /* bytes of room worth a read */
#define VECTORS 64
#define RECORD ((size_t)16384) /* bytes of plaintext in one TLS record (RFC 8446, 5.1) */

struct transport {
	int fd;
	SSL *ssl; /* NULL: plain */
	uint8_t *record; /* what SSL_write was given and may ask for again */
	size_t record_len, record_used;
};

struct transport *transport_create(int fd, struct rpc_tls *tls, bool is_server, const char *host, struct err *err)
{
	struct transport *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	t->fd = fd;
	if (tls == NULL)
		return t;
	t->record = malloc(RECORD);
	t->ssl = t->record != NULL ? tls_context_open(tls, fd, is_server, host, err) : NULL;
	if (t->ssl == NULL) {
		free(t->record);
		free(t);
		return NULL;
	}
	return t;
}

void transport_free(struct transport *t)
{
	if (t == NULL)
		return;
	if (t->ssl != NULL) {
		ERR_clear_error();
		SSL_shutdown(t->ssl); /* says so if it can; nobody waits for an answer */
		SSL_free(t->ssl);
	}
	close(t->fd);
	free(t->record);
	free(t);
}

int transport_fd(const struct transport *t)
{
	return t->fd;
}

/* What an SSL function's result ${r} means. */
static enum transport_result ssl_result(struct transport *t, int r, bool *wants_write, struct err *err)
{
	int why = SSL_get_error(t->ssl, r);

	if (wants_write != NULL)
		*wants_write = why == SSL_ERROR_WANT_WRITE;
	switch (why) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return TRANSPORT_AGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return TRANSPORT_EOF;
	case SSL_ERROR_SYSCALL:
		if (errno == 0)
			return TRANSPORT_EOF;
		err_sys(err, errno, "TLS");
		err->code = GRPC_UNAVAILABLE;
		return TRANSPORT_FAILED;
	default:
		tls_context_error(err, t->ssl);
		return TRANSPORT_FAILED;
	}
}

enum transport_result transport_handshake(struct transport *t, bool *wants_write, struct err *err)
{
	*wants_write = false;
	if (t->ssl == NULL)
		return TRANSPORT_DONE;
	ERR_clear_error();
	errno = 0;
	int r = SSL_do_handshake(t->ssl);
	if (r != 1) {
		enum transport_result result = ssl_result(t, r, wants_write, err);
		if (result != TRANSPORT_EOF)
			return result;
		err_set(err, GRPC_UNAVAILABLE, "the peer has closed during the TLS handshake");
		return TRANSPORT_FAILED;
	}
	return tls_context_check(t->ssl, err) == 0 ? TRANSPORT_DONE : TRANSPORT_FAILED;
}

static enum transport_result read_tls(struct transport *t, uint8_t *at, size_t max, size_t *got, struct err *err)
{
	ERR_clear_error();
	errno = 0;
	/* Records are small beside a block: fill it while there are any. */
	for (*got = 0; *got < max;) {
		int r = SSL_read(t->ssl, at + *got, (int)(max - *got));
		if (r <= 0) {
			enum transport_result result = ssl_result(t, r, NULL, err);
			return *got > 0 ? TRANSPORT_DONE : result;
		}
		*got += (size_t)r;
	}
	return TRANSPORT_DONE;
}

static enum transport_result read_plain(struct transport *t, uint8_t *at, size_t max, size_t *got, struct err *err)
{
	ssize_t n;

	do
		n = read(t->fd, at, max);
	while (n < 0 && errno == EINTR);
	*got = n > 0 ? (size_t)n : 0;
	if (n == 0)
		return TRANSPORT_EOF;
	if (n > 0)
		return TRANSPORT_DONE;
	if (errno == EAGAIN)
		return TRANSPORT_AGAIN;
	err_sys(err, errno, "the connection");
	err->code = GRPC_UNAVAILABLE;
	return TRANSPORT_FAILED;
}

enum transport_result transport_read(struct transport *t, struct loop *loop, size_t max, struct slice *s,
    struct err *err)
{
	size_t room, got;
	uint8_t *at = loop_recv_reserve(loop, READ_MIN, &room);

	if (at == NULL)
		return TRANSPORT_STARVED;
	if (room > max)
		room = max;
	enum transport_result r = t->ssl != NULL ? read_tls(t, at, room, &got, err)
						 : read_plain(t, at, room, &got, err);
	*s = loop_recv_take(loop, got);
	return r;
}

bool transport_has_pending(const struct transport *t)
{
	return t->ssl != NULL && SSL_has_pending(t->ssl);
}

/* Gathers a record of the queue's head; what it took counts as left. */
static void fill_record(struct transport *t, struct outq *out, outq_left *left, void *cookie)
{
	struct iovec iov[VECTORS];
	size_t n = outq_peek(out, iov, VECTORS);

	t->record_len = t->record_used = 0;
	for (size_t i = 0; i < n && t->record_len < RECORD; i++) {
		size_t len = iov[i].iov_len < RECORD - t->record_len ? iov[i].iov_len : RECORD - t->record_len;
		memcpy(t->record + t->record_len, iov[i].iov_base, len);
		t->record_len += len;
	}
	outq_drop(out, t->record_len, left, cookie);
}

static enum transport_result write_tls(struct transport *t, struct outq *out, outq_left *left, void *cookie,
    struct err *err)
{
	for (;;) {
		if (t->record_used == t->record_len) {
			if (out->bytes == 0)
				return TRANSPORT_DONE;
			fill_record(t, out, left, cookie);
		}
		ERR_clear_error();
		errno = 0;
		int r = SSL_write(t->ssl, t->record + t->record_used, (int)(t->record_len - t->record_used));
		if (r <= 0)
			return ssl_result(t, r, NULL, err);
		t->record_used += (size_t)r;
	}
}

static enum transport_result write_plain(struct transport *t, struct outq *out, outq_left *left, void *cookie,
    struct err *err)
{
	struct iovec iov[VECTORS];

	while (out->bytes > 0) {
		size_t n = outq_peek(out, iov, VECTORS);
		ssize_t sent = writev(t->fd, iov, (int)n);
		if (sent >= 0) {
			outq_drop(out, (size_t)sent, left, cookie);
		} else if (errno == EAGAIN) {
			return TRANSPORT_AGAIN;
		} else if (errno != EINTR) {
			err_sys(err, errno, "the connection");
			err->code = GRPC_UNAVAILABLE;
			return TRANSPORT_FAILED;
		}
	}
	return TRANSPORT_DONE;
}

enum transport_result transport_write(struct transport *t, struct outq *out, outq_left *left, void *cookie,
    struct err *err)
{
	return t->ssl != NULL ? write_tls(t, out, left, cookie, err) : write_plain(t, out, left, cookie, err);
}
