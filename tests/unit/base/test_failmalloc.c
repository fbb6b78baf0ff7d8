/* The base with each allocation failing in turn: an error or a NULL, never a crash, a leak or
 * half a result. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/config.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/map.h"
#include "base/text.h"
#include "base/worker.h"
#include "options.h"
#include "support/alloc.h"
#include "support/leak.h"

#define KEYS 200 /* more than one growth of the table */

static void assert_out_of_memory(const struct err *err)
{
	assert_true(alloc_has_failed());
	assert_int_equal(err->code, GRPC_RESOURCE_EXHAUSTED);
	assert_non_null(strstr(err->text, "out of memory"));
}

/* Every key that went in is there, and none that did not. */
static void fill_map(void *cookie)
{
	struct map *m = map_create();
	bool in[KEYS];
	size_t count = 0;
	char key[16];

	(void)cookie;
	if (m == NULL) {
		assert_true(alloc_has_failed());
		return;
	}
	for (unsigned i = 0; i < KEYS; i++) {
		snprintf(key, sizeof(key), "key %u", i);
		in[i] = map_put(m, key, m) == 0;
		assert_true(in[i] || alloc_has_failed());
		count += in[i];
	}
	assert_int_equal(map_count(m), count);
	for (unsigned i = 0; i < KEYS; i++) {
		snprintf(key, sizeof(key), "key %u", i);
		assert_ptr_equal(map_get(m, key), in[i] ? m : NULL);
		if (i % 2 == 0)
			assert_ptr_equal(map_remove(m, key), in[i] ? m : NULL);
	}
	map_free(m);
}

/* A block that cannot be had takes nothing of the ceiling. */
static void take_blocks(void *cookie)
{
	struct pool *p = pool_create(4096, 3);
	struct block *blocks[3] = { NULL };
	struct pool_stats stats;
	size_t live = 0;

	(void)cookie;
	if (p == NULL) {
		assert_true(alloc_has_failed());
		return;
	}
	for (unsigned i = 0; i < 3; i++) {
		blocks[i] = block_get(p);
		assert_true(blocks[i] != NULL || alloc_has_failed());
		live += blocks[i] != NULL;
	}
	pool_stats(p, &stats);
	assert_int_equal(stats.live, live);
	assert_int_equal(stats.full, 0);
	for (unsigned i = 0; i < 3; i++)
		block_unref(blocks[i]);
	pool_free(p);
}

static void copy_slices(void *cookie)
{
	struct slice s = slice_copy("text", 4);
	struct block *b = block_new(10);

	(void)cookie;
	if (s.owner == NULL) {
		assert_true(alloc_has_failed());
		assert_null(s.data);
	}
	assert_true(b != NULL || alloc_has_failed());
	slice_release(&s);
	block_unref(b);
}

static size_t push_letters(struct bufq *q, size_t count)
{
	static const uint8_t letters[] = "abcdefghijklmnopqrstuvwxyz";
	size_t n = 0;

	while (n < count && bufq_push(q, (struct slice){ .data = letters + n % 26, .len = 1 }) == 0)
		n++;
	return n;
}

static void assert_letters(const struct bufq *q, size_t count)
{
	struct iovec iov[64];
	size_t n = bufq_peek(q, iov, 64, SIZE_MAX), at = 0;

	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < iov[i].iov_len; j++, at++)
			assert_int_equal(((char *)iov[i].iov_base)[j], 'a' + at % 26);
	assert_int_equal(at, count);
	assert_int_equal(q->bytes, count);
}

