/* StatFile. */
#include <fcntl.h>
#include <unistd.h>

#include "transfer/files/files.h"

/* O_PATH: a pipe does not keep us waiting, and what may not be read may be looked at. */
static enum files_result run(struct files_call *c, struct err *err)
{
	const Towline__V1__StatFileRequest *q = c->request;
	Towline__V1__StatFileResponse r = TOWLINE__V1__STAT_FILE_RESPONSE__INIT;
	struct files_place p;

	if (files_place(c->transfers, q->path, "path", &p, err) != 0)
		return FILES_FAILED;
	int fd =
	    beneath_open(p.root, p.rest, O_PATH | (q->no_follow ? O_NOFOLLOW : 0), 0, p.links, err);
	if (fd < 0)
		return FILES_FAILED;
	int result = file_info_read(&c->info, fd, "", q->path, err);
	close(fd);
	if (result != 0)
		return FILES_FAILED;
	r.file = &c->info.message;
	return files_reply(c, &r.base, err);
}

const struct files_op files_stat = {
	.request = &towline__v1__stat_file_request__descriptor,
	.run = run,
};
