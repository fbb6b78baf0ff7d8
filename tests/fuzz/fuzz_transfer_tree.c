/*
 * Archives onto the file system. Whatever the bytes, nothing may appear outside of the
 * directory: what is beside it is looked at after each run.
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
#include "transfer/tree/tree.h"

#define ENTRIES_MAX 64
#define BYTES_MAX   (1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t left, step;
};

static ssize_t pull(void *cookie, const void **bytes, struct err *err)
{
	struct input *in = cookie;
	size_t n = in->left < in->step ? in->left : in->step;

	(void)err;
	*bytes = in->data;
	in->data += n;
	in->left -= n;
	return (ssize_t)n;
}

/* There is "in", and nothing beside it. */
static void check_outside(int folder)
{
	DIR *list = fdopendir(openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	size_t names = 0;

	if (list == NULL)
		abort();
	while (readdir(list) != NULL)
		names++;
	closedir(list);
	if (names != 3) /* ".", ".." and "in" */
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int folder = scratch_folder();
	struct input in = {
		.data = data, .left = size, .step = size > 0 ? (size_t)data[0] * 16 + 1 : 1
	};
	struct tree_unpack u = { .pull = pull,
		.cookie = &in,
		.links = true,
		.max_entries = ENTRIES_MAX,
		.max_bytes = BYTES_MAX };
	struct tree_result result;
	struct err err = { 0 };

	if (mkdirat(folder, "in", 0700) != 0)
		abort();
	u.root = openat(folder, "in", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	tree_unpack(&u, &result, &err);
	close(u.root);
	check_outside(folder);
	if (beneath_remove_tree(folder, "in", &err) != 0)
		abort();
	return 0;
}
