#include "cli/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_LEN_MAX 64

static int format(char out[static PATHS_MAX], struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int format(char out[static PATHS_MAX], struct err *err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	int n = vsnprintf(out, PATHS_MAX, fmt, args);
	va_end(args);
	if (n < 0 || n >= PATHS_MAX)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "a path of more than %d bytes", PATHS_MAX - 1);
	return 0;
}

/* What is no absolute path counts as unset, says the specification. */
static int place(char out[static PATHS_MAX], const char *variable, const char *under_home,
    const char *name, struct err *err)
{
	const char *dir = getenv(variable), *home = getenv("HOME");

	if (dir != NULL && dir[0] == '/')
		return format(out, err, "%s/openshell/%s", dir, name);
	if (home == NULL || home[0] != '/')
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "there is no home directory: set HOME or %s", variable);
	return format(out, err, "%s/%s/openshell/%s", home, under_home, name);
}

int paths_config(char out[static PATHS_MAX], const char *name, struct err *err)
{
	return place(out, "XDG_CONFIG_HOME", ".config", name, err);
}

int paths_state(char out[static PATHS_MAX], const char *name, struct err *err)
{
	return place(out, "XDG_STATE_HOME", ".local/state", name, err);
}

int paths_join(char out[static PATHS_MAX], const char *dir, const char *name, struct err *err)
{
	return format(out, err, "%s/%s", dir, name);
}

bool paths_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

bool paths_is_name(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t len = strlen(name);

	return len > 0 && len <= NAME_LEN_MAX && name[0] != '.' && strspn(name, allowed) == len;
}

int paths_make_folders(const char *dir, mode_t mode, struct err *err)
{
	char part[PATHS_MAX];

	if (format(part, err, "%s", dir) != 0)
		return -1;
	for (char *at = part + 1;; at++) {
		char saved = *at;

		if (saved != '/' && saved != '\0')
			continue;
		*at = '\0';
		if (mkdir(part, mode) != 0 && errno != EEXIST)
			return err_sys(err, errno, "make the folder %s", part);
		if (saved == '\0')
			return 0;
		*at = saved;
	}
}

/* One byte more than a file may have is asked for. */
static char *read_all(int fd, const char *path, struct err *err)
{
	char *text = malloc(PATHS_FILE_MAX + 1);
	size_t len = 0;
	ssize_t n = 1;

	if (text == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	while (n > 0 && len <= PATHS_FILE_MAX) {
		if ((n = read(fd, text + len, PATHS_FILE_MAX + 1 - len)) > 0)
			len += (size_t)n;
	}
	if (n >= 0 && len <= PATHS_FILE_MAX) {
		text[len] = '\0';
		return text;
	}
	if (n < 0)
		err_sys(err, errno, "%s", path);
	else
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "%s has more than %zu KiB", path,
		    PATHS_FILE_MAX >> 10);
	free(text);
	return NULL;
}

char *paths_read(const char *path, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		err_sys(err, errno, "%s", path);
		return NULL;
	}
	char *text = read_all(fd, path, err);
	close(fd);
	return text;
}

static int write_all(const char *path, const char *text, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	size_t len = strlen(text);

	if (fd < 0)
		return err_sys(err, errno, "%s", path);
	errno = ENOSPC; /* a write that is cut short does not say why */
	int r = write(fd, text, len) == (ssize_t)len ? 0 : err_sys(err, errno, "%s", path);
	close(fd);
	return r;
}

int paths_write(const char *path, const char *text, struct err *err)
{
	char part[PATHS_MAX];

	if (format(part, err, "%s", path) != 0)
		return -1;
	*strrchr(part, '/') = '\0';
	if (paths_make_folders(part, 0700, err) != 0 ||
	    format(part, err, "%s.%ld", path, (long)getpid()) != 0)
		return -1;
	int r = write_all(part, text, err);
	if (r == 0 && rename(part, path) != 0)
		r = err_sys(err, errno, "%s", path);
	if (r != 0)
		unlink(part);
	return r;
}
