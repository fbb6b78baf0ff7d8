/* Lines of several threads: whole, none lost, and counted together. */
#include "base/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "leaks.h"

#define THREADS 4
#define LINES   200

static const struct log_area area = { "test" };

/* Each line under another name, so that all are written. */
static void *log_names(void *arg)
{
	char(*names)[24] = arg;

	for (unsigned i = 0; i < LINES; i++)
		log_warn(&area, names[i], LOG_STR("text", "of a thread"));
	return NULL;
}

static void *log_storm(void *arg)
{
	for (unsigned i = 0; i < LINES; i++)
		log_warn(&area, "storm", LOG_U64("n", i));
	return arg;
}

static char *read_all(int fd)
{
	char *text = malloc(1 << 20);
	ssize_t n = pread(fd, text, (1 << 20) - 1, 0);

	assert_true(n > 0);
	text[n] = '\0';
	return text;
}

static void await_next_second(void)
{
	const struct timespec nap = { .tv_nsec = 10000000 };

	for (time_t t = time(NULL); time(NULL) == t;)
		nanosleep(&nap, NULL);
}

struct counts {
	unsigned own, storm;
	unsigned long repeated;
};

static struct counts count(char *text)
{
	static const char start[] = " level=warn area=test event=";
	struct counts c = { 0 };

	for (char *line; (line = strsep(&text, "\n")) != NULL && *line != '\0';) {
		const char *event = strstr(line, start);

		assert_memory_equal(line, "time=", 5);
		assert_non_null(event);
		event += strlen(start);
		if (strncmp(event, "storm repeated=", 15) == 0)
			c.repeated += strtoul(event + 15, NULL, 10);
		else if (strncmp(event, "storm n=", 8) == 0)
			c.storm++;
		else if (strncmp(event, "thread-", 7) == 0 &&
		    strstr(event, " text=\"of a thread\""))
			c.own++;
		else
			fail_msg("a line that nobody wrote: %s", line);
	}
	return c;
}

static void run_threads(void *(*body)(void *), char (*names)[LINES][24])
{
	pthread_t threads[THREADS];

	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, body, names[i]), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

static struct counts stop_log(int fd)
{
	char *text = read_all(fd);
	struct counts c = count(text);

	free(text);
	log_setup(STDERR_FILENO, LOG_FORMAT_LOGFMT, LOG_LEVEL_WARN);
	close(fd);
	return c;
}

/* A file that is gone already. */
static int start_log(struct leak *leak)
{
	const char *path = leak_path(leak, "log");
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	unlink(path);
	log_setup(fd, LOG_FORMAT_LOGFMT, LOG_LEVEL_WARN);
	return fd;
}

static void test_lines_are_whole(void **state)
{
	static char names[THREADS][LINES][24];
	int fd = start_log(*state);

	for (unsigned i = 0; i < THREADS; i++)
		for (unsigned n = 0; n < LINES; n++)
			snprintf(names[i][n], sizeof(names[i][n]), "thread-%u-%u", i, n);
	run_threads(log_names, names);
	assert_int_equal(stop_log(fd).own, THREADS * LINES);
}

static void test_repeats_are_counted(void **state)
{
	static char names[THREADS][LINES][24];
	int fd = start_log(*state);
	struct counts c;

	run_threads(log_storm, names);
	await_next_second();
	log_warn(&area, "storm", LOG_STR("n", "last"));
	c = stop_log(fd);
	assert_true(c.storm > LOG_BURST && c.repeated > 0);
	assert_int_equal(c.storm + c.repeated, THREADS * LINES + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		leaks_test(test_lines_are_whole),
		leaks_test(test_repeats_are_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
