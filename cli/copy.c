#include "cli/copy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The last component of a path without its trailing slashes. */
static const char *last_component(const char *path, size_t *len)
{
	size_t end = strlen(path), begin;

	while (end > 0 && path[end - 1] == '/')
		end--;
	for (begin = end; begin > 0 && path[begin - 1] != '/';)
		begin--;
	*len = end - begin;
	return path + begin;
}

static bool is_dots(const char *name, size_t len)
{
	return len == 0 || (len <= 2 && strncmp(name, "..", len) == 0);
}

/* "x/.", "..", "/": a source of which the content is meant, since it has no name. */
static bool is_nameless(const char *path)
{
	size_t len;
	const char *last = last_component(path, &len);

	return is_dots(last, len);
}

bool copy_is_folder_name(const char *dest)
{
	size_t len = strlen(dest);

	return len == 0 || dest[len - 1] == '/' || is_nameless(dest);
}

bool copy_asks(const struct copy_case *c)
{
	if (c->dest == NULL || copy_is_folder_name(c->dest))
		return false;
	return !c->exact || c->source_kind == COPY_KIND_DIRECTORY;
}

static char *out_of_memory(struct err *err)
{
	err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	return NULL;
}

/* "${dir}/${name of source}", without doubled slashes. */
static char *beneath(const char *dir, const char *source, struct err *err)
{
	size_t len, dir_len = strlen(dir);
	const char *name = last_component(source, &len);
	char *path;

	while (dir_len > 1 && dir[dir_len - 1] == '/')
		dir_len--;
	const char *slash = dir_len > 0 && dir[dir_len - 1] == '/' ? "" : "/";
	if (asprintf(&path, "%.*s%s%.*s", (int)dir_len, dir, slash, (int)len, name) < 0)
		return out_of_memory(err);
	return path;
}

static char *same(const char *path, struct err *err)
{
	char *copy = strdup(path);

	return copy != NULL ? copy : out_of_memory(err);
}

char *copy_target(const struct copy_case *c, struct err *err)
{
	const char *dest = c->dest != NULL && c->dest[0] != '\0' ? c->dest : ".";
	bool is_tree = c->source_kind == COPY_KIND_DIRECTORY;
	bool asked = copy_asks(c);
	bool into = copy_is_folder_name(dest) || (asked && c->dest_kind == COPY_KIND_DIRECTORY);

	if (is_tree && asked && c->dest_kind == COPY_KIND_FILE) {
		err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s is a file, and a directory cannot take its place", dest);
		return NULL;
	}
	if (c->exact || (is_tree && is_nameless(c->source)))
		return same(dest, err);
	if (!into && c->several) {
		err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s is no directory: several sources have to go into one; end its name in a "
		    "slash to have it made",
		    dest);
		return NULL;
	}
	if (!into)
		return same(dest, err);
	if (is_nameless(c->source)) {
		err_set(err, GRPC_INVALID_ARGUMENT,
		    "%s has no name of its own: name the file to make in %s", c->source, dest);
		return NULL;
	}
	return beneath(dest, c->source, err);
}
