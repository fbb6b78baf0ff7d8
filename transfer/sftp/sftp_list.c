/* Directories. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "transfer/sftp/sftp.h"

#define HALF_YEAR (182L * 24 * 3600) /* s; older, a file's year is of more interest than its hour */
#define ID_TEXT   12                 /* bytes of a number with its NUL */

static char type_letter(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return 'd';
	case S_IFLNK:
		return 'l';
	case S_IFCHR:
		return 'c';
	case S_IFBLK:
		return 'b';
	case S_IFIFO:
		return 'p';
	case S_IFSOCK:
		return 's';
	default:
		return '-';
	}
}

static void mode_text(mode_t mode, char out[static 11])
{
	static const char letters[] = "rwxrwxrwx";

	out[0] = type_letter(mode);
	for (unsigned i = 0; i < 9; i++)
		out[i + 1] = mode & (0400U >> i) ? letters[i] : '-';
	if (mode & S_ISUID)
		out[3] = mode & S_IXUSR ? 's' : 'S';
	if (mode & S_ISGID)
		out[6] = mode & S_IXGRP ? 's' : 'S';
	if (mode & S_ISVTX)
		out[9] = mode & S_IXOTH ? 't' : 'T';
	out[10] = '\0';
}

static void time_text(time_t t, char out[static 16])
{
	time_t now = time(NULL);
	struct tm tm;

	out[0] = '\0';
	if (localtime_r(&t, &tm) == NULL)
		return;
	if (strftime(out, 16, t <= now && now - t < HALF_YEAR ? "%b %e %H:%M" : "%b %e  %Y", &tm) ==
	    0)
		out[0] = '\0';
}

/* The name, or the number where there is none. */
static const char *id_text(const char *name, uint32_t id, char buf[static ID_TEXT])
{
	if (name[0] != '\0')
		return name;
	snprintf(buf, ID_TEXT, "%" PRIu32, id);
	return buf;
}

void sftp_put_long_name(struct sftp *s, struct text *out, const struct stat *st, const char *name)
{
	char mode[11], when[16], user[ID_TEXT], group[ID_TEXT];
	struct text line;

	mode_text(st->st_mode, mode);
	time_text(st->st_mtim.tv_sec, when);
	text_init(&line, 1024);
	text_addf(&line, "%s %4" PRIu64 " ", mode, (uint64_t)st->st_nlink);
	text_addf(&line, "%-8s ", id_text(owners_user(&s->owners, st->st_uid), st->st_uid, user));
	text_addf(&line, "%-8s ", id_text(owners_group(&s->owners, st->st_gid), st->st_gid, group));
	text_addf(&line, "%8" PRIu64 " %s %s", (uint64_t)st->st_size, when, name);
	if (line.failed)
		out->failed = true;
	else
		sftp_put_bytes(out, line.data, line.len);
	text_free(&line);
}

/* An entry that goes while it is looked at is told by its name alone. */
static void put_entry(struct sftp *s, int dir, const char *name)
{
	struct stat st;

	sftp_put_string(s->out, name);
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		sftp_put_long_name(s, s->out, &st, name);
		sftp_put_attrs(s->out, &st);
	} else {
		sftp_put_string(s->out, name);
		sftp_put_u32(s->out, 0);
	}
}

enum sftp_status sftp_readdir(struct sftp *s)
{
	struct sftp_handle *h = sftp_get_handle(s);
	uint32_t count = 0;
	size_t begin = s->out->len;
	struct dirent *e;

	if (s->in.bad)
		return SFTP_BAD_MESSAGE;
	if (h == NULL || h->dir == NULL)
		return sftp_refuse(s, "No such directory handle");
	sftp_begin(s, SFTP_NAME);
	size_t at = s->out->len;
	sftp_put_u32(s->out, 0);
	for (errno = 0; s->out->len - begin < SFTP_LIST_BYTES && (e = readdir(h->dir)) != NULL;
	     count++, errno = 0)
		put_entry(s, h->fd, e->d_name);
	if (s->out->failed)
		return SFTP_FAILURE;
	if (count == 0) {
		int sys = errno;
		s->out->len = begin;
		s->answered = false;
		return sys == 0 ? SFTP_EOF : sftp_fail(s, sys);
	}
	sftp_store_u32((uint8_t *)s->out->data + at, count);
	sftp_end(s);
	return SFTP_OK;
}
