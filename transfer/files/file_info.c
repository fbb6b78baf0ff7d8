#include "transfer/files/file_info.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "proto/guard.h"

/* A byte that is not printable becomes four. */
#define TEXT_MAX ((size_t)4 * 2 * BENEATH_PATH_MAX)

void file_info_init(struct file_info *i, int slash)
{
	owners_init(&i->owners, slash);
	text_init(&i->name, TEXT_MAX);
	text_init(&i->path, TEXT_MAX);
	text_init(&i->target, TEXT_MAX);
}

void file_info_free(struct file_info *i)
{
	text_free(&i->name);
	text_free(&i->path);
	text_free(&i->target);
}

/* A message's text has to be UTF-8; a name may be anything. */
static char *set_text(struct text *t, const char *bytes)
{
	size_t len = strlen(bytes);

	t->len = 0;
	if (guard_is_text(bytes, len))
		text_add(t, bytes, len);
	else
		text_add_plain(t, bytes, len);
	return t->data;
}

static const char *last_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL && slash[1] != '\0' ? slash + 1 : path;
}

static int check_memory(struct file_info *i, struct err *err)
{
	if (!i->name.failed && !i->path.failed && !i->target.failed)
		return 0;
	i->name.failed = i->path.failed = i->target.failed = false;
	return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

static ProtobufCBinaryData bytes_of(const char *text)
{
	return (ProtobufCBinaryData){ .len = strlen(text), .data = (uint8_t *)text };
}

int file_info_name(struct file_info *i, const char *path, struct err *err)
{
	const char *name = last_of(path);

	i->message = (Towline__V1__FileInfo)TOWLINE__V1__FILE_INFO__INIT;
	i->message.name = set_text(&i->name, name);
	i->message.path = set_text(&i->path, path);
	if (!guard_is_text(name, strlen(name)))
		i->message.raw_name = bytes_of(name);
	if (!guard_is_text(path, strlen(path)))
		i->message.raw_path = bytes_of(path);
	return check_memory(i, err);
}

static Towline__V1__FileType type_of(mode_t mode)
{
	if (S_ISREG(mode))
		return TOWLINE__V1__FILE_TYPE__FILE_TYPE_FILE;
	if (S_ISDIR(mode))
		return TOWLINE__V1__FILE_TYPE__FILE_TYPE_DIRECTORY;
	if (S_ISLNK(mode))
		return TOWLINE__V1__FILE_TYPE__FILE_TYPE_SYMLINK;
	return TOWLINE__V1__FILE_TYPE__FILE_TYPE_OTHER;
}

static int read_target(struct file_info *i, int dir, const char *name, struct err *err)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);

	if (n < 0)
		return err_sys(err, errno, "%s", i->message.path);
	target[n] = '\0';
	i->message.symlink_target = set_text(&i->target, target);
	return check_memory(i, err);
}

static void take(struct file_info *i, const struct stat *st)
{
	Towline__V1__FileInfo *m = &i->message;

	m->type = type_of(st->st_mode);
	m->mode = st->st_mode & 07777;
	m->uid = st->st_uid;
	m->gid = st->st_gid;
	m->owner = (char *)owners_user(&i->owners, st->st_uid);
	m->group = (char *)owners_group(&i->owners, st->st_gid);
	i->mtime = (Google__Protobuf__Timestamp)GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	i->mtime.seconds = st->st_mtim.tv_sec;
	i->mtime.nanos = (int32_t)st->st_mtim.tv_nsec;
	m->modified_time = &i->mtime;
	if (S_ISREG(st->st_mode)) {
		m->size_bytes = (uint64_t)st->st_size;
		etag_of(st, i->etag);
		m->etag = i->etag;
	}
}

int file_info_read(
    struct file_info *i, int dir, const char *name, const char *path, struct err *err)
{
	struct stat st;

	if (file_info_name(i, path, err) != 0)
		return -1;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0)
		return err_sys(err, errno, "%s", path);
	take(i, &st);
	return S_ISLNK(st.st_mode) ? read_target(i, dir, name, err) : 0;
}
