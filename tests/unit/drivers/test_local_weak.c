/* The local driver where the kernel grants no namespace at all. */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "local_cases.h"

static bool put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	bool written = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return written;
}

/* In a user namespace of our own the limits on namespaces are ours to set. */
static bool forbid_namespaces(void)
{
	char uid[32], gid[32];

	snprintf(uid, sizeof(uid), "0 %u 1", (unsigned)geteuid());
	snprintf(gid, sizeof(gid), "0 %u 1", (unsigned)getegid());
	return unshare(CLONE_NEWUSER) == 0 && put("/proc/self/setgroups", "deny") &&
	    put("/proc/self/uid_map", uid) && put("/proc/self/gid_map", gid) &&
	    put("/proc/sys/user/max_user_namespaces", "0") &&
	    put("/proc/sys/user/max_mnt_namespaces", "0") &&
	    put("/proc/sys/user/max_pid_namespaces", "0");
}

int main(int argc, char *argv[])
{
	return local_cases_main(argc, argv, "local_weak", forbid_namespaces);
}
