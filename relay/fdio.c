#include "relay/fdio.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <termios.h>
#include <unistd.h>

#define READ_MIN ((size_t)64 << 10) /* bytes of room worth a read of their own */
#define VECTORS 64
#define QUEUE_SLICES_MAX 65536
#define QUEUE_BYTES_MAX ((size_t)16 << 20) /* several windows: nobody who keeps credit gets here */

struct fdio {
	struct loop *loop;
	const struct fdio_ops *ops;
	void *cookie;
	int read_fd, write_fd; /* -1: over */
	int shared_fd;	       /* one descriptor for both, with one watch; else -1 */
	struct watch *reading, *writing;
	size_t window, under_way;
	struct bufq queue;
	bool finishing; /* the end follows the queue */
	bool blocked;	/* the kernel takes no more for now */
	bool freed;
	struct post flush;
	struct post free;
};

/* What is waited for follows from the state; this is the only place that asks. */
static void update_watches(struct fdio *f)
{
	unsigned read = f->read_fd >= 0 && f->under_way < f->window ? WATCH_READ : WATCH_NONE;
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

/* The writing side ends: a socket is shut down, a pipe closed. */
static void close_writing(struct fdio *f)
{
	if (f->write_fd >= 0 && f->shared_fd >= 0) {
		shutdown(f->write_fd, SHUT_WR); /* ENOTSOCK for a terminal, which has no such end */
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
	bool eof = why == 0 || why == EIO;
	close_reading(f);
	update_watches(f);
	if (eof) {
		f->ops->eof(f->cookie);
		return;
	}
	err_sys(&err, why, "read");
	f->ops->failed(f->cookie, true, &err);
}

static void read_some(struct fdio *f)
{
	size_t room, left = f->window - f->under_way;
	uint8_t *at = loop_recv_reserve(f->loop, left < READ_MIN ? left : READ_MIN, &room);

	if (at == NULL)
		return; /* the pool is at its ceiling; level-triggered, so we come again */
	ssize_t n = read(f->read_fd, at, room < left ? room : left);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		read_over(f, n == 0 ? 0 : errno);
		return;
	}
	f->under_way += (size_t)n;
	update_watches(f);
	f->ops->data(f->cookie, loop_recv_take(f->loop, (size_t)n));
}

void fdio_credit(struct fdio *f, size_t bytes)
{
	assert(bytes <= f->under_way);
	f->under_way -= bytes;
	update_watches(f);
}

/* Writing. */

static void write_failed(struct fdio *f, int why)
{
	struct err err;

	bufq_free(&f->queue);
	f->blocked = false;
	close_writing(f);
	update_watches(f);
	err_sys(&err, why, "write");
	f->ops->failed(f->cookie, false, &err);
}

/* As much as the kernel takes; how much that was, and in ${why} an errno. */
static size_t write_queue(struct fdio *f, int *why)
{
	struct iovec iov[VECTORS];
	size_t total = 0;

	*why = 0;
	while (f->queue.bytes > 0) {
		size_t n = bufq_peek(&f->queue, iov, VECTORS, SIZE_MAX);
		ssize_t sent = writev(f->write_fd, iov, (int)n);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0) {
			*why = errno;
			break;
		}
		bufq_drop(&f->queue, (size_t)sent);
		total += (size_t)sent;
	}
	return total;
}

static void flush(struct fdio *f)
{
	int why;

	if (f->write_fd < 0)
		return;
	size_t sent = write_queue(f, &why);
	f->blocked = why == EAGAIN;
	if (why == 0 && f->finishing)
		close_writing(f);
	update_watches(f);
	if (sent > 0 && f->ops->sent != NULL)
		f->ops->sent(f->cookie, sent);
	if (!f->freed && why != 0 && why != EAGAIN)
		write_failed(f, why);
}

static void run_flush(struct post *post)
{
	flush((struct fdio *)((char *)post - offsetof(struct fdio, flush)));
}

static void flush_later(struct fdio *f)
{
	f->flush.run = run_flush;
	if (!f->flush.pending && !f->blocked)
		loop_post(f->loop, &f->flush);
}

int fdio_write(struct fdio *f, struct slice s)
{
	if (f->write_fd < 0 || f->finishing || bufq_push(&f->queue, s) != 0)
		return -1;
	flush_later(f);
	return 0;
}

/* A terminal ends its input by a character, where it edits lines; else not at all. */
static void finish_terminal(struct fdio *f)
{
	struct termios mode;

	if (f->shared_fd < 0 || tcgetattr(f->write_fd, &mode) != 0 || !(mode.c_lflag & ICANON))
		return;
	struct slice end = slice_copy(&mode.c_cc[VEOF], 1);
	if (end.data == NULL || bufq_push(&f->queue, end) != 0)
		slice_release(&end);
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
	return f->queue.bytes;
}

int fdio_fd(const struct fdio *f)
{
	return f->read_fd;
}

/* Both. */

static void on_ready(void *cookie, unsigned events)
{
	struct fdio *f = cookie;

	if ((events & WATCH_WRITE) && f->write_fd >= 0 && f->blocked)
		flush(f);
	if (f->freed)
		return;
	if ((events & WATCH_READ) && f->read_fd >= 0 && f->under_way < f->window)
		read_some(f);
	if (!f->freed && (events & WATCH_ERROR))
		update_watches(f); /* the loop has stopped asking */
}

static int watch_descriptors(struct fdio *f, struct err *err)
{
	if (f->read_fd >= 0 && (f->reading = watch_create(f->loop, f->read_fd, on_ready, f, err)) == NULL)
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
	bufq_init(&f->queue, QUEUE_SLICES_MAX, QUEUE_BYTES_MAX);
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
	free((char *)post - offsetof(struct fdio, free));
}

/* The memory stays for the turn: we may be inside of one of our callbacks. */
void fdio_free(struct fdio *f)
{
	if (f == NULL)
		return;
	assert(!f->freed);
	f->freed = true;
	loop_unpost(f->loop, &f->flush);
	if (f->shared_fd < 0) {
		close_reading(f);
		close_writing(f);
	}
	watch_free(f->reading);
	if (f->shared_fd >= 0)
		close(f->shared_fd);
	f->reading = NULL;
	f->read_fd = f->write_fd = -1;
	bufq_free(&f->queue);
	f->free.run = run_free;
	loop_post(f->loop, &f->free);
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
	close_writing(f);
	update_watches(f);
}

struct pump_source fdio_source(struct fdio *f)
{
	return (struct pump_source){.credit = source_credit, .stop = source_stop, .self = f};
}

struct pump_sink fdio_sink(struct fdio *f)
{
	return (struct pump_sink){.write = sink_write, .finish = sink_finish, .stop = sink_stop, .self = f};
}
