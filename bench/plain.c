/*
 * The reference: a relay of two TCP connections that reads into a buffer of 256 KiB
 * and writes it out, one buffer a direction, and the service at the end of a line.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

#define BUFFER ((size_t)256 << 10)

struct side {
	int fd;
	struct watch *watch;
	struct pair *pair;
};

/* Bytes on their way from one side to the other. */
struct half {
	struct side *from, *to;
	uint8_t *buffer;
	size_t start, end;
	bool eof, done;
};

struct pair {
	struct side side[2];
	struct half half[2];
	bool dead;
};

static uint16_t target;
static struct loop *loop;

static uint8_t *page_buffer(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

static void pair_free(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		watch_free(p->side[i].watch);
		close(p->side[i].fd);
		munmap(p->half[i].buffer, BUFFER);
	}
	free(p);
}

/* False: broken. */
static bool half_write(struct half *h)
{
	while (h->start < h->end) {
		ssize_t n = write(h->to->fd, h->buffer + h->start, h->end - h->start);
		if (n < 0)
			return errno == EAGAIN;
		h->start += (size_t)n;
	}
	h->start = h->end = 0;
	if (h->eof && !h->done) {
		h->done = true;
		shutdown(h->to->fd, SHUT_WR);
	}
	return true;
}

static bool half_move(struct half *h)
{
	if (!half_write(h))
		return false;
	if (h->end > 0 || h->eof)
		return true;
	ssize_t n = read(h->from->fd, h->buffer, BUFFER);
	if (n < 0)
		return errno == EAGAIN;
	h->eof = n == 0;
	h->end = (size_t)n;
	return half_write(h);
}

static unsigned wants(const struct pair *p, const struct side *s)
{
	unsigned w = WATCH_NONE;

	for (int i = 0; i < 2; i++) {
		const struct half *h = &p->half[i];
		if (h->from == s && h->end == 0 && !h->eof)
			w |= WATCH_READ;
		if (h->to == s && h->end > 0)
			w |= WATCH_WRITE;
	}
	return w;
}

static void on_side(void *cookie, unsigned events)
{
	struct side *s = cookie;
	struct pair *p = s->pair;
	bool alive = true;

	for (int i = 0; alive && i < 2; i++)
		if ((p->half[i].from == s && (events & WATCH_READ)) ||
		    (p->half[i].to == s && (events & WATCH_WRITE)))
			alive = half_move(&p->half[i]);
	if (!alive || (p->half[0].done && p->half[1].done)) {
		pair_free(p);
		return;
	}
	for (int i = 0; i < 2; i++)
		watch_want(p->side[i].watch, wants(p, &p->side[i]));
}

static void start_pair(int a, int b)
{
	struct pair *p = calloc(1, sizeof(*p));
	const int on = 1, fds[2] = { a, b };

	for (int i = 0; i < 2; i++) {
		fcntl(fds[i], F_SETFL, O_NONBLOCK);
		setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		p->side[i] = (struct side){ .fd = fds[i], .pair = p };
		p->side[i].watch = watch_create(loop, fds[i], on_side, &p->side[i], NULL);
		p->half[i] = (struct half){
			.from = &p->side[i], .to = &p->side[1 - i], .buffer = page_buffer(BUFFER)
		};
	}
	for (int i = 0; i < 2; i++)
		watch_want(p->side[i].watch, WATCH_READ);
}

static void on_relay_accept(void *cookie, unsigned events)
{
	int listener = *(int *)cookie;

	(void)events;
	for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;)
		start_pair(fd, bench_dial(target));
}

/* Accepts for ever; the process is ended by a signal. */
static int serve(uint16_t port, void (*on_accept)(void *cookie, unsigned events))
{
	struct err err = { 0 };
	int listener = bench_listen(&port);

	if ((loop = loop_create(0, &err)) == NULL)
		return bench_fail(&err);
	struct watch *w = watch_create(loop, listener, on_accept, &listener, &err);
	if (w == NULL)
		return bench_fail(&err);
	watch_want(w, WATCH_READ);
	printf("%u\n", port);
	fflush(stdout);
	loop_run(loop);
	return 0;
}

int bench_relay(int argc, char *argv[])
{
	if (argc != 3)
		return 2;
	target = (uint16_t)bench_number(argv[2], UINT16_MAX);
	return serve((uint16_t)bench_number(argv[1], UINT16_MAX), on_relay_accept);
}

