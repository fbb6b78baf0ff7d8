/*
 * Fails the n-th call on files and directories of a program, for LD_PRELOAD.
 *
 * $TOWLINE_FAULTS names a file that holds struct control. While ${armed}, calls count, and the
 * ${fail_at}-th gives ${error}; its name goes to ${failed}. Sockets, pipes and the three
 * standard descriptors are left alone. A close() that fails has closed, as Linux has it; no
 * other call that fails has done anything.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct control {
	atomic_int armed;
	int fail_at, error;
	atomic_int count;
	char failed[48];
};

static struct control nothing;
static struct control *control = &nothing;

#define NEXT(name) ((__typeof__(&(name)))(uintptr_t)dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void set_up(void)
{
	const char *path = getenv("TOWLINE_FAULTS");
	int fd = path == NULL ? -1 : NEXT(open)(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	void *at = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	NEXT(close)(fd);
	if (at != MAP_FAILED)
		control = at;
}

/* Whether this is the one. */
static bool fails(const char *name)
{
	if (!atomic_load(&control->armed) ||
	    atomic_fetch_add(&control->count, 1) + 1 != control->fail_at)
		return false;
	snprintf(control->failed, sizeof(control->failed), "%s", name);
	errno = control->error;
	return true;
}

static bool is_file(int fd)
{
	struct stat st;
	int saved = errno;
	bool file = atomic_load(&control->armed) && fd > STDERR_FILENO && fstat(fd, &st) == 0 &&
	    (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));

	errno = saved;
	return file;
}

static bool fails_on(int fd, const char *name)
{
	return is_file(fd) && fails(name);
}

#define MODE_OF(flags)                                \
	mode_t mode = 0;                              \
	if (((flags) & (O_CREAT | O_TMPFILE)) != 0) { \
		va_list list;                         \
		va_start(list, flags);                \
		mode = va_arg(list, mode_t);          \
		va_end(list);                         \
	}

int open(const char *path, int flags, ...)
{
	MODE_OF(flags)
	return fails("open") ? -1 : NEXT(open)(path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
	MODE_OF(flags)
	return fails("openat") ? -1 : NEXT(openat)(dir, path, flags, mode);
}

int __openat_2(int dir, const char *path, int flags);
int __openat_2(int dir, const char *path, int flags)
{
	return fails("openat") ? -1 : NEXT(openat)(dir, path, flags);
}

long syscall(long number, ...)
{
	long a[6];
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_openat2 && fails("openat2"))
		return -1;
	return NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int close(int fd)
{
	bool bad = fails_on(fd, "close");
	int error = errno, r = NEXT(close)(fd);

	if (!bad)
		return r;
	errno = error;
	return -1;
}

DIR *fdopendir(int fd)
{
	return fails_on(fd, "fdopendir") ? NULL : NEXT(fdopendir)(fd);
}

struct dirent *readdir(DIR *list)
{
	return fails("readdir") ? NULL : NEXT(readdir)(list);
}

/* Calls on a descriptor, and those on a name. */
#define ON_FD(type, name, parameters, ...)                                       \
	type name parameters                                                     \
	{                                                                        \
		return fails_on(fd, #name) ? (type)-1 : NEXT(name)(__VA_ARGS__); \
	}
#define ON_NAME(name, parameters, ...)                              \
	int name parameters                                         \
	{                                                           \
		return fails(#name) ? -1 : NEXT(name)(__VA_ARGS__); \
	}

ON_FD(ssize_t, read, (int fd, void *to, size_t n), fd, to, n)
ON_FD(ssize_t, pread, (int fd, void *to, size_t n, off_t at), fd, to, n, at)
ON_FD(ssize_t, write, (int fd, const void *from, size_t n), fd, from, n)
ON_FD(ssize_t, pwrite, (int fd, const void *from, size_t n, off_t at), fd, from, n, at)
ON_FD(ssize_t, writev, (int fd, const struct iovec *v, int n), fd, v, n)
ON_FD(ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t at), fd, v, n, at)
ON_FD(int, fsync, (int fd), fd)
ON_FD(int, fdatasync, (int fd), fd)
ON_FD(int, syncfs, (int fd), fd)
ON_FD(int, ftruncate, (int fd, off_t size), fd, size)
ON_FD(int, fallocate, (int fd, int mode, off_t at, off_t n), fd, mode, at, n)
ON_FD(int, fchmod, (int fd, mode_t mode), fd, mode)
ON_FD(int, futimens, (int fd, const struct timespec times[2]), fd, times)
ON_NAME(mkdirat, (int dir, const char *path, mode_t mode), dir, path, mode)
ON_NAME(unlinkat, (int dir, const char *path, int flags), dir, path, flags)
ON_NAME(linkat, (int from, const char *a, int to, const char *b, int flags), from, a, to, b, flags)
ON_NAME(symlinkat, (const char *text, int dir, const char *path), text, dir, path)
ON_NAME(renameat, (int from, const char *a, int to, const char *b), from, a, to, b)
ON_NAME(renameat2, (int from, const char *a, int to, const char *b, unsigned flags), from, a, to, b,
    flags)
ON_NAME(fstatat, (int dir, const char *path, struct stat *st, int flags), dir, path, st, flags)
ON_NAME(fchmodat, (int dir, const char *path, mode_t mode, int flags), dir, path, mode, flags)
ON_NAME(utimensat, (int dir, const char *path, const struct timespec times[2], int flags), dir,
    path, times, flags)
