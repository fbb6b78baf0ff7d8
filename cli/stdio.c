#include "cli/stdio.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES ((size_t)64 << 10)
#define WINDOW     FDIO_WINDOW

struct stdio {
	struct loop *loop;
	const struct fdio_ops *ops;
	void *cookie;
	struct fdio *fdio; /* NULL: direct */

	int shared_fd, shared_flags; /* -1: nothing to put back */

	/* Direct: */
	int fd;
	bool reading, over, freed;
	size_t under_way;  /* bytes read and not given credit for */
	size_t unreported; /* bytes written that sent() has not been told */
	int why;           /* errno of a write that failed */
	struct post turn;
};

/* What epoll takes. */
static bool can_be_waited_for(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 &&
	    (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || (S_ISCHR(st.st_mode) && isatty(fd)));
}

/* Reading, directly. */

static void take_turn(struct stdio *s)
{
	if (!s->turn.pending)
		loop_post(s->loop, &s->turn);
}

static void read_over(struct stdio *s, int why)
{
	struct err err;

	s->over = true;
	if (why == 0) {
		s->ops->eof(s->cookie);
		return;
	}
	err_sys(&err, why, "standard input");
	s->ops->failed(s->cookie, true, &err);
}

static void read_some(struct stdio *s)
{
	size_t room;
	uint8_t *at;
	ssize_t n;

	if (s->over || s->under_way >= WINDOW ||
	    (at = loop_recv_reserve(s->loop, READ_BYTES, &room)) == NULL)
		return; /* credit, given back, brings us here again */
	do
		n = read(s->fd, at, READ_BYTES);
	while (n < 0 && errno == EINTR);
	if (n <= 0) {
		read_over(s, n == 0 ? 0 : errno);
		return;
	}
	s->under_way += (size_t)n;
	take_turn(s);
	s->ops->data(s->cookie, loop_recv_take(s->loop, (size_t)n));
}

/* Writing, directly. */

/* 0, or the errno. */
static int write_all(int fd, const uint8_t *at, size_t left)
{
	while (left > 0) {
		ssize_t n = write(fd, at, left);

		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = { .fd = fd, .events = POLLOUT };
			poll(&p, 1, -1);
		} else if (n < 0 && errno != EINTR) {
			return errno;
		} else if (n > 0) {
			at += n;
			left -= (size_t)n;
		}
	}
	return 0;
}

static void report(struct stdio *s)
{
	size_t sent = s->unreported;
	int why = s->why;
	struct err err;

	s->unreported = 0;
	s->why = 0;
	if (why != 0) {
		err_sys(&err, why, "write");
		s->ops->failed(s->cookie, false, &err);
	} else if (sent > 0 && s->ops->sent != NULL) {
		s->ops->sent(s->cookie, sent);
	}
}

static void run_turn(struct post *post)
{
	struct stdio *s = (struct stdio *)((char *)post - offsetof(struct stdio, turn));

	if (s->freed)
		free(s);
	else if (s->reading)
		read_some(s);
	else
		report(s);
}

/* Making one. */

/* A descriptor with flags of its own, or -1. */
static int open_again(int fd, int mode)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static int open_fdio(struct stdio *s, int fd, int mode, struct err *err)
{
	int own = open_again(fd, mode);
	struct fdio_options o = {
		.read_fd = -1, .write_fd = -1, .window = WINDOW, .ops = s->ops, .cookie = s->cookie
	};

	if (own < 0) {
		s->shared_fd = fd;
		s->shared_flags = fcntl(fd, F_GETFL);
		own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	}
	if (own < 0)
		return err_sys(err, errno, "descriptor %d", fd);
	*(mode == O_RDONLY ? &o.read_fd : &o.write_fd) = own;
	if ((s->fdio = fdio_create(s->loop, &o, err)) == NULL)
		close(own);
	return s->fdio != NULL ? 0 : -1;
}

static struct stdio *make(
    struct loop *loop, int fd, int mode, const struct fdio_ops *ops, void *cookie, struct err *err)
{
	struct stdio *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	s->loop = loop;
	s->ops = ops;
	s->cookie = cookie;
	s->fd = fd;
	s->shared_fd = s->shared_flags = -1;
	s->reading = mode == O_RDONLY;
	s->turn.run = run_turn;
	if (can_be_waited_for(fd)) {
		if (open_fdio(s, fd, mode, err) == 0)
			return s;
		free(s);
		return NULL;
	}
	if (s->reading)
		take_turn(s);
	return s;
}

struct stdio *stdio_reader(
    struct loop *loop, int fd, const struct fdio_ops *ops, void *cookie, struct err *err)
{
	return make(loop, fd, O_RDONLY, ops, cookie, err);
}

struct stdio *stdio_writer(
    struct loop *loop, int fd, const struct fdio_ops *ops, void *cookie, struct err *err)
{
	return make(loop, fd, O_WRONLY, ops, cookie, err);
}

void stdio_credit(struct stdio *s, size_t bytes)
{
	if (s->fdio != NULL) {
		fdio_credit(s->fdio, bytes);
		return;
	}
	assert(bytes <= s->under_way);
	s->under_way -= bytes;
	if (!s->over)
		take_turn(s);
}

int stdio_write(struct stdio *s, struct slice slice)
{
	if (s->fdio != NULL)
		return fdio_write(s->fdio, slice);
	if (s->over)
		return -1;
	s->why = write_all(s->fd, slice.data, slice.len);
	s->over = s->why != 0;
	s->unreported += slice.len;
	slice_release(&slice);
	take_turn(s);
	return 0;
}

size_t stdio_queued(const struct stdio *s)
{
	return s->fdio != NULL ? fdio_queued(s->fdio) : s->unreported;
}

void stdio_free(struct stdio *s)
{
	if (s == NULL)
		return;
	fdio_free(s->fdio);
	if (s->shared_flags >= 0)
		fcntl(s->shared_fd, F_SETFL, s->shared_flags);
	s->freed = true;
	if (!s->turn.pending || loop_unpost(s->loop, &s->turn))
		free(s);
}
