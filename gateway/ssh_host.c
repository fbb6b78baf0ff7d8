#include "gateway/ssh_host.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "gateway/ssh_spawn.h"

static const struct log_area area = { "gateway.ssh" };

static int write_whole(int fd, const char *text, size_t len)
{
	ssize_t n = write(fd, text, len);

	if (n >= 0 && (size_t)n < len)
		errno = ENOSPC;
	return n == (ssize_t)len ? 0 : -1;
}

/* So that the new name lasts, too. */
static void sync_folder_of(const char *path)
{
	char folder[PATH_MAX];
	const char *slash = strrchr(path, '/');
	int fd;

	snprintf(folder, sizeof(folder), "%.*s", slash != NULL ? (int)(slash - path) : 1,
	    slash != NULL ? path : ".");
	fd = open(folder[0] != '\0' ? folder : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)fsync(fd);
	close(fd);
}

static int place(const char *path, const char *text, struct err *err)
{
	char temporary[PATH_MAX];
	int fd, result = 0;

	if (snprintf(temporary, sizeof(temporary), "%s.%ld", path, (long)getpid()) >=
	    (int)sizeof(temporary))
		return err_set(err, GRPC_INVALID_ARGUMENT, "%s: the path is too long", path);
	unlink(temporary); /* of a run that was killed */
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_sys(err, errno, "make the SSH host key %s", path);
	if (write_whole(fd, text, strlen(text)) != 0 || fsync(fd) != 0 ||
	    rename(temporary, path) != 0)
		result = err_sys(err, errno, "write the SSH host key %s", path);
	close(fd);
	if (result == 0)
		sync_folder_of(path);
	else
		unlink(temporary);
	return result;
}

static int make(const char *path, struct err *err)
{
	char text[SSH_KEY_FILE_SIZE], fingerprint[SSH_KEY_FINGERPRINT_SIZE];
	struct ssh_key key;
	int result;

	if (ssh_key_file_make("towline host key", text, &key, err) != 0)
		return -1;
	result = place(path, text, err);
	explicit_bzero(text, sizeof(text));
	if (result != 0)
		return -1;
	ssh_key_fingerprint(key.blob, key.len, fingerprint);
	log_info(
	    &area, "host_key_made", LOG_STR("path", path), LOG_STR("fingerprint", fingerprint));
	return 0;
}

static int check_mode(int fd, const char *path, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return err_sys(err, errno, "the SSH host key %s", path);
	if (!S_ISREG(st.st_mode) || (st.st_mode & 077) != 0)
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "the SSH host key %s must be a file that only its owner may read (chmod 600)",
		    path);
	return 0;
}

/* The file's text; the length, or -1. */
static ssize_t read_file(const char *path, char text[static SSH_HOST_FILE_MAX], struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = -1;

	if (fd < 0)
		return err_sys(err, errno, "read the SSH host key %s", path);
	if (check_mode(fd, path, err) == 0 && (n = read(fd, text, SSH_HOST_FILE_MAX)) < 0)
		err_sys(err, errno, "read the SSH host key %s", path);
	close(fd);
	return n;
}

int ssh_host_open(struct ssh_host *host, const char *path, struct err *err)
{
	char text[SSH_HOST_FILE_MAX];
	struct ssh_key key;
	ssize_t n;
	int result;

	if (access(path, F_OK) != 0 && errno == ENOENT && make(path, err) != 0)
		return -1;
	if ((n = read_file(path, text, err)) < 0)
		return -1;
	result = ssh_key_file_read(text, (size_t)n, &key, err);
	explicit_bzero(text, sizeof(text));
	if (result != 0)
		return err_wrap(err, "the SSH host key %s", path);
	ssh_key_line(&key, "", host->line);
	ssh_key_fingerprint(key.blob, key.len, host->fingerprint);
	return 0;
}

int ssh_host_lend(const char *path, struct err *err)
{
	char text[SSH_HOST_FILE_MAX];
	ssize_t n = read_file(path, text, err);
	int fd = n >= 0 ? ssh_spawn_lend(text, (size_t)n, err) : -1;

	explicit_bzero(text, sizeof(text));
	return fd;
}
