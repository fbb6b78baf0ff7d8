#include "transfer/confine.h"

#include <linux/landlock.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Hard links and renames between directories, which came with the second version. */
#define NEEDED 2

/* Those that headers of today may not have yet. */
#define ACCESS_REFER    (UINT64_C(1) << 13)
#define ACCESS_TRUNCATE (UINT64_C(1) << 14)
#define TRUNCATE_SINCE  3

static int landlock_version(void)
{
	return (int)syscall(
	    SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_CREATE_RULESET_VERSION);
}

bool confine_supported(void)
{
	return landlock_version() >= NEEDED;
}

bool confine_to(int dir)
{
	int version = landlock_version();
	/* All of the first version, execution too: nothing is run from here. */
	uint64_t handled = ((uint64_t)LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;

	if (version < NEEDED)
		return false;
	handled |= ACCESS_REFER | (version >= TRUNCATE_SINCE ? ACCESS_TRUNCATE : 0);
	struct landlock_ruleset_attr rules = { .handled_access_fs = handled };
	struct landlock_path_beneath_attr beneath = {
		.allowed_access = handled & ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE, .parent_fd = dir
	};
	int fd = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);
	if (fd < 0)
		return false;
	bool done =
	    syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) == 0 &&
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	    syscall(SYS_landlock_restrict_self, fd, 0) == 0;
	close(fd);
	return done;
}
