/* Patterns, as a shell has them: "*", "?" and "[...]" within the names of a path, and "\" before
 * what is meant as it is. No name service, and an end when the client is gone: what glob(3) is
 * not. */
#include <dirent.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "transfer/sftp/scp.h"

struct match {
	struct scp *scp;
	int (*found)(struct scp *, const char *path);
	struct text path; /* what has been resolved */
	size_t count;
	bool stopped;
};

struct names {
	char **list;
	size_t count, cap;
};

static void resolve(struct match *, const char *rest);

static bool is_pattern(const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (name[i] == '\\')
			i++;
		else if (strchr("*?[", name[i]) != NULL)
			return true;
	}
	return false;
}

/* Without what takes the meaning away. */
static void add_plain(struct text *path, const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (name[i] == '\\' && i + 1 < len)
			i++;
		text_add(path, &name[i], 1);
	}
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* -1: too many, or no memory. */
static int add_name(struct names *n, const char *name)
{
	if (n->count == n->cap) {
		size_t cap = n->cap > 0 ? 2 * n->cap : 64;
		char **list = cap <= 2 * (size_t)SCP_MATCHES_MAX
		    ? realloc(n->list, cap * sizeof(*list))
		    : NULL;
		if (list == NULL)
			return -1;
		n->list = list;
		n->cap = cap;
	}
	if (n->count >= SCP_MATCHES_MAX || (n->list[n->count] = strdup(name)) == NULL)
		return -1;
	n->count++;
	return 0;
}

static void free_names(struct names *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->list[i]);
	free(n->list);
}

/* Names of ${path} that match. */
static int read_names(struct match *m, const char *pattern, struct names *out)
{
	DIR *dir = opendir(m->path.data != NULL && m->path.len > 0 ? m->path.data : "/");
	struct dirent *e;
	int r = 0;

	if (dir == NULL)
		return 0;
	while (r == 0 && (e = readdir(dir)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		    fnmatch(pattern, e->d_name, FNM_PERIOD) == 0)
			r = add_name(out, e->d_name);
	closedir(dir);
	if (out->count > 0)
		qsort(out->list, out->count, sizeof(*out->list), compare);
	return r;
}

static void cut(struct match *m, size_t len)
{
	m->path.failed = false;
	m->path.len = len;
	if (m->path.data != NULL)
		m->path.data[len] = '\0';
}

static void expand(struct match *m, const char *name, size_t len, const char *rest)
{
	struct names names = { 0 };
	char pattern[NAME_MAX + 1];
	size_t before = m->path.len;

	if (len > NAME_MAX)
		return;
	memcpy(pattern, name, len);
	pattern[len] = '\0';
	if (read_names(m, pattern, &names) != 0) {
		scp_complain(m->scp, "%s: more names than can be matched", m->path.data);
		m->count++;
	}
	for (size_t i = 0; i < names.count && !m->stopped; i++) {
		text_add(&m->path, "/", 1);
		text_add(&m->path, names.list[i], strlen(names.list[i]));
		resolve(m, rest);
		cut(m, before);
	}
	free_names(&names);
}

/* The whole of it is known: is it there? */
static void arrive(struct match *m)
{
	const char *path = m->path.len > 0 ? m->path.data : "/";
	struct stat st;

	if (lstat(path, &st) != 0)
		return;
	m->count++;
	m->stopped = m->found(m->scp, path) != 0;
}

/* ${rest} is empty, or begins with "/". One level of calls for each pattern in it. */
static void resolve(struct match *m, const char *rest)
{
	size_t before = m->path.len;

	m->stopped |= talk_is_gone(m->scp->talk);
	while (!m->stopped && !m->path.failed) {
		rest += strspn(rest, "/");
		size_t len = strcspn(rest, "/");
		if (len == 0) {
			arrive(m);
			break;
		}
		if (is_pattern(rest, len)) {
			expand(m, rest, len, rest + len);
			break;
		}
		text_add(&m->path, "/", 1);
		add_plain(&m->path, rest, len);
		rest += len;
	}
	cut(m, before);
}

bool scp_match(struct scp *s, const char *prefix, const char *pattern,
    int (*found)(struct scp *, const char *path))
{
	struct match m = { .scp = s, .found = found };
	size_t len = strlen(prefix);
	struct stat st;

	while (len > 0 && prefix[len - 1] == '/')
		len--;
	text_init(&m.path, PATH_MAX - 1);
	text_add(&m.path, prefix, len);
	resolve(&m, pattern);
	/* A file whose own name looks like a pattern that matches nothing. */
	text_add(&m.path, "/", 1);
	text_add(&m.path, pattern, strlen(pattern));
	if (m.count == 0 && !m.stopped && !m.path.failed && lstat(m.path.data, &st) == 0) {
		m.count++;
		found(s, m.path.data);
	}
	text_free(&m.path);
	return m.count > 0;
}
