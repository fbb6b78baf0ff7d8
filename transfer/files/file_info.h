/* transfer/files/file_info.h: what is told of a file, as a message. On a worker. */
#ifndef TRANSFER_FILES_FILE_INFO_H
#define TRANSFER_FILES_FILE_INFO_H

#include "base/err.h"
#include "base/text.h"
#include "towline/v1/files.pb-c.h"
#include "transfer/etag.h"
#include "transfer/owners.h"

/* Used again and again: the message is good until the next one is made. */
struct file_info {
	Towline__V1__FileInfo message;
	struct owners owners;

	/* What the message points to. */
	Google__Protobuf__Timestamp mtime;
	struct text name, path, target;
	char etag[ETAG_SIZE];
};

void file_info_init(struct file_info *, int slash);
void file_info_free(struct file_info *);

/*
 * Of ${name} in ${dir}, or of ${dir} itself when ${name} is "" (it may be O_PATH). A
 * symlink is told about as one. ${path} is what it is called. -1: it is gone, or may not
 * be looked at.
 */
int file_info_read(struct file_info *, int dir, const char *name, const char *path, struct err *);

/* Of what is gone: its name and path alone. -1: no memory. */
int file_info_name(struct file_info *, const char *path, struct err *);

#endif
