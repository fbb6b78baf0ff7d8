#include "transfer/owners.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "proto/guard.h"

#define LINE_SIZE 1024

void owners_init(struct owners *o, int slash)
{
	memset(o, 0, sizeof(*o));
	o->slash = slash;
}

/* "name:x:1000:..." of the wanted id. What is left of ${line} is not touched on a miss. */
static bool is_line_of(char *line, uint32_t id, char name[static OWNERS_NAME_MAX])
{
	char *end = strchr(line, ':'), *number, *rest;

	if (end == NULL || (number = strchr(end + 1, ':')) == NULL)
		return false;
	unsigned long value = strtoul(number + 1, &rest, 10);
	if (rest == number + 1 || *rest != ':' || value != id)
		return false;
	size_t len = (size_t)(end - line);
	if (len >= OWNERS_NAME_MAX || !guard_is_text(line, len))
		len = 0;
	memcpy(name, line, len);
	name[len] = '\0';
	return true;
}

/* What is in a line behind its first bytes is of no interest. */
static void search(FILE *f, uint32_t id, char name[static OWNERS_NAME_MAX])
{
	char line[LINE_SIZE];
	bool at_begin = true;
	size_t bytes = 0;

	while (bytes < OWNERS_FILE_BYTES && fgets(line, sizeof(line), f) != NULL) {
		if (at_begin && is_line_of(line, id, name))
			return;
		size_t len = strlen(line);
		at_begin = len > 0 && line[len - 1] == '\n';
		bytes += len + 1;
	}
}

/* O_NONBLOCK: the sandbox may have put a pipe there. */
static void look_up(int slash, const char *path, uint32_t id, char name[static OWNERS_NAME_MAX])
{
	int fd = beneath_open(slash, path, O_RDONLY | O_NONBLOCK, 0, BENEATH_IN_ROOT, NULL);
	struct stat st;
	FILE *f = NULL;

	name[0] = '\0';
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		f = fdopen(fd, "r");
	if (f != NULL) {
		search(f, id, name);
		fclose(f);
	} else if (fd >= 0) {
		close(fd);
	}
}

static const char *find(
    struct owners *o, struct owners_name names[static OWNERS_KEPT], const char *path, uint32_t id)
{
	struct owners_name *n = &names[id % OWNERS_KEPT];

	if (!n->known || n->id != id) {
		look_up(o->slash, path, id, n->name);
		n->known = true;
		n->id = id;
	}
	return n->name;
}

const char *owners_user(struct owners *o, uid_t uid)
{
	return find(o, o->users, "etc/passwd", uid);
}

const char *owners_group(struct owners *o, gid_t gid)
{
	return find(o, o->groups, "etc/group", gid);
}