/* Through growth, settling and moving: what does not work leaves both as they were. */
static void queue_slices(void *cookie)
{
	struct bufq a, b;
	size_t n;

	(void)cookie;
	bufq_init(&a, 64, 64);
	bufq_init(&b, 64, 64);
	n = push_letters(&a, 40);
	assert_true(n == 40 || alloc_has_failed());
	assert_letters(&a, n);
	if (bufq_move(&b, &a) != 0) {
		assert_true(alloc_has_failed());
		assert_letters(&a, n);
		assert_letters(&b, 0);
	} else {
		assert_letters(&a, 0);
		assert_letters(&b, n);
	}
	struct bufq *full = b.bytes > 0 ? &b : &a;
	if (bufq_settle(full) != 0)
		assert_true(alloc_has_failed());
	assert_letters(full, n);
	bufq_free(&a);
	bufq_free(&b);
}

static void write_text(void *cookie)
{
	struct text t;
	char want[1000];

	(void)cookie;
	memset(want, 'x', sizeof(want));
	text_init(&t, 1000);
	for (unsigned i = 0; i < 100; i++)
		text_addf(&t, "%s", "xxxxx");
	for (unsigned i = 0; i < 100; i++)
		text_add(&t, "xxxxx", 5);
	assert_int_equal(t.failed, alloc_has_failed());
	assert_true(t.failed || t.len == 1000);
	assert_true(t.len % 5 == 0);
	if (t.data != NULL)
		assert_memory_equal(t.data, want, t.len);
	text_free(&t);
}

static void make_digest(void *cookie)
{
	struct digest *d = digest_create();

	(void)cookie;
	assert_true(d != NULL || alloc_has_failed());
	digest_free(d);
}

/* Either all is set, or the error names the key, and the fields hold what was set before. */
static void read_options(void *cookie)
{
	static char words[][16] = { "program", "--name=flag", "--tag", "one", "--tag=two" };
	struct options o = { 0 };
	struct config c;
	struct err e = { 0 };

	(void)cookie;
	config_begin(&c, options_keys, &o);
	if (config_line(&c, "conf:1", "name = file", &e) != 0 ||
	    config_line(&c, "conf:2", "tag = file", &e) != 0 ||
	    config_flags(&c, 5,
		(char *[]){ words[0], words[1], words[2], words[3], words[4], NULL }, false,
		&e) < 0 ||
	    config_finish(&c, &e) != 0) {
		assert_out_of_memory(&e);
		assert_true(strstr(e.text, "name: ") != NULL || strstr(e.text, "tag: ") != NULL);
		assert_true(
		    o.name == NULL || strcmp(o.name, "file") == 0 || strcmp(o.name, "flag") == 0);
	} else {
		assert_string_equal(o.name, "flag");
		assert_int_equal(o.tags.count, 2);
	}
	for (size_t i = 0; i < o.tags.count; i++)
		assert_non_null(o.tags.item[i]);
	config_free(&c);
}

/* A line is whole, or said to be lost. */
static void log_lines(void *cookie)
{
	static const struct log_area area = { "test" };
	char text[256];
	int fd = memfd_create("log", MFD_CLOEXEC);

	(void)cookie;
	log_setup(fd, LOG_FORMAT_LOGFMT, LOG_LEVEL_INFO);
	log_fail(&area, "line", LOG_STR("text", "some \"text\" that makes the line grow"),
	    LOG_STR("more", "and more of it"));
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	assert_true(n > 0);
	text[n] = '\0';
	if (strcmp(text, "event=log_line_lost\n") == 0)
		assert_true(alloc_has_failed());
	else
		assert_non_null(strstr(text, " more=\"and more of it\"\n"));
	log_setup(STDERR_FILENO, LOG_FORMAT_LOGFMT, LOG_LEVEL_WARN);
	close(fd);
}

static void fire(void *cookie)
{
	++*(unsigned *)cookie;
}

static void ready(void *cookie, unsigned events)
{
	(void)cookie;
	(void)events;
}

static void post_fire(struct post *p)
{
	(void)p;
}

