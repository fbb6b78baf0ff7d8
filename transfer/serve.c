#include "transfer/serve.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/beneath.h"
#include "transfer/transfers.h"

struct transfers *transfers_create(const struct transfer_options *o, struct err *err)
{
	struct transfers *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	t->loop = o->loop;
	t->workers = o->workers;
	t->workdir = o->workdir;
	t->slash = o->slash;
	return t;
}

void transfers_free(struct transfers *t)
{
	assert(t == NULL || t->running == 0);
	free(t);
}

int transfers_enter(struct transfers *t, bool archive, struct err *err)
{
	if (t->running >= TRANSFER_MAX || (archive && t->archives >= TRANSFER_ARCHIVES_MAX))
		return err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "%zu transfers (%zu archives) run in this sandbox; wait for one to end",
		    t->running, t->archives);
	t->running++;
	t->archives += archive;
	return 0;
}

void transfers_leave(struct transfers *t, bool archive)
{
	t->running--;
	t->archives -= archive;
}

int transfers_open_directory(struct transfers *t, const char *path, bool make, struct err *err)
{
	const char *rest;
	int root = beneath_root(t->workdir, t->slash, path, &rest);
	enum beneath_links links = root == t->slash ? BENEATH_IN_ROOT : BENEATH_FOLLOW;
	int fd = beneath_open(root, rest, O_RDONLY | O_DIRECTORY, 0, links, err);

	if (fd >= 0 || !make || err->code != GRPC_NOT_FOUND)
		return fd;
	err_clear(err);
	if (beneath_mkdir(root, rest, 0777, links, err) != 0)
		return -1;
	return beneath_open(root, rest, O_RDONLY | O_DIRECTORY, 0, links, err);
}
