#include "rpc/transport.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "rpc/tls_context.h"

#define READ_MIN ((size_t)64 << 10) /* bytes of room worth a read */
#define VECTORS  64
#define RECORD   ((size_t)16384) /* bytes of plaintext in one TLS record (RFC 8446, section 5.1) */

struct transport {
	int fd;
	SSL *ssl; /* NULL: plain */
	uint8_t
	    *record; /* what SSL_write() was given, and has to be given again until it took it */
	size_t record_len, record_used;
	bool reads_when_writable;
};

struct transport *transport_create(
    int fd, struct rpc_tls *tls, bool is_server, const char *host, struct err *err)
{
	struct transport *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	t->fd = fd;
	if (tls != NULL && (t->ssl = tls_context_open(tls, fd, is_server, host, err)) == NULL) {
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

uint32_t transport_trip_us(const struct transport *t)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	return getsockopt(t->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 ? info.tcpi_min_rtt : 0;
}

static enum transport_result socket_failed(struct err *err)
{
	err_sys(err, errno, "the connection");
	err->code = GRPC_UNAVAILABLE;
	return TRANSPORT_FAILED;
}

/* What the result ${r} of an SSL function means. */
static enum transport_result ssl_result(
    struct transport *t, int r, bool *wants_write, struct err *err)
{
	int why = SSL_get_error(t->ssl, r);

	*wants_write = why == SSL_ERROR_WANT_WRITE;
	switch (why) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return TRANSPORT_AGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return TRANSPORT_EOF;
	case SSL_ERROR_SYSCALL:
		return errno == 0 ? TRANSPORT_EOF : socket_failed(err);
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
	if (r == 1)
		return tls_context_check(t->ssl, err) == 0 ? TRANSPORT_DONE : TRANSPORT_FAILED;
	enum transport_result result = ssl_result(t, r, wants_write, err);
	if (result != TRANSPORT_EOF)
		return result;
	err_set(err, GRPC_UNAVAILABLE, "the peer has closed during the TLS handshake");
	return TRANSPORT_FAILED;
}

/* Reading. */

/* Records are small beside a block: it is filled while there are any. */
static enum transport_result read_tls(
    struct transport *t, uint8_t *at, size_t max, size_t *got, struct err *err)
{
	t->reads_when_writable = false;
	for (*got = 0; *got < max;) {
		ERR_clear_error();
		errno = 0;
		int r = SSL_read(t->ssl, at + *got, (int)(max - *got));
		if (r <= 0) {
			enum transport_result result =
			    ssl_result(t, r, &t->reads_when_writable, err);
			/* What came before an end is delivered first; the end comes again. */
			return *got > 0 ? TRANSPORT_DONE : result;
		}
		*got += (size_t)r;
	}
	return TRANSPORT_DONE;
}

static enum transport_result read_plain(
    struct transport *t, uint8_t *at, size_t max, size_t *got, struct err *err)
{
	ssize_t n;

	do
		n = read(t->fd, at, max);
	while (n < 0 && errno == EINTR);
	*got = n > 0 ? (size_t)n : 0;
	if (n > 0)
		return TRANSPORT_DONE;
	if (n == 0)
		return TRANSPORT_EOF;
	return errno == EAGAIN ? TRANSPORT_AGAIN : socket_failed(err);
}

enum transport_result transport_read(struct transport *t, struct loop *loop, size_t max,
    struct slice *s, bool *more, struct err *err)
{
	size_t room, got;
	uint8_t *at = loop_recv_reserve(loop, READ_MIN, &room);

	*more = false;
	if (at == NULL)
		return TRANSPORT_STARVED;
	if (room > max)
		room = max;
	enum transport_result r =
	    t->ssl != NULL ? read_tls(t, at, room, &got, err) : read_plain(t, at, room, &got, err);
	*s = loop_recv_take(loop, got);
	*more = got == room;
	return r;
}

bool transport_has_pending(const struct transport *t)
{
	return t->ssl != NULL && SSL_has_pending(t->ssl);
}

bool transport_reads_when_writable(const struct transport *t)
{
	return t->reads_when_writable;
}

/* Writing. */

/* Gathers a record of the queue's head; what it took counts as left. */
static int fill_record(struct transport *t, struct outq *out, outq_left *left, void *cookie)
{
	struct iovec iov[VECTORS];
	size_t n = outq_peek(out, iov, VECTORS);

	if (t->record == NULL && (t->record = malloc(RECORD)) == NULL)
		return -1;
	t->record_len = t->record_used = 0;
	for (size_t i = 0; i < n && t->record_len < RECORD; i++) {
		size_t room = RECORD - t->record_len,
		       len = iov[i].iov_len < room ? iov[i].iov_len : room;
		memcpy(t->record + t->record_len, iov[i].iov_base, len);
		t->record_len += len;
	}
	outq_drop(out, t->record_len, left, cookie);
	return 0;
}

/* An idle connection keeps no record. */
static enum transport_result written_tls(struct transport *t)
{
	free(t->record);
	t->record = NULL;
	t->record_len = t->record_used = 0;
	return TRANSPORT_DONE;
}

static enum transport_result write_tls(
    struct transport *t, struct outq *out, outq_left *left, void *cookie, struct err *err)
{
	bool wants_write;

	for (;;) {
		if (t->record_used == t->record_len) {
			if (out->bytes == 0)
				return written_tls(t);
			if (fill_record(t, out, left, cookie) != 0) {
				err_set(
				    err, GRPC_RESOURCE_EXHAUSTED, "out of memory for a TLS record");
				return TRANSPORT_FAILED;
			}
		}
		ERR_clear_error();
		errno = 0;
		int r = SSL_write(
		    t->ssl, t->record + t->record_used, (int)(t->record_len - t->record_used));
		if (r <= 0)
			return ssl_result(t, r, &wants_write, err);
		t->record_used += (size_t)r;
	}
}

static enum transport_result write_plain(
    struct transport *t, struct outq *out, outq_left *left, void *cookie, struct err *err)
{
	struct iovec iov[VECTORS];

	while (out->bytes > 0) {
		struct msghdr message = { .msg_iov = iov,
			.msg_iovlen = outq_peek(out, iov, VECTORS) };
		ssize_t n = sendmsg(t->fd, &message, MSG_NOSIGNAL);
		if (n >= 0)
			outq_drop(out, (size_t)n, left, cookie);
		else if (errno == EAGAIN)
			return TRANSPORT_AGAIN;
		else if (errno != EINTR)
			return socket_failed(err);
	}
	return TRANSPORT_DONE;
}

enum transport_result transport_write(
    struct transport *t, struct outq *out, outq_left *left, void *cookie, struct err *err)
{
	return t->ssl != NULL ? write_tls(t, out, left, cookie, err)
			      : write_plain(t, out, left, cookie, err);
}

/* The end. */

size_t transport_unsent(const struct transport *t)
{
	int bytes = 0;

	return ioctl(t->fd, SIOCOUTQ, &bytes) == 0 && bytes > 0 ? (size_t)bytes : 0;
}

void transport_shut(struct transport *t)
{
	if (t->ssl != NULL) {
		ERR_clear_error();
		SSL_shutdown(t->ssl);
	}
	shutdown(t->fd, SHUT_WR);
}

enum transport_result transport_discard(struct transport *t, size_t max)
{
	uint8_t waste[16384];
	size_t total = 0;

	while (total < max) {
		ssize_t n = read(t->fd, waste, sizeof(waste));
		if (n == 0)
			return TRANSPORT_EOF;
		if (n > 0)
			total += (size_t)n;
		else if (errno == EAGAIN)
			break;
		else if (errno != EINTR)
			return TRANSPORT_FAILED;
	}
	return TRANSPORT_AGAIN;
}
