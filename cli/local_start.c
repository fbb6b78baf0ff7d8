/* Starting a gateway: a process, and the wait until it serves or has ended. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/loop.h"
#include "cli/cli.h"
#include "cli/local.h"

#define PROGRAM   "towline-gateway"
#define WORDS_MAX 256
#define LOG_TAIL  512 /* bytes of the log's end to look for the last line in */

/* The gateway's command line. */
struct words {
	char *word[WORDS_MAX];
	size_t count;
	bool failed;
};

static void add(struct words *w, const char *option, const char *value)
{
	char *word = NULL;

	if (w->count + 1 >= WORDS_MAX || asprintf(&word, "%s%s", option, value) < 0)
		w->failed = true;
	else
		w->word[w->count++] = word;
}

static void words_free(struct words *w)
{
	for (size_t i = 0; i < w->count; i++)
		free(w->word[i]);
}

/* Beside our own program. */
static int find_program(char out[static PATHS_MAX], struct err *err)
{
	char self[PATHS_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return err_sys(err, errno, "/proc/self/exe");
	self[n] = '\0';
	if (paths_join(out, dirname(self), PROGRAM, err) != 0)
		return -1;
	return access(out, X_OK) == 0 ? 0 : err_sys(err, errno, "%s", out);
}

static void make_words(
    struct words *w, const char *program, const struct local_paths *p, const struct local_start *o)
{
	add(w, program, "");
	add(w, "--data-dir=", p->data);
	add(w, "--ready-file=", p->ready);
	for (size_t i = 0; i < o->listen->count; i++)
		add(w, "--listen=", o->listen->item[i]);
	if (o->driver != NULL)
		add(w, "--driver=", o->driver);
	if (o->log_level != NULL)
		add(w, "--log-level=", o->log_level);
	for (char *const *at = o->more; at != NULL && *at != NULL; at++)
		add(w, *at, "");
}

static int describe(posix_spawn_file_actions_t *files, posix_spawnattr_t *attr,
    const struct local_paths *p, bool foreground)
{
	sigset_t all;
	int r;

	sigfillset(&all);
	if ((r = posix_spawnattr_setsigdefault(attr, &all)) != 0 ||
	    (r = posix_spawnattr_setflags(attr,
		 (short)(POSIX_SPAWN_SETSIGDEF | (foreground ? 0 : POSIX_SPAWN_SETSID)))) != 0 ||
	    foreground)
		return r;
	if ((r = posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0)) ==
		0 &&
	    (r = posix_spawn_file_actions_addopen(
		 files, STDOUT_FILENO, p->log, O_WRONLY | O_CREAT | O_APPEND, 0600)) == 0)
		r = posix_spawn_file_actions_adddup2(files, STDOUT_FILENO, STDERR_FILENO);
	return r;
}

static int spawn(const char *program, const struct words *w, const struct local_paths *p,
    bool foreground, pid_t *pid, struct err *err)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	int r;

	if ((r = posix_spawn_file_actions_init(&files)) != 0)
		return err_sys(err, r, "start %s", program);
	if ((r = posix_spawnattr_init(&attr)) == 0) {
		if ((r = describe(&files, &attr, p, foreground)) == 0)
			r = posix_spawn(pid, program, &files, &attr, w->word, environ);
		posix_spawnattr_destroy(&attr);
	}
	posix_spawn_file_actions_destroy(&files);
	return r == 0 ? 0 : err_sys(err, r, "start %s", program);
}

/* The wait. */

enum outcome { OUTCOME_NONE, OUTCOME_READY, OUTCOME_ENDED, OUTCOME_LATE };

struct start {
	struct loop *loop;
	const struct local_paths *paths;
	int folder_fd, pidfd; /* inotify, and the process */
	struct watch *folder, *process;
	struct timer *timer;
	enum outcome outcome;
	size_t signals; /* it was sent, since it was too late */
	bool over;
};

static void decide(struct start *s, enum outcome outcome)
{
	if (s->outcome == OUTCOME_NONE)
		s->outcome = outcome;
	s->over = true;
	loop_stop(s->loop);
}

static void on_folder(void *cookie, unsigned events)
{
	struct start *s = cookie;
	char buffer[4096] __attribute__((aligned(8)));

	(void)events;
	while (read(s->folder_fd, buffer, sizeof(buffer)) > 0)
		;
	if (s->outcome == OUTCOME_NONE && paths_exists(s->paths->ready))
		decide(s, OUTCOME_READY);
}

static void on_process(void *cookie, unsigned events)
{
	(void)events;
	decide(cookie, OUTCOME_ENDED);
}

/* Nobody needs it any more: asked to end, made to end, or left to whatever holds it. */
static void on_late(void *cookie)
{
	static const int signals[] = { SIGTERM, SIGKILL };
	struct start *s = cookie;

	s->outcome = OUTCOME_LATE;
	if (s->signals == sizeof(signals) / sizeof(signals[0])) {
		decide(s, OUTCOME_LATE);
		return;
	}
	pidfd_send_signal(s->pidfd, signals[s->signals++], NULL, 0);
	timer_start(s->timer, LOCAL_STOP_MS);
}

