#include "drivers/local/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "drivers/local/isolation.h"

#define TOKEN_FD 3

/* From the strongest to the weakest. */
static const unsigned rungs[] = {
	ISOLATION_USER | ISOLATION_MOUNT | ISOLATION_PID,
	ISOLATION_MOUNT | ISOLATION_PID,
	0,
};

/* What the child says before it becomes the supervisor, or why it does not. */
struct report {
	int failed; /* errno, 0 if none */
	char step[24];
	unsigned isolation;
};

/* Both ends of the talk between parent and child. */
struct spawn {
	const struct spawn_options *opt;
	unsigned rung;
	int program; /* the supervisor's file, held before anything is hidden */
	int log, token;
	int go[2];     /* parent to child: the id maps are written; supervisor.pid is */
	int report[2]; /* child to parent; closed by exec */
};

/*
 * The child's side. The parent has threads, so from here to exec only system calls
 * are made: no allocation, no lock, no stdio.
 */

static _Noreturn void child_fail(const struct spawn *s, const char *step)
{
	struct report r = { .failed = errno == 0 ? EINVAL : errno };

	for (size_t i = 0; step[i] != '\0' && i + 1 < sizeof(r.step); i++)
		r.step[i] = step[i];
	(void)!write(s->report[1], &r, sizeof(r));
	_exit(127);
}

/* mkdir -p of ${path}, which is changed and changed back. */
static void child_mkdirs(char *path)
{
	for (char *p = path + 1; *p != '\0'; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		mkdir(path, 0700);
		*p = '/';
	}
	mkdir(path, 0700);
}

/* An empty file system over the private directory, and the working directory bound
 * to its old name in it. False: nothing is hidden. */
static bool child_hide(const struct spawn *s)
{
	const struct spawn_options *o = s->opt;
	char path[PATH_MAX], self[32] = "/proc/self/fd/";
	size_t len = strlen(o->work_dir), at = strlen(self);

	if (o->private_dir == NULL || len >= sizeof(path))
		return false;
	/* Opened in here: a descriptor from outside names a mount of the other namespace. */
	int fd = open(o->work_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 ||
	    mount("tmpfs", o->private_dir, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=0755") !=
		0)
		return false;
	memcpy(path, o->work_dir, len + 1);
	child_mkdirs(path);
	char digits[12];
	size_t n = 0;
	do
		digits[n++] = (char)('0' + fd % 10);
	while ((fd /= 10) > 0);
	while (n > 0)
		self[at++] = digits[--n];
	self[at] = '\0';
	if (mount(self, path, NULL, MS_BIND | MS_REC, NULL) != 0) {
		umount2(o->private_dir, MNT_DETACH);
		return false;
	}
	mount(NULL, o->private_dir, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV,
	    NULL);
	return true;
}

/* Inside the new mount and PID namespaces: mounts of our own, a /proc that fits. */
static unsigned child_mounts(const struct spawn *s)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		child_fail(s, "make mounts private");
	if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
		child_fail(s, "mount /proc");
	return child_hide(s) ? ISOLATION_HIDDEN : 0;
}

/* The first process of a PID namespace loses a signal that it has no handler for yet, unless it is
 * blocked (pid_namespaces(7), sigprocmask(2)). So SIGTERM waits until the supervisor listens. */
static void child_signals(void)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t held;

	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL);
	sigemptyset(&held);
	sigaddset(&held, SIGTERM);
	sigprocmask(SIG_SETMASK, &held, NULL);
}

/* Out of the way of 0 to TOKEN_FD, which stand for something else from now on. */
static void child_lift(const struct spawn *s, int *fd)
{
	int up = fcntl(*fd, F_DUPFD_CLOEXEC, TOKEN_FD + 1);

	if (up < 0)
		child_fail(s, "move descriptors");
	*fd = up;
}

/* Standard input is empty, output is the log, 3 is the token, the rest closes at exec. */
static void child_descriptors(struct spawn *s)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (null < 0)
		child_fail(s, "open /dev/null");
	child_lift(s, &s->report[1]);
	child_lift(s, &s->go[0]);
	child_lift(s, &s->program);
	child_lift(s, &s->log);
	child_lift(s, &s->token);
	child_lift(s, &null);
	if (syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC) != 0)
		child_fail(s, "close_range");
	if (dup2(null, 0) < 0 || dup2(s->log, 1) < 0 || dup2(s->log, 2) < 0 ||
	    dup2(s->token, TOKEN_FD) < 0)
		child_fail(s, "set up descriptors");
}

static void child_wait(const struct spawn *s)
{
	char go;

	if (read(s->go[0], &go, 1) != 1)
		_exit(127); /* the parent gave up, or is dead */
}

static _Noreturn void child_main(struct spawn *s)
{
	struct report r = { .isolation = s->rung };

	close(s->go[1]); /* else our own copy would keep us waiting for a dead parent */
	child_wait(s);
	if (setsid() < 0)
		child_fail(s, "setsid");
	if (s->rung & ISOLATION_MOUNT)
		r.isolation |= child_mounts(s);
	if (chdir(s->opt->work_dir) != 0)
		child_fail(s, "enter the working directory");
	child_signals();
	child_descriptors(s);
	(void)!write(s->report[1], &r, sizeof(r));
	child_wait(s);
	syscall(SYS_execveat, s->program, "", s->opt->argv, s->opt->envp, AT_EMPTY_PATH);
	child_fail(s, "run the supervisor");
}

/* The parent's side. */

static int write_proc(pid_t pid, const char *name, const char *text)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%ld/%s", (long)pid, name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t n = write(fd, text, strlen(text));
	int saved = errno;
	close(fd);
	errno = saved;
	return n < 0 ? -1 : 0;
}

