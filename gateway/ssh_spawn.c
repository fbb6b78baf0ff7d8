#include "gateway/ssh_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENVIRONMENT_PREFIX "TOWLINE_SSHD_"
#define ENVIRONMENT_MAX    32
#define CAPABILITIES_MAX   64 /* the kernel has fewer, and says so */

/* In the new process until its exec, behind those that it keeps. */
enum { PROGRAM_FD = SSH_SPAWN_END, REPORT_FD, OTHERS_FD };

struct spawn {
	const struct ssh_spawn *opt;
	char *envp[ENVIRONMENT_MAX + 1];
	int program;
	/* The child's errno; closed by its exec. Not waited on: others may have it. */
	int report[2];
	pid_t parent;
};

int ssh_spawn_lend(const char *text, size_t len, struct err *err)
{
	int fd = memfd_create("towline-sshd", MFD_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return err_sys(err, errno, "make a file for towline-sshd");
	n = write(fd, text, len);
	if (n == (ssize_t)len && fchmod(fd, 0600) == 0 && lseek(fd, 0, SEEK_SET) == 0)
		return fd;
	err_sys(err, n >= 0 && (size_t)n < len ? ENOSPC : errno, "write a file for towline-sshd");
	close(fd);
	return -1;
}

int ssh_spawn_share(struct err *err)
{
	int fd = memfd_create("towline-sshd-shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	return fd >= 0 ? fd : err_sys(err, errno, "make a file for towline-sshd");
}

/*
 * The child's side. The parent has threads, so from here to exec only system calls are made:
 * no allocation, no lock, no stdio.
 */

static _Noreturn void child_fail(const struct spawn *s)
{
	int why = errno;

	(void)!write(s->report[1], &why, sizeof(why));
	_exit(127);
}

static void child_signals(void)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Out of the way of the numbers that stand for something else from now on. */
static int child_lift(const struct spawn *s, int fd)
{
	int up = fcntl(fd, F_DUPFD_CLOEXEC, OTHERS_FD);

	if (up < 0)
		child_fail(s);
	return up;
}

/* Standard error stays. What is not given is closed now: the exec may have to wait for a disk,
 * and those who talk to the gateway would see their connections stay. */
static void child_descriptors(struct spawn *s)
{
	int fd[SSH_SPAWN_END], null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		child_fail(s);
	s->report[1] = child_lift(s, s->report[1]);
	s->program = child_lift(s, s->program);
	null = child_lift(s, null);
	for (int i = SSH_SPAWN_TOKEN; i < SSH_SPAWN_END; i++)
		fd[i] = child_lift(s, s->opt->fd[i]);
	if (dup2(null, 0) < 0 || dup2(null, 1) < 0)
		child_fail(s);
	for (int i = SSH_SPAWN_TOKEN; i < SSH_SPAWN_END; i++)
		if (dup2(fd[i], i) < 0)
			child_fail(s);
	if (dup3(s->program, PROGRAM_FD, O_CLOEXEC) < 0 ||
	    dup3(s->report[1], REPORT_FD, O_CLOEXEC) < 0)
		child_fail(s);
	s->program = PROGRAM_FD;
	s->report[1] = REPORT_FD;
	if (syscall(SYS_close_range, OTHERS_FD, ~0u, 0) != 0)
		child_fail(s);
}

/* Root without capabilities; who is not root has none to lose. */
static void child_privileges(const struct spawn *s)
{
	for (unsigned long c = 0; c < CAPABILITIES_MAX; c++)
		if (prctl(PR_CAPBSET_DROP, c, 0, 0, 0) != 0 && errno == EINVAL)
			break;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		child_fail(s);
}

static _Noreturn void child_main(struct spawn *s)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
		child_fail(s);
	if (getppid() != s->parent)
		_exit(127); /* it has died already */
	child_signals();
	child_descriptors(s);
	if (chdir("/") != 0)
		child_fail(s);
	child_privileges(s);
	syscall(SYS_execveat, s->program, "", s->opt->argv, s->envp, AT_EMPTY_PATH);
	child_fail(s);
}

/* The parent's side. */

static void fill_environment(struct spawn *s)
{
	size_t n = 0;

	for (char **e = environ; *e != NULL && n < ENVIRONMENT_MAX; e++)
		if (strncmp(*e, ENVIRONMENT_PREFIX, sizeof(ENVIRONMENT_PREFIX) - 1) == 0)
			s->envp[n++] = *e;
	s->envp[n] = NULL;
}

static pid_t clone_child(int *pidfd)
{
	struct clone_args args = {
		.flags = CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)pidfd,
		.exit_signal = SIGCHLD,
	};

	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

int ssh_spawn(const struct ssh_spawn *opt, pid_t *pid, int *report, struct err *err)
{
	struct spawn s = { .opt = opt, .parent = getpid() };
	int pidfd = -1;

	fill_environment(&s);
	if ((s.program = open(opt->program, O_PATH | O_CLOEXEC)) < 0)
		return err_sys(err, errno, "the program %s", opt->program);
	if (pipe2(s.report, O_CLOEXEC | O_NONBLOCK) != 0) {
		err_sys(err, errno, "start towline-sshd");
		close(s.program);
		return -1;
	}
	*pid = clone_child(&pidfd);
	if (*pid == 0)
		child_main(&s);
	if (*pid < 0)
		err_sys(err, errno, "start towline-sshd");
	close(s.report[1]);
	close(s.program);
	if (*pid < 0)
		close(s.report[0]);
	else
		*report = s.report[0];
	return pidfd;
}

bool ssh_spawn_failed(int report, const char *program, struct err *err)
{
	int why = 0;

	if (read(report, &why, sizeof(why)) != (ssize_t)sizeof(why) || why == 0)
		return false;
	err_sys(err, why, "run %s", program);
	return true;
}
