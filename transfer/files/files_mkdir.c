/* MakeDirectory. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transfer/files/files.h"

#define DEFAULT_MODE 0755
#define MODE_BITS    01777 /* set-id bits are not taken from a caller */

/* A mode that is asked for is meant, whatever the umask. */
static int open_made(
    const Towline__V1__MakeDirectoryRequest *q, int parent, const char *name, struct err *err)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, errno, "%s", q->path);
	if (q->mode == 0 || fchmod(fd, q->mode & MODE_BITS) == 0)
		return fd;
	err_sys(err, errno, "%s", q->path);
	close(fd);
	return -1;
}

/* Returns the directory. */
static int make(
    const Towline__V1__MakeDirectoryRequest *q, const struct files_place *p, struct err *err)
{
	char last[BENEATH_NAME_MAX];
	int parent = beneath_parent(p->root, p->rest, q->parents, p->links, last, err), fd = -1;

	if (parent < 0)
		return -1;
	if (mkdirat(parent, last, q->mode != 0 ? q->mode & MODE_BITS : DEFAULT_MODE) == 0)
		fd = open_made(q, parent, last, err);
	else if (errno != EEXIST)
		err_sys(err, errno, "%s", q->path);
	else
		err_set(err, GRPC_ALREADY_EXISTS,
		    q->parents ? "%s exists, and is no directory" : "%s exists already", q->path);
	close(parent);
	return fd;
}

static enum files_result run(struct files_call *c, struct err *err)
{
	const Towline__V1__MakeDirectoryRequest *q = c->request;
	Towline__V1__MakeDirectoryResponse r = TOWLINE__V1__MAKE_DIRECTORY_RESPONSE__INIT;
	struct files_place p;
	int fd = -1;

	if (files_place(c->transfers, q->path, "path", &p, err) != 0)
		return FILES_FAILED;
	if (q->parents) /* what is there counts as made, be it "/" or a link to a directory */
		fd = beneath_open(p.root, p.rest, O_PATH | O_DIRECTORY, 0, p.links, NULL);
	if (fd < 0 && (fd = make(q, &p, err)) < 0)
		return FILES_FAILED;
	int result = file_info_read(&c->info, fd, "", q->path, err);
	close(fd);
	if (result != 0)
		return FILES_FAILED;
	r.file = &c->info.message;
	return files_reply(c, &r.base, err);
}

const struct files_op files_mkdir = {
	.request = &towline__v1__make_directory_request__descriptor,
	.run = run,
};
