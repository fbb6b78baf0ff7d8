/* The local driver of somebody who is not root. */
#include <grp.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "local_cases.h"

#define NOBODY 65534

static bool become_nobody(void)
{
	if (geteuid() != 0)
		return true;
	/* Who was root cannot be looked at afterwards, not even by itself in /proc. */
	return setgroups(0, 0) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
	    setresuid(NOBODY, NOBODY, NOBODY) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0 &&
	    access("/proc/self/exe", X_OK) == 0 && access(TOWLINE_SUPERVISOR, X_OK) == 0;
}

int main(int argc, char *argv[])
{
	return local_cases_main(argc, argv, "local_user", become_nobody);
}