/* The service. */

struct client {
	int fd;
	struct watch *watch;
	uint8_t command;
	uint8_t head[8];
	size_t head_len;
	uint64_t left;  /* a source's */
	uint64_t count; /* a sink's */
	uint8_t *echo;
	size_t echo_start, echo_end;
};

static uint8_t *scratch;

static void client_free(struct client *c)
{
	watch_free(c->watch);
	close(c->fd);
	free(c->echo);
	free(c);
}

/* -1: over. */
static int sink(struct client *c)
{
	for (;;) {
		ssize_t n = read(c->fd, scratch, BUFFER);
		if (n < 0)
			return errno == EAGAIN ? 0 : -1;
		if (n == 0) {
			uint64_t total = htobe64(c->count);
			(void)!write(c->fd, &total, sizeof(total));
			return -1;
		}
		c->count += (uint64_t)n;
		if ((size_t)n < BUFFER)
			return 0;
	}
}

static int source(struct client *c)
{
	for (int i = 0; i < 16 && c->left > 0; i++) {
		ssize_t n = write(c->fd, scratch, c->left < BUFFER ? (size_t)c->left : BUFFER);
		if (n < 0 && errno != EAGAIN)
			return -1;
		if (n < 0)
			break;
		c->left -= (uint64_t)n;
	}
	watch_want(c->watch, WATCH_WRITE);
	return c->left > 0 ? 0 : -1;
}

static int echo(struct client *c)
{
	if (c->echo == NULL)
		c->echo = malloc(BUFFER);
	if (c->echo_end == 0) {
		ssize_t n = read(c->fd, c->echo, BUFFER);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			return -1;
		c->echo_end = n > 0 ? (size_t)n : 0;
	}
	while (c->echo_start < c->echo_end) {
		ssize_t n = write(c->fd, c->echo + c->echo_start, c->echo_end - c->echo_start);
		if (n < 0 && errno != EAGAIN)
			return -1;
		if (n < 0) {
			watch_want(c->watch, WATCH_WRITE);
			return 0;
		}
		c->echo_start += (size_t)n;
	}
	c->echo_start = c->echo_end = 0;
	watch_want(c->watch, WATCH_READ);
	return 0;
}

/* The command, and for a source how much. 1: known. */
static int read_command(struct client *c)
{
	if (c->command == 0) {
		ssize_t n = read(c->fd, &c->command, 1);
		if (n <= 0)
			return n < 0 && errno == EAGAIN ? 0 : -1;
	}
	while (c->command == BENCH_SOURCE && c->head_len < sizeof(c->head)) {
		ssize_t n = read(c->fd, c->head + c->head_len, sizeof(c->head) - c->head_len);
		if (n <= 0)
			return n < 0 && errno == EAGAIN ? 0 : -1;
		c->head_len += (size_t)n;
		if (c->head_len == sizeof(c->head)) {
			memcpy(&c->left, c->head, sizeof(c->left));
			c->left = be64toh(c->left);
		}
	}
	return 1;
}

static void on_client(void *cookie, unsigned events)
{
	struct client *c = cookie;
	int r = events & WATCH_ERROR ? -1 : read_command(c);

	if (r == 1 && c->command == BENCH_SINK)
		r = sink(c);
	else if (r == 1 && c->command == BENCH_SOURCE)
		r = source(c);
	else if (r == 1 && c->command == BENCH_ECHO)
		r = echo(c);
	else if (r == 1)
		watch_want(c->watch, WATCH_NONE); /* stalled for good */
	if (r < 0)
		client_free(c);
}

static void on_service_accept(void *cookie, unsigned events)
{
	const int on = 1;

	(void)events;
	for (int fd;
	     (fd = accept4(*(int *)cookie, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0;) {
		struct client *c = calloc(1, sizeof(*c));
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		c->fd = fd;
		c->watch = watch_create(loop, fd, on_client, c, NULL);
		watch_want(c->watch, WATCH_READ);
	}
}

int bench_service(int argc, char *argv[])
{
	if (argc != 2)
		return 2;
	scratch = page_buffer(BUFFER);
	return serve((uint16_t)bench_number(argv[1], UINT16_MAX), on_service_accept);
}
