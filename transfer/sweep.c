#include "transfer/sweep.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transfer/part.h"

struct sweep {
	uint64_t expiry_ms, boot;
	size_t left; /* entries */
	size_t removed;
	dev_t device;
};

static void sweep_below(struct sweep *, int parent, const char *name, unsigned depth);

static bool is_dots(const char *name)
{
	return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

static bool may_be_directory(const struct dirent *e)
{
	return (e->d_type == DT_DIR || e->d_type == DT_UNKNOWN) && !is_dots(e->d_name);
}

/* ${depth} 0: not below it. Takes ${fd}. */
static void sweep_open(struct sweep *s, int fd, unsigned depth)
{
	DIR *list = fdopendir(fd);
	struct dirent *e;

	if (list == NULL) {
		close(fd);
		return;
	}
	while (s->left > 0 && (e = readdir(list)) != NULL) {
		s->left--; /* before what is below uses up the rest */
		if (part_is_name(e->d_name))
			s->removed += part_expire(fd, e->d_name, s->expiry_ms, s->boot);
		else if (depth > 0 && may_be_directory(e))
			sweep_below(s, fd, e->d_name, depth - 1);
	}
	closedir(list);
}

static void sweep_below(struct sweep *s, int parent, const char *name, unsigned depth)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && st.st_dev == s->device)
		sweep_open(s, fd, depth);
	else
		close(fd);
}

static size_t sweep(int dir, struct sweep s, unsigned depth)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return 0;
	if (fstat(fd, &st) == 0)
		s.device = st.st_dev;
	sweep_open(&s, fd, depth);
	return s.removed;
}

size_t sweep_directory(int dir, uint64_t expiry_ms, uint64_t boot)
{
	return sweep(dir,
	    (struct sweep){ .expiry_ms = expiry_ms, .boot = boot, .left = SWEEP_DIRECTORY_MAX }, 0);
}

size_t sweep_tree(int dir, uint64_t expiry_ms, uint64_t boot, size_t entries)
{
	return sweep(dir, (struct sweep){ .expiry_ms = expiry_ms, .boot = boot, .left = entries },
	    SWEEP_DEPTH_MAX);
}
