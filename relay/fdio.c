#include "relay/fdio.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <termios.h>
#include <unistd.h>

#define READ_MIN   ((size_t)64 << 10) /* bytes of room worth a read of their own */
#define READ_APART ((size_t)16 << 10) /* bytes read at a time while there are no blocks */
#define VECTORS    64

/* When so many of the loop's blocks are held, what cannot be written is copied out of
 * them: one who does not read must not stop the others' receiving. */
#define PRESSED_BLOCKS ((size_t)LOOP_BLOCKS_MAX / 4)

struct fdio {
	struct loop *loop;
	const struct fdio_ops *ops;
	void *cookie;
	int read_fd, write_fd; /* -1: over */
	int shared_fd;         /* one descriptor for both, with one watch; else -1 */
	struct watch *reading, *writing;
	size_t window, under_way;
	struct bufq queue;
	size_t untold;   /* bytes at the end of the queue that nobody wrote: ${veof} */
	uint8_t veof[2]; /* what ends the input of a terminal */
	bool mid_line;   /* the last byte written did not end a line */
	bool finishing;  /* the end follows the queue */
	bool blocked;    /* the kernel takes no more for now */
	bool freed;
	int broken; /* an errno, told at the end of the turn */
	struct post post;
};

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Room for a trickle is none: reads and messages would become as small as the credit. */
static bool has_room(const struct fdio *f)
{
	return f->window - f->under_way >= (f->window + 3) / 4;
}

/* What is waited for follows from the state; this is the only place that asks. */
static void update_watches(struct fdio *f)
{
	unsigned read = f->read_fd >= 0 && has_room(f) ? WATCH_READ : WATCH_NONE;
	unsigned write = f->write_fd >= 0 && f->blocked ? WATCH_WRITE : WATCH_NONE;

	if (f->shared_fd >= 0) {
		watch_want(f->reading, read | write);
		return;
	}
	if (f->reading != NULL)
		watch_want(f->reading, read);
	if (f->writing != NULL)
		watch_want(f->writing, write);
}

static void close_reading(struct fdio *f)
{
	if (f->shared_fd < 0 && f->read_fd >= 0) {
		watch_free(f->reading);
		f->reading = NULL;
		close(f->read_fd);
	}
	f->read_fd = -1;
}

/* A descriptor of writing alone is closed, and not shut down: a socket may be shared with
 * another process, as standard output is. A terminal has no such end: ENOTSOCK. */
static void close_writing(struct fdio *f)
{
	if (f->write_fd >= 0 && f->shared_fd >= 0) {
		shutdown(f->write_fd, SHUT_WR);
	} else if (f->write_fd >= 0) {
		watch_free(f->writing);
		f->writing = NULL;
		close(f->write_fd);
	}
	f->write_fd = -1;
}

/* Reading. */

static void read_over(struct fdio *f, int why)
{
	struct err err;
	/* The other side of a terminal went away: that is how its output ends. */
	bool eof = why == 0 || (why == EIO && isatty(f->read_fd));

	close_reading(f);
	update_watches(f);
	if (eof) {
		f->ops->eof(f->cookie);
		return;
	}
	err_sys(&err, why, "read");
	f->ops->failed(f->cookie, true, &err);
}

/* Reading goes on, in small steps, when others hold all of the loop's blocks. */
static ssize_t read_apart(struct fdio *f, struct slice *out)
{
	uint8_t bytes[READ_APART];
	ssize_t n = read(f->read_fd, bytes, smaller(f->window - f->under_way, sizeof(bytes)));

	if (n <= 0)
		return n;
	*out = slice_copy(bytes, (size_t)n);
	if (out->data != NULL)
		return n;
	errno = ENOMEM; /* and the bytes are lost */
	return -1;
}

/* As read(2); ${out} is set if the result is positive. */
static ssize_t read_slice(struct fdio *f, struct slice *out)
{
	size_t room, left = f->window - f->under_way;
	uint8_t *at = loop_recv_reserve(f->loop, smaller(left, READ_MIN), &room);

	if (at == NULL)
		return read_apart(f, out);
	ssize_t n = read(f->read_fd, at, smaller(left, room));
	if (n > 0)
		*out = loop_recv_take(f->loop, (size_t)n);
	return n;
}

/* One read a turn: it takes all there is, up to the window or a block. */
static void read_some(struct fdio *f)
{
	struct slice s;
	ssize_t n = read_slice(f, &s);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		read_over(f, n == 0 ? 0 : errno);
		return;
	}
	f->under_way += (size_t)n;
	update_watches(f);
	f->ops->data(f->cookie, s);
}