/* Everybody keeps their number; without privilege only the caller's can be mapped. */
static int map_ids(pid_t pid)
{
	char one[64];

	if (geteuid() == 0)
		return write_proc(pid, "uid_map", "0 0 4294967295") == 0 &&
			write_proc(pid, "gid_map", "0 0 4294967295") == 0
		    ? 0
		    : -1;
	snprintf(one, sizeof(one), "%u %u 1", (unsigned)geteuid(), (unsigned)geteuid());
	if (write_proc(pid, "uid_map", one) != 0 || write_proc(pid, "setgroups", "deny") != 0)
		return -1;
	snprintf(one, sizeof(one), "%u %u 1", (unsigned)getegid(), (unsigned)getegid());
	return write_proc(pid, "gid_map", one);
}

static pid_t clone_child(unsigned rung, int *pidfd)
{
	struct clone_args args = {
		.flags = CLONE_PIDFD | (rung & ISOLATION_USER ? CLONE_NEWUSER : 0) |
		    (rung & ISOLATION_MOUNT ? CLONE_NEWNS : 0) |
		    (rung & ISOLATION_PID ? CLONE_NEWPID : 0),
		.pidfd = (uint64_t)(uintptr_t)pidfd,
		.exit_signal = SIGCHLD,
	};

	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

static int failed_at(struct report *r, int why, const char *step)
{
	r->failed = why;
	snprintf(r->step, sizeof(r->step), "%s", step);
	return -1;
}

/* 1: ${r} is what the child says. 0: it has closed the pipe, by its exec or its end. */
static int read_report(const struct spawn *s, struct report *r)
{
	struct pollfd p = { .fd = s->report[0], .events = POLLIN };
	int ready;

	do
		ready = poll(&p, 1, s->opt->timeout_ms);
	while (ready < 0 && errno == EINTR);
	if (ready <= 0)
		return failed_at(r, ETIMEDOUT, "start");
	ssize_t n = read(p.fd, r, sizeof(*r));
	return n == 0 || n == (ssize_t)sizeof(*r) ? n > 0 : failed_at(r, EIO, "start");
}

static int say_go(const struct spawn *s, struct report *r)
{
	return write(s->go[1], "g", 1) == 1 ? 0 : failed_at(r, errno, "start");
}

/* From the clone to the exec. Who runs is written down while it still waits for us: if we
 * are killed, it either never runs or can be found. */
static int bring_up(const struct spawn *s, struct process *p, struct report *r)
{
	struct err err;

	if ((s->rung & ISOLATION_USER) && map_ids(p->pid) != 0)
		return failed_at(r, errno, "map user ids");
	if (say_go(s, r) != 0)
		return -1;
	int told = read_report(s, r);
	if (told == 0)
		return failed_at(r, EIO, "start");
	if (told < 0 || r->failed != 0)
		return -1;
	p->isolation = r->isolation;
	if (process_start_time(p->pid, &p->start_time) != 0)
		return failed_at(r, ESRCH, "start");
	if (process_save(s->opt->dir, p, &err) != 0)
		return failed_at(r, err.sys != 0 ? err.sys : EIO, "write supervisor.pid");
	return say_go(s, r) == 0 && read_report(s, r) == 0 ? 0 : -1;
}

static void close_pair(int pair[2])
{
	for (int i = 0; i < 2; i++)
		if (pair[i] >= 0)
			close(pair[i]);
}

static void reap(int pidfd, pid_t pid)
{
	siginfo_t info;

	kill(pid, SIGKILL);
	while (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) != 0 && errno == EINTR)
		;
	close(pidfd);
}

/* One attempt on one rung: the pidfd, or -1 and in ${r} what failed. */
static int try_rung(struct spawn *s, struct process *p, struct report *r)
{
	int pidfd = -1;
	bool up = false;

	s->go[0] = s->go[1] = s->report[0] = s->report[1] = -1;
	p->pid = -1;
	if (pipe2(s->go, O_CLOEXEC) == 0 && pipe2(s->report, O_CLOEXEC) == 0) {
		p->pid = clone_child(s->rung, &pidfd);
		if (p->pid == 0)
			child_main(s);
	}
	if (p->pid < 0) {
		failed_at(r, errno, "make namespaces");
	} else {
		close(s->report[1]);
		s->report[1] = -1;
		up = bring_up(s, p, r) == 0;
		if (!up)
			reap(pidfd, p->pid);
	}
	close_pair(s->go);
	close_pair(s->report);
	return up ? pidfd : -1;
}

int spawn_supervisor(const struct spawn_options *opt, struct process *p, struct err *err)
{
	struct spawn s = { .opt = opt,
		.program = open(opt->supervisor, O_PATH | O_CLOEXEC),
		.log = opt->log_fd,
		.token = opt->token_fd };
	struct report r = { 0 };
	int pidfd = -1;
	bool late = false;

	if (s.program < 0)
		return err_sys(err, errno, "the supervisor's program %s", opt->supervisor);
	p->refused = 0;
	for (size_t i = 0; pidfd < 0 && !late && i < sizeof(rungs) / sizeof(rungs[0]); i++) {
		s.rung = rungs[i];
		pidfd = try_rung(&s, p, &r);
		if (pidfd < 0 && p->refused == 0)
			p->refused = r.failed;
		late = pidfd < 0 && r.failed == ETIMEDOUT;
	}
	close(s.program);
	if (pidfd < 0)
		return err_sys(err, r.failed, "start the supervisor: %s", r.step);
	return pidfd;
}
