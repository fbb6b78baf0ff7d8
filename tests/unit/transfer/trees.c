#include "trees.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/beneath.h"
#include "support/alloc.h"

#define PIPE_SIZE ((size_t)512 << 10)

/* Bytes one way. Full or empty, it makes its end wait. */
struct pipe {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	uint8_t *data;
	size_t at, len, pulled;
	bool closed;
	const char *why; /* it was broken off; NULL: the writer is done */
	uint8_t *out;    /* what the reader has */
};

static void pipe_open(struct pipe *p)
{
	*p = (struct pipe){ .data = malloc(PIPE_SIZE), .out = malloc(PIPE_SIZE) };
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->moved, NULL);
}

static void pipe_free(struct pipe *p)
{
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->moved);
	free(p->data);
	free(p->out);
}

static void pipe_close(struct pipe *p, const char *why)
{
	pthread_mutex_lock(&p->lock);
	if (!p->closed)
		p->why = why;
	p->closed = true;
	pthread_cond_broadcast(&p->moved);
	pthread_mutex_unlock(&p->lock);
}

static ssize_t pull(void *cookie, const void **bytes, struct err *err)
{
	struct pipe *p = ((struct end *)cookie)->in;
	ssize_t n;

	pthread_mutex_lock(&p->lock);
	while (p->len == 0 && !p->closed)
		pthread_cond_wait(&p->moved, &p->lock);
	if (p->len == 0 && p->why != NULL) {
		n = err_set(err, GRPC_CANCELLED, "%s", p->why);
	} else {
		n = (ssize_t)(p->len < 1000 ? p->len : p->len / 2);
		memcpy(p->out, p->data, (size_t)n);
		memmove(p->data, p->data + n, p->len - (size_t)n);
		p->len -= (size_t)n;
		*bytes = p->out;
	}
	pthread_cond_broadcast(&p->moved);
	pthread_mutex_unlock(&p->lock);
	usleep(((struct end *)cookie)->pause_us);
	return n;
}

static int push(void *cookie, const void *bytes, size_t len, struct err *err)
{
	struct pipe *p = ((struct end *)cookie)->out;
	int r = 0;

	pthread_mutex_lock(&p->lock);
	while (p->len + len > PIPE_SIZE && !p->closed)
		pthread_cond_wait(&p->moved, &p->lock);
	if (p->closed) {
		r = err_set(err, GRPC_CANCELLED, "nobody reads");
	} else {
		memcpy(p->data + p->len, bytes, len);
		p->len += len;
	}
	pthread_cond_broadcast(&p->moved);
	pthread_mutex_unlock(&p->lock);
	return r;
}

static void stop(void *cookie, const struct err *why)
{
	struct end *e = cookie;

	(void)why;
	pipe_close(e->in, "stopped");
	pipe_close(e->out, "stopped");
}

static void note(void *cookie, const char *text)
{
	(void)text;
	((struct end *)cookie)->notes++;
}

static void *end_main(void *cookie)
{
	struct end *e = cookie;
	const struct sync_link link = { .pull = pull, .push = push, .stop = stop, .cookie = e };

	e->options.cookie = e;
	e->options.note = note;
	e->result = e->run(e->root, &e->options, &link, &e->counts, &e->err);
	pipe_close(e->out, e->result == 0 ? NULL : "the other end has failed");
	pipe_close(e->in, e->result == 0 ? NULL : "the other end has failed");
	return NULL;
}