void fdio_credit(struct fdio *f, size_t bytes)
{
	assert(bytes <= f->under_way);
	f->under_way -= bytes;
	update_watches(f);
}

/* Writing. */

static bool is_pressed(const struct fdio *f)
{
	struct pool_stats stats;

	pool_stats(loop_pool(f->loop), &stats);
	return stats.live >= PRESSED_BLOCKS;
}

/* Bytes in the queue that somebody wrote and is to be told of. */
static size_t owned(const struct fdio *f)
{
	return f->queue.bytes > f->untold ? f->queue.bytes - f->untold : 0;
}

/* Writes what the kernel takes. 0: all of it; EAGAIN; or what is wrong. */
static int write_queue(struct fdio *f)
{
	struct iovec iov[VECTORS];

	while (f->queue.bytes > 0) {
		size_t n = bufq_peek(&f->queue, iov, VECTORS, SIZE_MAX), offered = 0;
		ssize_t sent = writev(f->write_fd, iov, (int)n);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return errno;
		for (size_t i = 0; i < n; i++)
			offered += iov[i].iov_len;
		bufq_drop(&f->queue, (size_t)sent);
		if ((size_t)sent < offered)
			return EAGAIN; /* as the next call would say */
	}
	return 0;
}

static void flush(struct fdio *f)
{
	size_t before = owned(f);
	struct err err;

	if (f->write_fd < 0)
		return;
	int why = f->broken != 0 ? f->broken : write_queue(f);
	f->blocked = why == EAGAIN;
	bool failed = why != 0 && !f->blocked;
	if (failed)
		bufq_free(&f->queue);
	if (failed || (why == 0 && f->finishing))
		close_writing(f);
	if (f->blocked && is_pressed(f))
		(void)bufq_settle(&f->queue); /* without memory it goes on pinning blocks */
	update_watches(f);
	if (before > owned(f) && f->ops->sent != NULL)
		f->ops->sent(f->cookie, before - owned(f));
	if (!failed || f->freed)
		return;
	err_sys(&err, why, "write");
	f->ops->failed(f->cookie, false, &err);
}

static void run_flush(struct post *post)
{
	flush((struct fdio *)((char *)post - offsetof(struct fdio, post)));
}

static void flush_later(struct fdio *f)
{
	if (f->post.pending || (f->blocked && f->broken == 0))
		return;
	f->post.run = run_flush;
	loop_post(f->loop, &f->post);
}

/* Takes on success. */
static int enqueue(struct fdio *f, struct slice s)
{
	struct slice copy = { 0 };

	if (f->blocked && is_pressed(f))
		copy = slice_copy(s.data, s.len);
	if (f->queue.count == FDIO_SLICES_MAX)
		(void)bufq_settle(&f->queue); /* if that fails the push does */
	if (bufq_push(&f->queue, copy.data != NULL ? copy : s) != 0) {
		slice_release(&copy);
		return -1;
	}
	if (copy.data != NULL)
		slice_release(&s);
	return 0;
}

int fdio_write(struct fdio *f, struct slice s)
{
	if (f->write_fd < 0 || f->finishing || f->broken != 0)
		return -1;
	bool mid_line =
	    s.len > 0 ? s.data[s.len - 1] != '\n' && s.data[s.len - 1] != '\r' : f->mid_line;
	if (enqueue(f, s) != 0) {
		f->broken = ENOBUFS; /* a gap in a stream is its end */
		flush_later(f);
		return -1;
	}
	f->mid_line = mid_line;
	flush_later(f);
	return 0;
}

/* To the program behind a terminal VEOF ends the input at the start of a line; within
 * one it ends the line, and a second one is needed. Programs that edit lines themselves,
 * as shells do, look for it too: so it is sent whatever the terminal's mode. */
static void finish_terminal(struct fdio *f)
{
	struct termios mode;
	int number;

	if (ioctl(f->write_fd, TIOCGPTN, &number) != 0 || tcgetattr(f->write_fd, &mode) != 0)
		return; /* not the master of one */
	f->veof[0] = f->veof[1] = mode.c_cc[VEOF];
	size_t count = f->mid_line ? 2 : 1;
	if (bufq_push(&f->queue, (struct slice){ .data = f->veof, .len = count }) == 0)
		f->untold = count;
}

void fdio_finish(struct fdio *f)
{
	if (f->write_fd < 0 || f->finishing)
		return;
	finish_terminal(f);
	f->finishing = true;
	flush_later(f);
}

