#include "garden.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/beneath.h"

static void write_file(int dir, const char *path, const char *text)
{
	int fd = openat(dir, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static const struct {
	const char *path, *target;
} links[] = {
	{ "to_file", "a/file" },
	{ "to_a", "a" },
	{ "a/to_top", "../file" },
	{ "to_nothing", "nothing" },
	{ "self", "self" },
	{ "out", "../out" },
	{ "a/out", "../../out" },
	{ "hop", "a/out" },
};

int garden_setup(void **state)
{
	struct garden *g = calloc(1, sizeof(*g));

	g->leak = leak_begin();
	g->folder = open(leak_folder(g->leak), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(g->folder, "in", 0700), 0);
	assert_int_equal(mkdirat(g->folder, "out", 0700), 0);
	assert_int_equal(mkdirat(g->folder, "in/a", 0700), 0);
	g->root = openat(g->folder, "in", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	write_file(g->root, "file", "inside");
	write_file(g->root, "a/file", "inside");
	write_file(g->folder, "out/secret", "outside");
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		assert_int_equal(symlinkat(links[i].target, g->root, links[i].path), 0);
	assert_int_equal(symlinkat(leak_path(g->leak, "out/secret"), g->root, "absolute"), 0);
	*state = g;
	return 0;
}

/* The secret alone is there, as it was. */
static bool is_untouched(const struct garden *g)
{
	int fd = openat(g->folder, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fdopendir(fd);
	char text[16];
	unsigned names = 0;

	while (readdir(dir) != NULL)
		names++;
	fd = openat(dirfd(dir), "secret", O_RDONLY | O_CLOEXEC);
	bool fine =
	    names == 3 && read(fd, text, sizeof(text)) == 7 && memcmp(text, "outside", 7) == 0;
	close(fd);
	closedir(dir);
	return fine;
}

int garden_teardown(void **state)
{
	struct garden *g = *state;
	struct err err = { 0 };
	int r = is_untouched(g) ? 0 : -1;

	if (r != 0)
		fprintf(stderr, "something has got out\n");
	if (beneath_remove_tree(g->folder, "in", &err) != 0 ||
	    beneath_remove_tree(g->folder, "out", &err) != 0) {
		fprintf(stderr, "%s\n", err.text);
		r = -1;
	}
	close(g->root);
	close(g->folder);
	if (leak_end(g->leak) != 0)
		r = -1;
	free(g);
	return r;
}

bool garden_is_inside(int fd)
{
	char text[16];
	bool inside = read(fd, text, sizeof(text)) == 6 && memcmp(text, "inside", 6) == 0;

	close(fd);
	return inside;
}

bool garden_has(const struct garden *g, const char *path)
{
	struct stat st;

	return fstatat(g->root, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}
