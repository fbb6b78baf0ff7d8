#include "transfer/tree/tree_rules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transfer/tree/tree.h"

struct tree_above {
	struct tree_rules levels[TREE_RULES_ABOVE_MAX]; /* the outermost first */
	size_t count;
	char root[TREE_PATH_MAX]; /* the tree's absolute path, with a slash behind it */
};

bool tree_rules_out(const struct tree_rules *rules, const char *path, bool directory)
{
	char full[2 * TREE_PATH_MAX];

	for (; rules != NULL; rules = rules->up) {
		const char *name = path + rules->skip;
		if (rules->prefix != NULL) {
			snprintf(full, sizeof(full), "%s%s", rules->prefix, name);
			name = full;
		}
		enum ignore_answer answer = ignore_match(rules->patterns, name, directory);
		if (answer != IGNORE_SILENT)
			return answer == IGNORE_OUT;
	}
	return false;
}

static struct ignore *read_patterns(int fd, size_t size, struct err *err)
{
	char *text = malloc(size + 1);
	size_t len = 0;
	ssize_t n = 1;

	if (text == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	while (len < size && n > 0) {
		n = read(fd, text + len, size - len);
		if (n < 0 && errno == EINTR)
			n = 1;
		else if (n > 0)
			len += (size_t)n;
	}
	struct ignore *patterns = NULL;
	if (n < 0)
		err_sys(err, errno, "read");
	else
		patterns = ignore_parse(text, len, err);
	free(text);
	return patterns;
}

struct ignore *tree_rules_load(int dir, const char *name, struct err *err)
{
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct ignore *patterns = NULL;
	struct stat st;

	err_clear(err);
	if (fd < 0) {
		if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
			err_sys(err, errno, "its patterns are not heeded");
		return NULL;
	}
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		size_t size =
		    (uint64_t)st.st_size < IGNORE_TEXT_MAX ? (size_t)st.st_size : IGNORE_TEXT_MAX;
		patterns = read_patterns(fd, size, err);
		if (patterns == NULL)
			err_wrap(err, "its patterns are not heeded");
	}
	close(fd);
	return patterns;
}

static void add_level(struct tree_above *a, const char *file, const char *prefix, size_t skip)
{
	struct err err;
	struct ignore *patterns = tree_rules_load(AT_FDCWD, file, &err);

	if (patterns == NULL)
		return;
	if (a->count == TREE_RULES_ABOVE_MAX) {
		ignore_free(a->levels[0].patterns);
		memmove(a->levels, a->levels + 1, --a->count * sizeof(a->levels[0]));
	}
	a->levels[a->count++] =
	    (struct tree_rules){ .patterns = patterns, .prefix = prefix, .skip = skip };
}

/* Whether "DIR/.git" is there; ${dir} ends in a slash. */
static bool is_repository(const char *dir, size_t len)
{
	char path[TREE_PATH_MAX + sizeof(".git")];

	snprintf(path, sizeof(path), "%.*s.git", (int)len, dir);
	return access(path, F_OK) == 0;
}

/* The length of the repository's path, with its slash; 0: the tree is in none. */
static size_t find_repository(const char *root)
{
	for (size_t len = strlen(root); len > 0; len--)
		if (root[len - 1] == '/' && is_repository(root, len))
			return len;
	return 0;
}

/* From the repository's first directory down to the one that holds the tree. */
static void add_levels(struct tree_above *a, size_t top, size_t skip)
{
	char file[TREE_PATH_MAX + sizeof(".git/info/exclude")];
	size_t end = strlen(a->root);

	snprintf(file, sizeof(file), "%.*s.git/info/exclude", (int)top, a->root);
	add_level(a, file, a->root + top, skip);
	for (size_t len = top; len < end; len++) {
		if (a->root[len - 1] != '/')
			continue;
		snprintf(file, sizeof(file), "%.*s.gitignore", (int)len, a->root);
		add_level(a, file, a->root + len, skip);
	}
	for (size_t i = 1; i < a->count; i++)
		a->levels[i].up = &a->levels[i - 1];
}

/* Of what is named it is not asked whether it should have been. */
static bool is_out_itself(const struct tree_above *a)
{
	char path[TREE_PATH_MAX];

	for (size_t i = 0; i < a->count; i++) {
		size_t len = strlen(a->levels[i].prefix);
		if (len == 0)
			continue;
		snprintf(path, sizeof(path), "%.*s", (int)(len - 1), a->levels[i].prefix);
		if (ignore_covers(a->levels[i].patterns, path, true))
			return true;
	}
	return false;
}

struct tree_above *tree_above_find(int root, size_t skip)
{
	struct tree_above *a = calloc(1, sizeof(*a));
	char self[32];

	if (a == NULL)
		return NULL;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", root);
	ssize_t n = readlink(self, a->root, sizeof(a->root) - 2);
	if (n > 0 && a->root[0] == '/') {
		if (a->root[n - 1] != '/')
			a->root[n] = '/';
		size_t top = find_repository(a->root);
		if (top > 0)
			add_levels(a, top, skip);
	}
	if (a->count > 0 && !is_out_itself(a))
		return a;
	tree_above_free(a);
	return NULL;
}

const struct tree_rules *tree_above_rules(const struct tree_above *a)
{
	return a != NULL ? &a->levels[a->count - 1] : NULL;
}

void tree_above_free(struct tree_above *a)
{
	for (size_t i = 0; a != NULL && i < a->count; i++)
		ignore_free(a->levels[i].patterns);
	free(a);
}