size_t fdio_queued(const struct fdio *f)
{
	return owned(f);
}

int fdio_fd(const struct fdio *f)
{
	return f->read_fd;
}

/* Both. */

/* Ready, and yet nothing could be written: of a terminal without its other side that
 * would be said for ever. */
static bool is_hung_up(const struct fdio *f)
{
	struct pollfd p = { .fd = f->write_fd, .events = POLLOUT };

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR)) && !(p.revents & POLLOUT);
}

static void write_on(struct fdio *f)
{
	size_t before = f->queue.bytes;

	flush(f);
	if (f->freed || !f->blocked || f->queue.bytes != before || !is_hung_up(f))
		return;
	f->broken = EIO;
	flush(f);
}

static void on_ready(void *cookie, unsigned events)
{
	struct fdio *f = cookie;

	if ((events & WATCH_WRITE) && f->write_fd >= 0 && f->blocked)
		write_on(f);
	if (!f->freed && (events & WATCH_READ) && f->read_fd >= 0 && has_room(f))
		read_some(f);
	if (!f->freed && (events & WATCH_ERROR))
		update_watches(f); /* the loop has stopped asking */
}

static int watch_descriptors(struct fdio *f, struct err *err)
{
	if (f->read_fd >= 0 &&
	    (f->reading = watch_create(f->loop, f->read_fd, on_ready, f, err)) == NULL)
		return -1;
	if (f->write_fd >= 0 && f->shared_fd < 0 &&
	    (f->writing = watch_create(f->loop, f->write_fd, on_ready, f, err)) == NULL)
		return -1;
	return 0;
}

static int set_nonblocking(int fd, struct err *err)
{
	int flags = fd >= 0 ? fcntl(fd, F_GETFL) : 0;

	if (fd >= 0 && (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0))
		return err_sys(err, errno, "make a descriptor non-blocking");
	return 0;
}

struct fdio *fdio_create(struct loop *loop, const struct fdio_options *o, struct err *err)
{
	struct fdio *f = calloc(1, sizeof(*f));

	if (f == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	f->loop = loop;
	f->ops = o->ops;
	f->cookie = o->cookie;
	f->read_fd = o->read_fd;
	f->write_fd = o->write_fd;
	f->shared_fd = o->read_fd == o->write_fd ? o->read_fd : -1;
	f->window = o->window != 0 ? o->window : FDIO_WINDOW;
	bufq_init(&f->queue, FDIO_SLICES_MAX + 1, FDIO_QUEUE_MAX); /* and the end of a terminal */
	if (set_nonblocking(f->read_fd, err) != 0 || set_nonblocking(f->write_fd, err) != 0 ||
	    watch_descriptors(f, err) != 0) {
		watch_free(f->reading);
		watch_free(f->writing);
		free(f);
		return NULL;
	}
	update_watches(f);
	return f;
}

static void run_free(struct post *post)
{
	free((char *)post - offsetof(struct fdio, post));
}

/* The memory stays for the turn: we may be inside of one of our callbacks. */
void fdio_free(struct fdio *f)
{
	if (f == NULL)
		return;
	assert(!f->freed);
	f->freed = true;
	if (f->shared_fd >= 0) {
		watch_free(f->reading);
		close(f->shared_fd);
	} else {
		close_reading(f);
		close_writing(f);
	}
	f->read_fd = f->write_fd = -1;
	bufq_free(&f->queue);
	f->post.run = run_free;
	if (!f->post.pending)
		loop_post(f->loop, &f->post);
}

/* Seen by a pump. */

static void source_credit(void *self, size_t bytes)
{
	fdio_credit(self, bytes);
}

static void source_stop(void *self, const struct err *why)
{
	struct fdio *f = self;

	(void)why;
	close_reading(f);
	update_watches(f);
}

static int sink_write(void *self, struct slice s)
{
	return fdio_write(self, s);
}

static void sink_finish(void *self)
{
	fdio_finish(self);
}

static void sink_stop(void *self, const struct err *why)
{
	struct fdio *f = self;

	(void)why;
	bufq_free(&f->queue);
	f->blocked = false;
	close_writing(f);
	update_watches(f);
}

struct pump_source fdio_source(struct fdio *f)
{
	return (struct pump_source){ .credit = source_credit, .stop = source_stop, .self = f };
}

struct pump_sink fdio_sink(struct fdio *f)
{
	return (struct pump_sink){
		.write = sink_write,
		.finish = sink_finish,
		.stop = sink_stop,
		.self = f,
	};
}
