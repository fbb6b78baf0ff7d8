#include "support/leak.h"

#include <dirent.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FDS_MAX 1024 /* descriptors from here on are all taken for leaks */
#define PATHS   8    /* results of leak_path() that are good at a time */

struct leak {
	char *folder;
	char *paths[PATHS];
	unsigned next_path;
	bool open[FDS_MAX];
};

static _Noreturn void give_up(const char *what)
{
	perror(what);
	abort();
}

static DIR *open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");

	if (dir == NULL)
		give_up("/proc/self/fd");
	return dir;
}

/* The next open descriptor but for the one that reads the list, or -1. */
static int next_fd(DIR *dir)
{
	struct dirent *entry;

	while ((entry = readdir(dir)) != NULL) {
		int fd = entry->d_name[0] != '.' ? (int)strtol(entry->d_name, NULL, 10) : -1;

		if (fd >= 0 && fd != dirfd(dir))
			return fd;
	}
	return -1;
}

struct leak *leak_begin(void)
{
	struct leak *leak = calloc(1, sizeof(*leak));
	const char *tmp = getenv("TMPDIR");
	DIR *dir;

	if (leak == NULL ||
	    asprintf(&leak->folder, "%s/towline-test-XXXXXX", tmp != NULL ? tmp : "/tmp") < 0)
		give_up("leak_begin");
	if (mkdtemp(leak->folder) == NULL)
		give_up(leak->folder);
	dir = open_fds();
	for (int fd = next_fd(dir); fd >= 0; fd = next_fd(dir)) {
		if (fd < FDS_MAX)
			leak->open[fd] = true;
	}
	closedir(dir);
	return leak;
}

const char *leak_folder(const struct leak *leak)
{
	return leak->folder;
}

const char *leak_path(struct leak *leak, const char *name)
{
	char **path = &leak->paths[leak->next_path++ % PATHS];

	free(*path);
	if (asprintf(path, "%s/%s", leak->folder, name) < 0)
		give_up("leak_path");
	return *path;
}

static int count_fds(const struct leak *leak)
{
	DIR *dir = open_fds();
	int count = 0;

	for (int fd = next_fd(dir); fd >= 0; fd = next_fd(dir)) {
		char link[64], target[256];
		ssize_t n;

		if (fd < FDS_MAX && leak->open[fd])
			continue;
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
		fprintf(stderr, "leak: descriptor %d is still open on %s\n", fd, target);
		count++;
	}
	closedir(dir);
	return count;
}

static int remove_file(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	if (at->level > 0)
		fprintf(stderr, "leak: %s is still there\n", path);
	if (remove(path) != 0)
		give_up(path);
	return 0;
}

int leak_end(struct leak *leak)
{
	int fds = count_fds(leak);
	bool empty = rmdir(leak->folder) == 0;

	if (!empty && nftw(leak->folder, remove_file, 16, FTW_DEPTH | FTW_PHYS) != 0)
		give_up(leak->folder);
	for (unsigned i = 0; i < PATHS; i++)
		free(leak->paths[i]);
	free(leak->folder);
	free(leak);
	return fds == 0 && empty ? 0 : -1;
}
