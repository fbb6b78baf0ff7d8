/*
 * What an SFTP client says. The first byte says into which pieces it is cut. A path may lead
 * anywhere, as sftp-server's may, so that here none has a "/" in it; and no file may become
 * large. When it is over no descriptor may be left open.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "scratch.h"
#include "transfer/sftp/sftp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t left, step, taken, used;
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
	for (size_t i = 0; i < n; i++)
		if (s->data[i] == '/')
			((uint8_t *)(uintptr_t)s->data)[i] = '_';
	in->data += n;
	in->left -= n;
	in->taken += n;
	return 1;
}

static void used(void *cookie, size_t bytes)
{
	struct input *in = cookie;

	in->used += bytes;
	if (in->used > in->taken)
		abort();
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

static void make_tree(int root)
{
	int fd = openat(root, "f", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, "content", 7) != 7 || mkdirat(root, "d", 0700) != 0 ||
	    symlinkat("f", root, "l") != 0 || mkfifoat(root, "p", 0600) != 0)
		abort();
	close(fd);
}

static size_t count_descriptors(void)
{
	DIR *list = opendir("/proc/self/fd");
	size_t n = 0;

	while (list != NULL && readdir(list) != NULL)
		n++;
	if (list != NULL)
		closedir(list);
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[SCRATCH_PATH_MAX];
	int folder = scratch_folder();
	uint8_t how = size > 0 ? data[0] : 0;
	struct input in = { .data = data + (size > 0),
		.left = size - (size > 0),
		.step = how < 128 ? 65536 : (size_t)how - 127 };
	struct sftp_env env = { .slash = folder, .workdir_path = path };
	struct talk talk;
	struct err err = { 0 };

	snprintf(path, sizeof(path), "%s/in", scratch_path());
	if (mkdirat(folder, "in", 0700) != 0 ||
	    (env.workdir = openat(folder, "in", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		abort();
	make_tree(env.workdir);
	size_t before = count_descriptors();
	talk_init(&talk, &link_ops, &in);
	if (sftp_run(&env, &talk, &err) == 0 && in.used != in.taken)
		abort();
	talk_free(&talk);
	if (count_descriptors() != before)
		abort();
	close(env.workdir);
	if (fchmodat(folder, ".", 0700, 0) != 0 || beneath_remove_tree(folder, "in", &err) != 0)
		abort();
	return 0;
}
