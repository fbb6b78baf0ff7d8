/* Programs start as a shell would start them, on pipes and on a terminal. */
#include "supervisor/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/leak.h"
#include "supervisor/login.h"
#include "supervisor/reaper.h"

static char *const environment[] = { (char *)"PATH=/usr/bin:/bin", (char *)"A=1", NULL };

static int setup(void **state)
{
	*state = leak_begin();
	return 0;
}

static int teardown(void **state)
{
	return leak_end(*state);
}

static struct process_options options(char *const *argv, bool tty)
{
	return (struct process_options){
		.argv = argv, .envp = environment, .workdir = "/", .tty = tty
	};
}

/* Reads to the end (EIO is a terminal's), waits, and gives the exit status. */
static int collect(struct process *p, char *out, size_t size)
{
	size_t n = 0;
	int status;

	if (p->in != p->out)
		close(p->in);
	for (;;) {
		ssize_t r = read(p->out, out + n, size - 1 - n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			break;
		n += (size_t)r;
	}
	out[n] = '\0';
	close(p->out);
	if (p->err >= 0)
		close(p->err);
	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	return status;
}

static void start(const struct process_options *o, struct process *p)
{
	struct err err;
	int exit_code;

	if (process_start(o, p, &exit_code, &err) != 0)
		fail_msg("%s", err.text);
}

static void argv_is_passed_as_it_is(void **state)
{
	char *argv[] = { (char *)"printf", (char *)"[%s]", (char *)"a b", (char *)"new\nline",
		(char *)"$A'\"", NULL };
	struct process_options o = options(argv, false);
	struct process p;
	char out[256];

	(void)state;
	start(&o, &p);
	assert_int_equal(collect(&p, out, sizeof(out)), 0);
	assert_string_equal(out, "[a b][new\nline][$A'\"]");
}

/* Only 0, 1 and 2 are open, and the process leads a session. */
static void nothing_is_inherited(void **state)
{
	char *argv[] = { (char *)"/bin/sh", (char *)"-c",
		(char *)"ls /proc/self/fd | wc -l; cut -d' ' -f5,6 /proc/$$/stat", NULL };
	struct process_options o = options(argv, false);
	struct process p;
	char out[256], want[64];
	int leaky = open("/dev/null", O_RDONLY); /* without CLOEXEC */

	(void)state;
	start(&o, &p);
	snprintf(want, sizeof(want), "4\n%d %d\n", p.pid, p.pid); /* the fourth is ls's own */
	assert_int_equal(collect(&p, out, sizeof(out)), 0);
	assert_string_equal(out, want);
	close(leaky);
}

static void terminal_is_controlling(void **state)
{
	char *argv[] = { (char *)"/bin/sh", (char *)"-c",
		(char *)"test -t 0 && test -t 2 && stty size < /dev/tty", NULL };
	struct process_options o = options(argv, true);
	struct process p;
	char out[256];

	(void)state;
	o.size.cols = 100;
	o.size.rows = 30;
	start(&o, &p);
	assert_int_equal(p.in, p.out);
	assert_int_equal(p.err, -1);
	assert_int_equal(collect(&p, out, sizeof(out)), 0);
	assert_string_equal(out, "30 100\r\n");
}

static void terminal_has_modes_and_a_name(void **state)
{
	static const uint8_t modes[] = { 53, 0, 0, 0, 0, 1, 0, 0, 0, 7, 0 };
	char *argv[] = { (char *)"-sh", (char *)"-c",
		(char *)"test \"$TTY_IS\" = \"$(tty)\" && echo $0 && stty -a", NULL };
	struct process_options o = options(argv, true);
	struct process p;
	char out[2048];

	(void)state;
	o.program = "/bin/sh";
	o.modes = modes;
	o.modes_len = sizeof(modes);
	o.tty_variable = "TTY_IS";
	start(&o, &p);
	assert_int_equal(collect(&p, out, sizeof(out)), 0);
	assert_memory_equal(out, "-sh\r\n", 5);
	assert_non_null(strstr(out, "intr = ^G;"));
	assert_non_null(strstr(out, " -echo "));
}

static void assert_fails(char *const *argv, const char *workdir, int want)
{
	struct process_options o = options(argv, false);
	struct process p;
	struct err err;
	int exit_code;

	o.workdir = workdir;
	assert_int_equal(process_start(&o, &p, &exit_code, &err), -1);
	assert_int_equal(exit_code, want);
	assert_non_null(strstr(err.text, argv[0]));
}

static void failures_have_a_shells_exit_codes(void **state)
{
	char *missing[] = { (char *)"no-such-program", NULL };
	char *path[] = { (char *)"/no/such/program", NULL };
	char *directory[] = { (char *)"/tmp", NULL };
	char *plain[] = { (char *)"./plain", NULL };
	int fd = open(leak_path(*state, "plain"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	close(fd);
	assert_fails(missing, "/", PROCESS_NOT_FOUND);
	assert_fails(path, "/", PROCESS_NOT_FOUND);
	assert_fails(directory, "/", PROCESS_NOT_EXECUTABLE);
	assert_fails(plain, leak_folder(*state), PROCESS_NOT_EXECUTABLE);
	assert_int_equal(unlink(leak_path(*state, "plain")), 0);
}

/* What a login shell adds is there, what the shell keeps for itself is not. */
static void login_environment_is_asked_once(void **state)
{
	char home[512];
	char *envp[] = { (char *)"PATH=/usr/bin:/bin", home, NULL };
	int fd = open(leak_path(*state, ".profile"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	static const char profile[] = "export FROM_PROFILE='two\nlines'\n";
	bool found = false;

	assert_int_equal(write(fd, profile, sizeof(profile) - 1), sizeof(profile) - 1);
	close(fd);
	snprintf(home, sizeof(home), "HOME=%s", leak_folder(*state));
	char **list = login_environment(envp, "/");
	assert_non_null(list);
	for (char **at = list; *at != NULL; at++) {
		found = found || strcmp(*at, "FROM_PROFILE=two\nlines") == 0;
		assert_true(strncmp(*at, "PWD=", 4) != 0 && strncmp(*at, "_=", 2) != 0);
	}
	assert_true(found);
	login_environment_free(list);
	assert_int_equal(unlink(leak_path(*state, ".profile")), 0);
}

struct ended {
	struct loop *loop;
	int status, count;
};

static void on_ended(void *cookie, int status)
{
	struct ended *e = cookie;

	e->status = status;
	e->count++;
	loop_stop(e->loop);
}

/* Children are told apart, orphans are collected too. */
static void reaper_tells_each_its_own(void **state)
{
	char *argv[] = { (char *)"/bin/sh", (char *)"-c", (char *)"exit 7", NULL };
	struct process_options o = options(argv, false);
	struct process p;
	struct err err;
	struct ended e = { .loop = loop_create(0, &err) };
	struct reaper *r = reaper_create(e.loop, &err);

	(void)state;
	pid_t orphan = fork();
	if (orphan == 0)
		_exit(3);
	start(&o, &p);
	struct child *c = reaper_add(r, p.pid, on_ended, &e);
	assert_int_equal(child_pid(c), p.pid);
	loop_run(e.loop);
	assert_int_equal(e.count, 1);
	assert_int_equal(WEXITSTATUS(e.status), 7);
	close(p.in);
	close(p.out);
	close(p.err);
	while (waitpid(orphan, NULL, WNOHANG) > 0)
		;
	reaper_free(r);
	loop_free(e.loop);
}

/* libuv keeps one pipe for signals as long as the process lives: it is no test's leak. */
static int open_signal_pipe(void **state)
{
	struct err err;
	struct loop *loop = loop_create(0, &err);

	(void)state;
	signal_watch_free(signal_watch_create(loop, SIGUSR2, NULL, NULL, &err));
	loop_free(loop);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(argv_is_passed_as_it_is, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_is_inherited, setup, teardown),
		cmocka_unit_test_setup_teardown(terminal_is_controlling, setup, teardown),
		cmocka_unit_test_setup_teardown(terminal_has_modes_and_a_name, setup, teardown),
		cmocka_unit_test_setup_teardown(failures_have_a_shells_exit_codes, setup, teardown),
		cmocka_unit_test_setup_teardown(login_environment_is_asked_once, setup, teardown),
		cmocka_unit_test_setup_teardown(reaper_tells_each_its_own, setup, teardown),
	};

	return cmocka_run_group_tests(tests, open_signal_pipe, NULL);
}
