#include "sshd/harden.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/descriptors.h"

/* A sanitizer looks into its own process when it reports, which is what is forbidden here. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANDBOXED false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANDBOXED false
#endif
#endif
#ifndef SANDBOXED
#define SANDBOXED true
#endif

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

void harden_early(const int *kept)
{
	const struct rlimit no_core = { 0, 0 };
	unsigned from = 3;

	prctl(PR_SET_DUMPABLE, 0);
	setrlimit(RLIMIT_CORE, &no_core);
	descriptors_allow();
	for (unsigned next; from != 0; from = next) {
		next = 0;
		/* The lowest of those that stay, from here. */
		for (const int *k = kept; *k >= 0; k++) /* 0 is none */
			if ((unsigned)*k >= from && (next == 0 || (unsigned)*k < next))
				next = (unsigned)*k;
		if (next != from)
			close_range(from, next != 0 ? next - 1 : ~0U, 0);
		next = next != 0 ? next + 1 : 0;
	}
}

/* Files. */

static int deny_files(bool names)
{
	/* All of the first version: what newer kernels know besides is denied by them. */
	const struct landlock_ruleset_attr rules = {
		.handled_access_fs = ((uint64_t)LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1,
	};
	struct landlock_path_beneath_attr etc = {
		.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
	};
	int fd = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);
	int r = 0;

	if (fd < 0) /* an old kernel: the filter alone has to do */
		return 0;
	if (names && (etc.parent_fd = open("/etc", O_PATH | O_CLOEXEC)) >= 0) {
		r = (int)syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &etc, 0);
		close(etc.parent_fd);
	}
	if (r == 0)
		r = (int)syscall(SYS_landlock_restrict_self, fd, 0);
	close(fd);
	return r;
}

/* System calls. */

#ifdef ARCHITECTURE

#define ALLOW(name)                                            \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), \
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define KILL(name)                                             \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), \
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)
#define FIELD(field) \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))

/* What no part of us ever does ends the process; what is not listed fails with EPERM. */
static const struct sock_filter head[] = {
	FIELD(arch),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	FIELD(nr),
	KILL(execve),
	KILL(execveat),
	KILL(ptrace),
	KILL(process_vm_readv),
	KILL(process_vm_writev),
	ALLOW(read),
	ALLOW(readv),
	ALLOW(recvfrom),
	ALLOW(recvmsg),
	ALLOW(write),
	ALLOW(writev),
	ALLOW(sendto),
	ALLOW(sendmsg),
	ALLOW(sendmmsg), /* a resolver's */
	ALLOW(epoll_ctl),
	ALLOW(epoll_pwait),
	ALLOW(ppoll),
	ALLOW(close),
	ALLOW(accept4),
	ALLOW(socket),
	ALLOW(socketpair),
	ALLOW(connect),
	ALLOW(bind), /* a resolver's socket */
	ALLOW(getsockname),
	ALLOW(getpeername),
	ALLOW(getsockopt),
	ALLOW(setsockopt),
	ALLOW(shutdown),
	ALLOW(fcntl),
	ALLOW(ioctl), /* FIONBIO, FIONREAD: on sockets, there is nothing else */
	ALLOW(dup),
	ALLOW(dup3),
	ALLOW(fstat),
	ALLOW(newfstatat),
	ALLOW(lseek),
	ALLOW(mmap),
	ALLOW(munmap),
	ALLOW(mremap),
	ALLOW(madvise),
	ALLOW(brk),
	ALLOW(futex),
	ALLOW(getrandom),
	ALLOW(clock_gettime),
	ALLOW(clock_nanosleep),
	ALLOW(gettimeofday),
	ALLOW(getpid),
	ALLOW(gettid),
	ALLOW(getuid),
	ALLOW(geteuid),
	ALLOW(rt_sigaction),
	ALLOW(rt_sigprocmask),
	ALLOW(rt_sigreturn),
	ALLOW(tgkill), /* abort() */
	ALLOW(restart_syscall),
	ALLOW(uname),
	ALLOW(exit),
	ALLOW(exit_group),
#ifdef __x86_64__
	ALLOW(epoll_wait),
	ALLOW(poll),
	ALLOW(time),
	ALLOW(stat),
	ALLOW(dup2),
#endif
};

/* To look a name up: Landlock says which files. */
static const struct sock_filter files[] = { ALLOW(openat) };

static const struct sock_filter tail[] = { BPF_STMT(
    BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (EPERM & SECCOMP_RET_DATA)) };

static int filter_calls(bool names)
{
	struct sock_filter
	    all[sizeof(head) / sizeof(head[0]) + sizeof(files) / sizeof(files[0]) + 1];
	struct sock_fprog program = { .filter = all };

	for (size_t i = 0; i < sizeof(head) / sizeof(head[0]); i++)
		all[program.len++] = head[i];
	for (size_t i = 0; names && i < sizeof(files) / sizeof(files[0]); i++)
		all[program.len++] = files[i];
	all[program.len++] = tail[0];
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

#else

static int filter_calls(bool names)
{
	(void)names;
	return 0;
}

#endif

int harden_late(bool names, struct err *err)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return err_sys(err, errno, "giving up privileges");
	if (!SANDBOXED)
		return 0;
	if (deny_files(names) != 0)
		return err_sys(err, errno, "giving up files");
	if (filter_calls(names) != 0)
		return err_sys(err, errno, "giving up system calls");
	return 0;
}
