#include "transfer/sftp/homes.h"

#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "transfer/owners.h"

/* O_NONBLOCK: the sandbox may have put a pipe there. */
static FILE *open_passwd(int slash)
{
	int fd = beneath_open(slash, "etc/passwd", O_RDONLY | O_NONBLOCK, 0, BENEATH_IN_ROOT, NULL);
	struct stat st;
	FILE *f = NULL;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    st.st_size <= (off_t)OWNERS_FILE_BYTES)
		f = fdopen(fd, "r");
	if (f == NULL && fd >= 0)
		close(fd);
	return f;
}

/* Of ${user}, or with NULL our own. */
static bool find_home(int slash, const char *user, char out[static PATH_MAX])
{
	FILE *f = open_passwd(slash);
	bool found = false;

	if (f == NULL)
		return false;
	for (struct passwd *pw; !found && (pw = fgetpwent(f)) != NULL;)
		if ((user != NULL ? strcmp(pw->pw_name, user) == 0 : pw->pw_uid == getuid()) &&
		    pw->pw_dir[0] == '/')
			found = snprintf(out, PATH_MAX, "%s", pw->pw_dir) < PATH_MAX;
	fclose(f);
	return found;
}

static bool own_home(int slash, const char *dflt, char out[static PATH_MAX])
{
	const char *home = getenv("HOME");

	if (home != NULL && home[0] == '/')
		return snprintf(out, PATH_MAX, "%s", home) < PATH_MAX;
	return find_home(slash, NULL, out) || snprintf(out, PATH_MAX, "%s", dflt) < PATH_MAX;
}

bool homes_expand(int slash, const char *path, const char *dflt, char out[static PATH_MAX])
{
	char user[OWNERS_NAME_MAX];
	size_t len = strcspn(path, "/");

	if (path[0] != '~')
		return snprintf(out, PATH_MAX, "%s", path) < PATH_MAX;
	if (len - 1 >= sizeof(user))
		return false;
	memcpy(user, path + 1, len - 1);
	user[len - 1] = '\0';
	if (len == 1 ? !own_home(slash, dflt, out) : !find_home(slash, user, out))
		return false;
	size_t used = strlen(out);
	return snprintf(out + used, PATH_MAX - used, "%s", path + len) < (int)(PATH_MAX - used);
}
