#include "transfer/sftp/scp.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "transfer/sftp/homes.h"
#include "transfer/owners.h"

#define WHY_MAX ((size_t)2 * PATH_MAX) /* bytes; a longer reason is cut */

/* What cannot be sent cannot be told either. */
static enum scp_step end(struct scp *s)
{
	s->over = true;
	return SCP_OVER;
}

/* Talking. What nobody waits for does not pile up. */

static void gathered(struct scp *s)
{
	struct err err = { 0 };

	if (s->over || talk_gathered(s->talk, &err) == 0)
		return;
	*s->fatal = err;
	end(s);
}

void scp_agree(struct scp *s)
{
	text_add(talk_out(s->talk), "", 1);
	gathered(s);
}

void scp_say(struct scp *s, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	text_vaddf(talk_out(s->talk), fmt, args);
	va_end(args);
	gathered(s);
}

static void complain(struct scp *s, const char *why)
{
	struct text *out = talk_out(s->talk);

	text_add(out, "\1scp: ", 6);
	text_add_plain(out, why, strlen(why));
	text_add(out, "\n", 1);
	s->errors++;
	gathered(s);
}

void scp_complain(struct scp *s, const char *fmt, ...)
{
	char why[WHY_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(why, sizeof(why), fmt, args);
	va_end(args);
	complain(s, why);
}

void scp_complain_sys(struct scp *s, int sys)
{
	char buf[128];

	scp_complain(s, "%s: %s", s->path.data, strerror_r(sys, buf, sizeof(buf)));
}

enum scp_step scp_give_up(struct scp *s, const char *fmt, ...)
{
	char why[WHY_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(why, sizeof(why), fmt, args);
	va_end(args);
	complain(s, why);
	return end(s);
}

/* Listening. */

/* So many bytes are there. What ends in between is no file's end. */
static enum scp_step need(struct scp *s, size_t n)
{
	struct err err = { 0 };
	int r = talk_need(s->talk, n, &err);

	if (r > 0)
		return SCP_FINE;
	if (r < 0)
		*s->fatal = err;
	return end(s);
}

/* Where in what is there the line ends, or 0. */
static size_t find_end(struct scp *s, char line[static SCP_LINE_MAX])
{
	size_t there = talk_there(s->talk), n = there < SCP_LINE_MAX ? there : SCP_LINE_MAX;

	talk_copy(s->talk, line, n);
	const char *at = memchr(line, '\n', n);
	return at != NULL ? (size_t)(at - line) + 1 : 0;
}

enum scp_step scp_line(struct scp *s, char line[static SCP_LINE_MAX])
{
	size_t n;

	if (need(s, 1) != SCP_FINE)
		return SCP_OVER;
	while ((n = find_end(s, line)) == 0) {
		if (talk_there(s->talk) >= SCP_LINE_MAX)
			return scp_give_up(s, "protocol error: a line without an end");
		if (need(s, talk_there(s->talk) + 1) != SCP_FINE)
			return SCP_OVER;
	}
	talk_drop(s->talk, n);
	line[n - 1] = '\0';
	return SCP_FINE;
}

enum scp_step scp_hear(struct scp *s)
{
	char line[SCP_LINE_MAX];
	char code;

	if (need(s, 1) != SCP_FINE)
		return SCP_OVER;
	talk_copy(s->talk, &code, 1);
	talk_drop(s->talk, 1);
	if (code == 0)
		return SCP_FINE;
	s->errors++;
	if (scp_line(s, line) != SCP_FINE)
		return SCP_OVER;
	return code == 1 ? SCP_REFUSED : end(s);
}

/* Paths. */

void scp_enter(struct scp *s, const char *name)
{
	if (s->path.len == 0 || s->path.data[s->path.len - 1] != '/')
		text_add(&s->path, "/", 1);
	text_add(&s->path, name, strlen(name));
}

void scp_leave(struct scp *s, size_t len)
{
	s->path.failed = false;
	s->path.len = len;
	if (s->path.data != NULL)
		s->path.data[len] = '\0';
}

bool scp_start_at(struct scp *s, const char *path, char prefix[static PATH_MAX], const char **rest)
{
	const struct scp_options *o = s->options;
	size_t len = path[0] == '~' ? strcspn(path, "/") : 0;
	char home[OWNERS_NAME_MAX + 1];
	bool fine = true;

	*rest = path + len;
	if (len > 0) {
		fine = len < sizeof(home);
		snprintf(home, sizeof(home), "%.*s", (int)len, path);
		fine = fine && homes_expand(o->slash, home, o->workdir_path, prefix);
	} else {
		snprintf(prefix, PATH_MAX, "%s", path[0] == '/' ? "" : o->workdir_path);
	}
	if (!fine)
		scp_complain(s, "%s: No such user", path);
	return fine;
}

bool scp_set_path(struct scp *s, const char *prefix, const char *rest)
{
	scp_leave(s, 0);
	text_add(&s->path, prefix, strlen(prefix));
	if (rest[0] == '/' && (s->path.len == 0 || prefix[s->path.len - 1] != '/'))
		text_add(&s->path, rest, strlen(rest));
	else if (rest[0] != '\0')
		scp_enter(s, rest);
	if (s->path.failed)
		scp_complain(s, "%s: File name too long", rest);
	return !s->path.failed;
}

int scp_run(const struct scp_options *o, struct talk *talk, int *exit_code, struct err *err)
{
	struct scp s = { .options = o, .talk = talk, .fatal = err };

	text_init(&s.path, PATH_MAX - 1);
	int r = o->sink ? scp_sink(&s) : scp_source(&s);
	text_free(&s.path);
	*exit_code = r != 0 || s.errors > 0 ? 1 : 0;
	return err->code == GRPC_OK ? 0 : -1;
}
