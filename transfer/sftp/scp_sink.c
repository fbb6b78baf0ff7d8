/* scp -t: what comes is written. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transfer/sftp/scp.h"

#define NUMBER_MAX (UINT64_MAX / 100) /* more than any size or time */

/* Parsing. */

/* Digits up to ${stop}, which is skipped; false: something else. */
static bool get_number(const char **at, char stop, uint64_t *out)
{
	const char *p = *at;
	uint64_t n = 0;

	for (; *p >= '0' && *p <= '9' && n <= NUMBER_MAX; p++)
		n = n * 10 + (uint64_t)(*p - '0');
	if (p == *at || *p != stop)
		return false;
	*at = stop != '\0' ? p + 1 : p;
	*out = n;
	return true;
}

/* "T<mtime> <us> <atime> <us>". */
static bool parse_times(const char *line, struct scp_times *t)
{
	const char *at = line + 1;
	uint64_t mtime, mtime_us, atime, atime_us;

	if (!get_number(&at, ' ', &mtime) || !get_number(&at, ' ', &mtime_us) ||
	    !get_number(&at, ' ', &atime) || !get_number(&at, '\0', &atime_us) ||
	    mtime_us >= 1000000 || atime_us >= 1000000 || mtime > INT64_MAX || atime > INT64_MAX)
		return false;
	t->known = true;
	t->mtime = (struct timespec){ (time_t)mtime, (long)mtime_us * 1000 };
	t->atime = (struct timespec){ (time_t)atime, (long)atime_us * 1000 };
	return true;
}

/* One that stays in its directory, and says nothing to a terminal. */
static bool is_good_name(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len > NAME_MAX || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return false;
	for (size_t i = 0; i < len; i++)
		if (name[i] == '/' || (unsigned char)name[i] < 0x20 || name[i] == 0x7f)
			return false;
	return true;
}

/* "C0644 <size> <name>"; NULL, or what is wrong with it. */
static const char *parse_record(const char *line, struct scp_record *r)
{
	const char *at = line + 1;
	mode_t mode = 0;

	for (int i = 0; i < 4; i++, at++) {
		if (*at < '0' || *at > '7')
			return "protocol error: bad mode";
		mode = mode << 3 | (mode_t)(*at - '0');
	}
	if (*at++ != ' ')
		return "protocol error: mode not delimited";
	if (!get_number(&at, ' ', &r->size) || r->size > INT64_MAX)
		return "protocol error: bad size";
	if (!is_good_name(at))
		return "error: unexpected filename";
	r->mode = mode & 07777;
	memcpy(r->name, at, strlen(at) + 1);
	return NULL;
}

/* Directories. */

static int take_directory(struct scp *s, int depth);

/* Whether it is there now, and ${made} if it was not before. */
static bool make_directory(struct scp *s, mode_t mode, bool *made)
{
	const char *path = s->path.data;
	struct stat st;

	*made = mkdir(path, mode | S_IRWXU) == 0;
	if (*made)
		return true;
	int sys = errno;
	if (sys == EEXIST && stat(path, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			return true;
		sys = ENOTDIR;
	}
	scp_complain_sys(s, sys);
	return false;
}

/* What had to be writable until all was in it. */
static void finish_directory(
    struct scp *s, const struct scp_record *r, const struct scp_times *times, bool made)
{
	const struct timespec both[2] = { times->atime, times->mtime };

	if ((s->options->preserve || (made && (r->mode & S_IRWXU) != S_IRWXU)) &&
	    chmod(s->path.data, s->options->preserve ? r->mode : r->mode & 0755) != 0)
		scp_complain_sys(s, errno);
	if (times->known && utimensat(AT_FDCWD, s->path.data, both, 0) != 0)
		scp_complain_sys(s, errno);
}

static enum scp_step enter_directory(
    struct scp *s, const struct scp_record *r, const struct scp_times *times, int depth)
{
	bool made;

	if (!s->options->recursive)
		return scp_give_up(s, "protocol error: received directory without -r");
	if (depth + 1 >= SCP_DEPTH_MAX)
		return scp_give_up(s, "%s: directories in %d others", s->path.data, depth);
	if (!make_directory(s, r->mode, &made))
		return SCP_FINE;
	if (take_directory(s, depth + 1) != 0)
		return SCP_OVER;
	finish_directory(s, r, times, made);
	return SCP_FINE;
}

/* A C or D line. */
static enum scp_step take_record(
    struct scp *s, const char *line, const struct scp_times *times, bool into, int depth)
{
	struct scp_record r;
	const char *wrong = parse_record(line, &r);
	size_t len = s->path.len;
	enum scp_step step = SCP_FINE;

	if (wrong != NULL)
		return scp_give_up(s, "%s", wrong);
	if (into)
		scp_enter(s, r.name);
	if (s->path.failed)
		scp_complain(s, "%s: File name too long", r.name);
	else
		step = line[0] == 'D' ? enter_directory(s, &r, times, depth)
				      : scp_take_file(s, &r, times);
	scp_leave(s, len);
	return step;
}

/* One line; 1: the directory's end. */
static int take_line(struct scp *s, const char *line, struct scp_times *times, bool into, int depth)
{
	switch (line[0]) {
	case '\1':
		s->errors++;
		return 0;
	case '\2':
		s->errors++;
		s->over = true;
		return -1;
	case 'E':
		scp_agree(s);
		return 1;
	case 'T':
		if (!parse_times(line, times))
			return (int)scp_give_up(s, "protocol error: bad times");
		scp_agree(s);
		return 0;
	case 'C':
	case 'D': {
		struct scp_times now = *times;
		*times = (struct scp_times){ 0 };
		return (int)take_record(s, line, &now, into, depth);
	}
	default:
		return (int)scp_give_up(s, "protocol error: expected control record");
	}
}

/* The other end ends by ending, between two lines, at the top only. */
static int after_end(struct scp *s, int depth)
{
	if (depth > 0 || talk_there(s->talk) > 0 || s->errors > 0)
		return -1;
	return s->fatal->code == GRPC_OK ? 0 : -1;
}

/* ${path} is the directory, or at the top maybe the file. */
static int take_directory(struct scp *s, int depth)
{
	struct scp_times times = { 0 };
	char line[SCP_LINE_MAX];
	struct stat st;
	bool into = stat(s->path.data, &st) == 0 && S_ISDIR(st.st_mode);
	int r = 0;

	scp_agree(s);
	while (r == 0) {
		if (scp_line(s, line) != SCP_FINE)
			return after_end(s, depth);
		r = take_line(s, line, &times, into, depth);
	}
	return r > 0 ? 0 : -1;
}

int scp_sink(struct scp *s)
{
	const struct scp_options *o = s->options;
	char prefix[PATH_MAX];
	const char *rest;
	struct stat st;

	if (o->count != 1)
		return scp_give_up(s, "ambiguous target");
	if (!scp_start_at(s, o->paths[0], prefix, &rest) || !scp_set_path(s, prefix, rest))
		return -1;
	if (o->directory && (stat(s->path.data, &st) != 0 || !S_ISDIR(st.st_mode)))
		return scp_give_up(s, "%s: Not a directory", s->path.data);
	return take_directory(s, 0);
}
