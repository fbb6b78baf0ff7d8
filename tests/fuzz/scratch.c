#include "scratch.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"

static char path[SCRATCH_PATH_MAX];

static void remove_folder(void)
{
	int parent = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct err err;

	if (parent >= 0 && beneath_remove_tree(parent, path + 1, &err) != 0)
		fprintf(stderr, "%s: %s\n", path, err.text);
	close(parent);
}

static int make_folder(void)
{
	static const struct rlimit limit = { SCRATCH_FILE_MAX, SCRATCH_FILE_MAX };
	const char *parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	int fd;

	snprintf(path, sizeof(path), "%s/towline-fuzz-XXXXXX", parent);
	sigaction(SIGXFSZ, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
	if (mkdtemp(path) == NULL || setrlimit(RLIMIT_FSIZE, &limit) != 0 ||
	    (fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
		perror(path);
		abort();
	}
	atexit(remove_folder);
	return fd;
}

int scratch_folder(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = make_folder();
	return fd;
}

const char *scratch_path(void)
{
	return path;
}
