/* A thread that is confined reaches what is beneath its directory, and nothing else. */
#include "transfer/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/beneath.h"
#include "support/leak.h"

struct world {
	const char *inside, *outside; /* files */
	int dir;
	bool confined, reached_inside, reached_outside, made, linked;
};

static void *work(void *arg)
{
	struct world *w = arg;

	w->confined = confine_to(w->dir);
	int fd = open(w->inside, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	w->reached_inside = fd >= 0;
	if (fd >= 0)
		close(fd);
	w->made = mkdirat(w->dir, "sub", 0755) == 0 && symlinkat("a", w->dir, "sub/link") == 0;
	w->linked = linkat(w->dir, "file", w->dir, "sub/hard", 0) == 0;
	if ((fd = open(w->outside, O_RDONLY | O_CLOEXEC)) >= 0) {
		w->reached_outside = true;
		close(fd);
	}
	return NULL;
}

static void only_its_own_thread_is_confined(void **state)
{
	struct leak *leak = *state;
	struct world w = { .inside = leak_path(leak, "in/file"),
		.outside = leak_path(leak, "secret") };
	pthread_t thread;
	struct err err;
	int fd;

	assert_int_equal(mkdir(leak_path(leak, "in"), 0755), 0);
	assert_true((fd = open(w.outside, O_WRONLY | O_CREAT | O_CLOEXEC, 0644)) >= 0);
	close(fd);
	w.dir = open(leak_path(leak, "in"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(pthread_create(&thread, NULL, work, &w), 0);
	pthread_join(thread, NULL);
	assert_int_equal(w.confined, confine_supported());
	assert_true(w.reached_inside && w.made && w.linked);
	assert_int_equal(w.reached_outside, !w.confined);
	assert_true((fd = open(w.outside, O_RDONLY | O_CLOEXEC)) >= 0); /* not we */
	close(fd);
	close(w.dir);
	int folder = open(leak_folder(leak), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	beneath_remove_tree(folder, "in", &err);
	unlinkat(folder, "secret", 0);
	close(folder);
}

static int setup(void **state)
{
	*state = leak_begin();
	return 0;
}

static int teardown(void **state)
{
	return leak_end(*state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(only_its_own_thread_is_confined, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