static int wait_outcome(struct start *s, struct err *err)
{
	if ((s->folder = watch_create(s->loop, s->folder_fd, on_folder, s, err)) == NULL ||
	    (s->process = watch_create(s->loop, s->pidfd, on_process, s, err)) == NULL)
		return -1;
	if ((s->timer = timer_create_on(s->loop, on_late, s)) == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	watch_want(s->folder, WATCH_READ);
	watch_want(s->process, WATCH_READ);
	timer_start(s->timer, LOCAL_START_MS);
	while (!s->over)
		loop_run(s->loop);
	return 0;
}

/* The last line of the log says best why it has ended. */
static void last_words(const struct local_paths *p, char out[static LOG_TAIL])
{
	int fd = open(p->log, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t n = 0;

	if (fd >= 0 && fstat(fd, &st) == 0)
		n = pread(fd, out, LOG_TAIL - 1,
		    st.st_size > LOG_TAIL - 1 ? st.st_size - (LOG_TAIL - 1) : 0);
	if (fd >= 0)
		close(fd);
	out[n > 0 ? n : 0] = '\0';
	for (size_t len = strlen(out); len > 0 && out[len - 1] == '\n';)
		out[--len] = '\0';
	char *line = strrchr(out, '\n');
	if (line != NULL)
		memmove(out, line + 1, strlen(line));
}

static int judge(const struct start *s, pid_t pid, bool foreground, struct err *err)
{
	char words[LOG_TAIL] = "";

	if (s->outcome == OUTCOME_READY)
		return 0;
	if (s->outcome == OUTCOME_LATE) {
		waitpid(pid, NULL, WNOHANG);
		return err_set(err, GRPC_DEADLINE_EXCEEDED,
		    "it does not serve after %d seconds; its log is %s", LOCAL_START_MS / 1000,
		    s->paths->log);
	}
	waitpid(pid, NULL, 0);
	if (foreground) /* it has said itself why */
		return err_set(err, GRPC_FAILED_PRECONDITION, "it has ended at once");
	last_words(s->paths, words);
	return err_set(err, GRPC_FAILED_PRECONDITION, "it has ended at once: %s (its log is %s)",
	    words, s->paths->log);
}

/* The folder is watched before the process is there, so that nothing is missed. */
static int start_and_wait(struct start *s, const char *program, const struct words *w,
    bool foreground, pid_t *pid, struct err *err)
{
	int r;

	s->folder_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (s->folder_fd < 0 || inotify_add_watch(s->folder_fd, s->paths->folder, IN_MOVED_TO) < 0)
		return err_sys(err, errno, "watch %s", s->paths->folder);
	unlink(s->paths->ready); /* of one that was killed */
	if (spawn(program, w, s->paths, foreground, pid, err) != 0)
		return -1;
	s->pidfd = pidfd_open(*pid, 0);
	r = s->pidfd >= 0 ? wait_outcome(s, err) : err_sys(err, errno, "process %ld", (long)*pid);
	return r == 0 ? judge(s, *pid, foreground, err) : -1;
}

int local_start(
    const struct local_paths *p, const struct local_start *o, pid_t *pid, struct err *err)
{
	struct start s = { .paths = p, .folder_fd = -1, .pidfd = -1 };
	char program[PATHS_MAX];
	struct words w = { 0 };
	int r = -1;

	if (find_program(program, err) != 0 || paths_make_folders(p->folder, 0700, err) != 0)
		return -1;
	make_words(&w, program, p, o);
	if (w.failed)
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "too many words for %s", PROGRAM);
	else if ((s.loop = loop_create(0, err)) != NULL)
		r = start_and_wait(&s, program, &w, o->foreground, pid, err);
	words_free(&w);
	watch_free(s.folder);
	watch_free(s.process);
	timer_free(s.timer);
	loop_free(s.loop);
	if (s.folder_fd >= 0)
		close(s.folder_fd);
	if (s.pidfd >= 0)
		close(s.pidfd);
	return r;
}

/* Signals from the terminal reach it as they reach us; those for us alone are passed on. */
int local_wait(pid_t pid, struct err *err)
{
	sigset_t passed, before;
	int status, number;

	sigemptyset(&passed);
	sigaddset(&passed, SIGTERM);
	sigaddset(&passed, SIGINT);
	sigaddset(&passed, SIGHUP);
	sigaddset(&passed, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &passed, &before) != 0)
		return err_sys(err, errno, "signals");
	while (waitpid(pid, &status, WNOHANG) == 0)
		if (sigwait(&passed, &number) == 0 && number != SIGCHLD)
			kill(pid, SIGTERM);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return WIFEXITED(status) ? WEXITSTATUS(status) : CLI_EXIT_SIGNAL + WTERMSIG(status);
}