int make_folder(struct trees *t, const char *name)
{
	assert_int_equal(mkdirat(t->folder, name, 0755), 0);
	int fd = openat(t->folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

int trees_setup(void **state)
{
	struct trees *t = calloc(1, sizeof(*t));

	t->leak = leak_begin();
	t->folder = open(leak_folder(t->leak), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	t->source = make_folder(t, "source");
	t->target = make_folder(t, "target");
	*state = t;
	return 0;
}

int trees_teardown(void **state)
{
	struct trees *t = *state;
	struct err err;

	beneath_remove_tree(t->folder, "source", &err);
	beneath_remove_tree(t->folder, "target", &err);
	close(t->source);
	close(t->target);
	close(t->folder);
	int r = leak_end(t->leak);
	free(t);
	return r;
}

void sync_them_with(struct trees *t, const struct sync_options *from, const struct sync_options *to)
{
	struct pipe there, back;
	pthread_t thread;

	alloc_hold();
	pipe_open(&there);
	pipe_open(&back);
	alloc_release();
	t->from = (struct end){ &back, &there, t->source, .options = *from, .run = sync_source };
	t->to = (struct end){ &there, &back, t->target, .options = *to, .run = sync_target };
	assert_int_equal(pthread_create(&thread, NULL, end_main, &t->from), 0);
	end_main(&t->to);
	pthread_join(thread, NULL);
	pipe_free(&there);
	pipe_free(&back);
}

void sync_them(struct trees *t, const struct sync_options *o)
{
	sync_them_with(t, o, o);
}

/* With more streams, whose calls are there before they are asked for. */

static int run_source(int root, const struct sync_options *o, const struct sync_link *link,
    struct sync_counts *c, struct err *err)
{
	(void)root;
	return sync_source_stream(o->team, link, c, err);
}

static int run_target(int root, const struct sync_options *o, const struct sync_link *link,
    struct sync_counts *c, struct err *err)
{
	(void)root;
	return sync_target_stream(o->team, link, c, err);
}

void sync_in_streams(struct trees *t, const struct sync_options *o)
{
	struct sync_options from = *o, to = *o;
	struct end ends[STREAMS][2];
	struct pipe pipes[STREAMS][2];
	pthread_t threads[STREAMS][2];
	struct err err = { 0 };

	alloc_hold();
	from.item = t->item;
	from.team = sync_team_create(&err);
	to.team = sync_team_create(&err);
	sync_team_allow_ranges(from.team);
	for (size_t i = 0; i < STREAMS; i++) {
		pipe_open(&pipes[i][0]);
		pipe_open(&pipes[i][1]);
		ends[i][0] = (struct end){ &pipes[i][1], &pipes[i][0], -1, .options = from,
			.run = run_source };
		ends[i][1] = (struct end){ &pipes[i][0], &pipes[i][1], -1, .options = to,
			.run = run_target };
		ends[i][1].pause_us = i == 0 ? t->pause_us : 0;
		for (size_t k = 0; k < 2; k++)
			assert_int_equal(
			    pthread_create(&threads[i][k], NULL, end_main, &ends[i][k]), 0);
	}
	alloc_release();
	sync_them_with(t, &from, &to);
	for (size_t i = 0; i < STREAMS; i++) {
		/* Both ends have both pipes. */
		pthread_join(threads[i][0], NULL);
		pthread_join(threads[i][1], NULL);
		t->literal[i] = ends[i][0].counts.literal;
		pipe_free(&pipes[i][0]);
		pipe_free(&pipes[i][1]);
	}
	sync_team_release(from.team);
	sync_team_release(to.team);
}

void sync_well(struct trees *t, const struct sync_options *o)
{
	sync_them(t, o);
	if (t->from.result != 0 || t->to.result != 0)
		print_error("source: %s; target: %s\n", t->from.err.text, t->to.err.text);
	assert_int_equal(t->from.result, 0);
	assert_int_equal(t->to.result, 0);
	assert_int_equal(t->from.counts.files, t->to.counts.files);
	assert_int_equal(t->from.counts.same, t->to.counts.same);
	assert_int_equal(t->from.counts.failed, t->to.counts.failed);
	assert_int_equal(t->from.counts.sent, t->to.counts.received);
	assert_int_equal(t->from.counts.received, t->to.counts.sent);
}

void write_file(int root, const char *path, const void *bytes, size_t len)
{
	int fd = openat(root, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), len);
	close(fd);
}

void write_text(int root, const char *path, const char *text)
{
	write_file(root, path, text, strlen(text));
}

/* ${len} bytes that depend on ${seed}. */
void write_random(int root, const char *path, size_t len, uint32_t seed)
{
	uint8_t *bytes = malloc(len);

	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
	write_file(root, path, bytes, len);
	free(bytes);
}

void assert_same_file(struct trees *t, const char *path)
{
	int a = openat(t->source, path, O_RDONLY | O_CLOEXEC);
	int b = openat(t->target, path, O_RDONLY | O_CLOEXEC);
	char x[4096], y[4096];
	struct stat s1, s2;
	ssize_t n;

	assert_true(a >= 0 && b >= 0);
	assert_int_equal(fstat(a, &s1), 0);
	assert_int_equal(fstat(b, &s2), 0);
	assert_int_equal(s1.st_mode, s2.st_mode);
	assert_int_equal(s1.st_mtim.tv_nsec, s2.st_mtim.tv_nsec);
	do {
		n = read(a, x, sizeof(x));
		assert_int_equal(read(b, y, sizeof(y)), n);
		assert_memory_equal(x, y, (size_t)n);
	} while (n > 0);
	close(a);
	close(b);
}

bool is_there(int root, const char *path)
{
	struct stat st;

	return fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

ino_t inode_of(int root, const char *path)
{
	struct stat st;

	assert_int_equal(fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_ino;
}

void write_at(int root, const char *path, const char *text, off_t offset)
{
	int fd = openat(root, path, O_WRONLY | O_CLOEXEC);

	assert_int_equal(pwrite(fd, text, strlen(text), offset), strlen(text));
	close(fd);
}
