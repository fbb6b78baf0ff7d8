#include "cli/remote.h"

#include "cli/files.h"
#include "proto/codec.h"

static enum copy_kind kind_of(const Towline__V1__FileInfo *f)
{
	return f != NULL && f->type == TOWLINE__V1__FILE_TYPE__FILE_TYPE_DIRECTORY
	    ? COPY_KIND_DIRECTORY
	    : COPY_KIND_FILE;
}

int remote_kind(
    struct session *s, const char *sandbox, const char *path, enum copy_kind *kind, struct err *err)
{
	Towline__V1__StatFileRequest q = TOWLINE__V1__STAT_FILE_REQUEST__INIT;
	void *reply;

	*kind = COPY_KIND_NONE;
	q.sandbox = (char *)sandbox;
	q.path = (char *)path;
	q.workspace_scope = session_scope(s);
	if (files_call(s, "StatFile", &q.base, &reply, err) == 0) {
		*kind = kind_of(((Towline__V1__StatFileResponse *)reply)->file);
		codec_free(reply);
		return 0;
	}
	if (err->code != GRPC_NOT_FOUND)
		return -1;
	err_clear(err);
	return 0;
}
