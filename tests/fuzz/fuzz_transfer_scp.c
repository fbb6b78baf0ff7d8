/*
 * What scp says to its far end. The first byte has the options and into which pieces the rest is
 * cut. Whatever the bytes, nothing may appear outside of the directory: what is beside it is
 * looked at after each run; and no part file may be left in it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "scratch.h"
#include "transfer/sftp/scp.h"

#define OF_SOURCE 0x01
#define RECURSIVE 0x02
#define PRESERVE  0x04
#define DIRECTORY 0x08
#define IN_BYTES  0x10

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t left, step;
};

static int take(void *cookie, struct slice *s, bool wait, struct err *err)
{
	struct input *in = cookie;
	size_t n = in->left < in->step ? in->left : in->step;

	(void)wait;
	(void)err;
	if (n == 0)
		return 0;
	*s = slice_copy(in->data, n);
	in->data += n;
	in->left -= n;
	return 1;
}

static void used(void *cookie, size_t bytes)
{
	(void)cookie;
	(void)bytes;
}

static int give(void *cookie, struct slice s, struct err *err)
{
	(void)cookie;
	(void)err;
	slice_release(&s);
	return 0;
}

static bool is_gone(void *cookie)
{
	(void)cookie;
	return false;
}

static const struct talk_link link_ops = {
	.take = take,
	.used = used,
	.give = give,
	.is_gone = is_gone,
};

/* "…/in" and "…/precious". */
static int outside(char path[static SCRATCH_PATH_MAX])
{
	int fd = scratch_folder();

	if (mkdirat(fd, "precious", 0700) != 0 && errno != EEXIST)
		abort();
	snprintf(path, SCRATCH_PATH_MAX, "%s/in", scratch_path());
	return fd;
}

static size_t count_names(int folder, const char *name, const char *needle)
{
	DIR *list = fdopendir(openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	size_t names = 0;

	if (list == NULL)
		abort();
	for (struct dirent *e; (e = readdir(list)) != NULL;)
		names += strstr(e->d_name, needle) != NULL;
	closedir(list);
	return names;
}

static void make_tree(int root)
{
	int fd = openat(root, "f", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, "content", 7) != 7 || mkdirat(root, "d", 0700) != 0 ||
	    symlinkat("f", root, "link") != 0 || mkfifoat(root, "p", 0600) != 0)
		abort();
	close(fd);
}

static void speak(const struct scp_options *o, struct input *in)
{
	struct talk talk;
	struct err err = { 0 };
	int exit_code = -1;

	talk_init(&talk, &link_ops, in);
	if (scp_run(o, &talk, &exit_code, &err) == 0 && exit_code != 0 && exit_code != 1)
		abort();
	talk_free(&talk);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[SCRATCH_PATH_MAX], *paths[] = { (char *)(uintptr_t) ".", NULL };
	int folder = outside(path);
	uint8_t how = size > 0 ? data[0] : 0;
	struct input in = { .data = data + (size > 0),
		.left = size - (size > 0),
		.step = how & IN_BYTES ? 1 : 4096 };
	struct scp_options o = { .slash = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC),
		.workdir_path = path,
		.sink = !(how & OF_SOURCE),
		.recursive = how & RECURSIVE,
		.preserve = how & PRESERVE,
		.directory = how & DIRECTORY,
		.paths = paths,
		.count = 1 };
	struct err err;

	if (mkdirat(folder, "in", 0700) != 0 ||
	    (o.workdir = openat(folder, "in", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		abort();
	make_tree(o.workdir);
	/* All that is there, by a pattern, if it is to be sent. */
	if (how & OF_SOURCE)
		paths[0] = (char *)(uintptr_t) "*";
	speak(&o, &in);
	if (count_names(folder, ".", "") != 4)
		abort();
	if (memmem(data, size, ".towline-", 9) == NULL &&
	    count_names(folder, "in", ".towline-") != 0)
		abort();
	close(o.workdir);
	close(o.slash);
	if (beneath_remove_tree(folder, "in", &err) != 0)
		abort();
	return 0;
}