static void use_loop(struct loop *l, const int fds[2])
{
	unsigned fired = 0;
	struct err watch_err = { 0 }, signal_err = { 0 };
	struct post post = { .run = post_fire };
	struct timer *timer = timer_create_on(l, fire, &fired);
	struct watch *watch = watch_create(l, fds[0], ready, NULL, &watch_err);
	struct signal_watch *sig = signal_watch_create(l, SIGUSR1, fire, &fired, &signal_err);
	size_t room;

	if (watch == NULL)
		assert_out_of_memory(&watch_err);
	if (sig == NULL)
		assert_out_of_memory(&signal_err);
	loop_post(l, &post);
	if (loop_recv_reserve(l, 1, &room) == NULL) {
		assert_true(alloc_has_failed());
	} else {
		struct slice s = loop_recv_take(l, 1);
		slice_release(&s);
	}
	signal_watch_free(sig);
	if (timer != NULL)
		timer_start(timer, 0);
	else
		assert_true(alloc_has_failed());
	loop_run_idle(l);
	assert_int_equal(fired, timer != NULL);
	assert_false(post.pending);
	watch_free(watch);
	timer_free(timer);
}

static void run_loop(void *cookie)
{
	struct err e = { 0 };
	struct loop *l = loop_create(0, &e);
	int fds[2];

	(void)cookie;
	if (l == NULL) {
		assert_out_of_memory(&e);
		return;
	}
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	use_loop(l, fds);
	loop_free(l);
	close(fds[0]);
	close(fds[1]);
}

struct task {
	struct job job;
	bool ran, done;
};

static void run_task(struct job *job)
{
	((struct task *)job)->ran = true;
}

static void task_done(struct job *job)
{
	((struct task *)job)->done = true;
}

/* Once they are made, workers need no memory. */
static void use_workers(void *cookie)
{
	const struct workers_options opt = { .threads = 2, .max_queued = 10 };
	struct task tasks[10] = { 0 };
	struct err e = { 0 };
	struct workers *w = workers_create(&opt, &e);
	struct loop *l = loop_create(0, NULL);

	(void)cookie;
	if (w == NULL)
		assert_out_of_memory(&e);
	for (unsigned i = 0; w != NULL && l != NULL && i < 10; i++) {
		tasks[i].job = (struct job){ .run = run_task, .done = task_done };
		assert_int_equal(workers_submit(w, l, &tasks[i].job), 0);
	}
	workers_free(w);
	loop_free(l);
	for (unsigned i = 0; i < 10; i++)
		assert_true(
		    tasks[i].ran == (w != NULL && l != NULL) && tasks[i].done == tasks[i].ran);
}

/* The body comes as the initial state; the leak check is of all its runs. */
static void torture(void **state)
{
	struct leak *leak = leak_begin();

	alloc_torture(*(void (**)(void *)) * state, NULL);
	assert_int_equal(leak_end(leak), 0);
}

int main(void)
{
	static void (*bodies[])(void *) = {
		fill_map,
		take_blocks,
		copy_slices,
		queue_slices,
		write_text,
		make_digest,
		read_options,
		log_lines,
		run_loop,
		use_workers,
	};
	const struct CMUnitTest tests[] = {
		{ "fill_map", torture, NULL, NULL, &bodies[0] },
		{ "take_blocks", torture, NULL, NULL, &bodies[1] },
		{ "copy_slices", torture, NULL, NULL, &bodies[2] },
		{ "queue_slices", torture, NULL, NULL, &bodies[3] },
		{ "write_text", torture, NULL, NULL, &bodies[4] },
		{ "make_digest", torture, NULL, NULL, &bodies[5] },
		{ "read_options", torture, NULL, NULL, &bodies[6] },
		{ "log_lines", torture, NULL, NULL, &bodies[7] },
		{ "run_loop", torture, NULL, NULL, &bodies[8] },
		{ "use_workers", torture, NULL, NULL, &bodies[9] },
	};

	/* The first loop opens a pipe that libuv keeps for good. */
	loop_free(loop_create(0, NULL));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
