#include "drivers/local/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <time.h>
#include <unistd.h>

#include "base/beneath.h"

#define PID_FILE             "supervisor.pid"
#define MEMBERS_MAX          8192 /* processes of one sandbox looked at in one pass */
#define MEMBERS_PAUSE_MS     10   /* from one pass to the next */
#define MEMBERS_QUIET_PASSES 3    /* in a row, until nobody is taken to be left */

/* Reads a small file of /proc into ${out} as text; the length, -1 on error. */
static ssize_t read_small(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	ssize_t n = read(fd, out, size - 1);
	close(fd);
	if (n >= 0)
		out[n] = '\0';
	return n;
}

/* Fields 4 (parent) and 22 (start time) of /proc/PID/stat; the name in field 2 may
 * hold anything, so counting starts behind its last ')'. */
static int read_stat(pid_t pid, pid_t *parent, uint64_t *start_time)
{
	char path[64], text[1024];

	snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	if (read_small(path, text, sizeof(text)) <= 0)
		return -1;
	const char *rest = strrchr(text, ')');
	long ppid;
	unsigned long long start;
	if (rest == NULL ||
	    sscanf(rest + 1,
		" %*c %ld %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
		&ppid, &start) != 2)
		return -1;
	*parent = (pid_t)ppid;
	*start_time = start;
	return 0;
}

int process_start_time(pid_t pid, uint64_t *start_time)
{
	pid_t parent;

	return read_stat(pid, &parent, start_time);
}

int process_save(int dir, const struct process *p, struct err *err)
{
	char text[160];
	int len = snprintf(text, sizeof(text), "%ld %" PRIu64 " %s %u %d\n", (long)p->pid,
	    p->start_time, p->instance, p->isolation, p->refused);
	int fd = beneath_open(
	    dir, PID_FILE ".new", O_WRONLY | O_CREAT | O_TRUNC, 0600, BENEATH_NO_LINKS, err);

	if (fd < 0)
		return -1;
	bool written = write(fd, text, (size_t)len) == len;
	int saved = errno;
	close(fd);
	if (!written)
		return err_sys(err, saved, "write " PID_FILE);
	if (renameat(dir, PID_FILE ".new", dir, PID_FILE) != 0)
		return err_sys(err, errno, "rename " PID_FILE);
	return 0;
}

int process_load(int dir, struct process *p, struct err *err)
{
	int fd = beneath_open(dir, PID_FILE, O_RDONLY, 0, BENEATH_NO_LINKS, err);
	char text[160];

	if (fd < 0)
		return -1;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';

	long pid;
	memset(p, 0, sizeof(*p));
	if (sscanf(text, "%ld %" SCNu64 " %63s %u %d", &pid, &p->start_time, p->instance,
		&p->isolation, &p->refused) != 5 ||
	    pid <= 1)
		return err_set(err, GRPC_INTERNAL, PID_FILE " is damaged; delete the sandbox");
	p->pid = (pid_t)pid;
	return 0;
}

/* A process that nobody has waited for keeps its number, and is not there any more. */
static bool has_ended(int pidfd)
{
	struct pollfd ended = { .fd = pidfd, .events = POLLIN };

	return poll(&ended, 1, 0) == 1;
}

int process_open(const struct process *p)
{
	uint64_t start_time;
	int fd = pidfd_open(p->pid, 0);

	if (fd < 0)
		return -1;
	/* Checked after the descriptor is held: it stands for this process from now on. */
	if (process_start_time(p->pid, &start_time) != 0 || start_time != p->start_time ||
	    has_ended(fd)) {
		close(fd);
		return -1;
	}
	return fd;
}

static bool environment_names(pid_t pid, const char *sandbox_id)
{
	char path[64], text[16384], want[128];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%ld/environ", (long)pid);
	/* With the NULs on both sides: an entry, not a part of one. */
	int len = snprintf(want, sizeof(want), "%cOPENSHELL_SANDBOX_ID=%s", '\0', sandbox_id);
	text[0] = '\0';
	if ((n = read_small(path, text + 1, sizeof(text) - 1)) <= 0)
		return false;
	return memmem(text, (size_t)n + 1, want, (size_t)len + 1) != NULL;
}

struct member {
	pid_t pid, parent;
	bool in;
};

/* All processes of the machine, with those in the sandbox by environment marked. */
static size_t list_processes(struct member *list, const char *sandbox_id)
{
	DIR *proc = opendir("/proc");
	size_t count = 0;

	if (proc == NULL)
		return 0;
	for (struct dirent *e; count < MEMBERS_MAX && (e = readdir(proc)) != NULL;) {
		uint64_t start_time;
		pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
		struct member *m = &list[count];

		if (pid <= 1 || read_stat(pid, &m->parent, &start_time) != 0)
			continue;
		m->pid = pid;
		m->in = environment_names(pid, sandbox_id);
		count++;
	}
	closedir(proc);
	return count;
}

/* Marks children of marked ones until a pass finds no more. */
static void mark_descendants(struct member *list, size_t count, pid_t root)
{
	for (bool more = true; more;) {
		more = false;
		for (size_t i = 0; i < count; i++) {
			if (list[i].in)
				continue;
			bool child = root > 0 && list[i].parent == root;
			for (size_t j = 0; !child && j < count; j++)
				child = list[j].in && list[j].pid == list[i].parent;
			list[i].in = child;
			more = more || child;
		}
	}
}

size_t process_signal_members(pid_t pid, const char *sandbox_id, int sig)
{
	struct member *list = calloc(MEMBERS_MAX, sizeof(*list));
	size_t members = 0;

	if (list == NULL)
		return 0;
	size_t count = list_processes(list, sandbox_id);
	mark_descendants(list, count, pid);
	for (size_t i = 0; i < count; i++) {
		if (!list[i].in || list[i].pid == pid || list[i].pid == getpid())
			continue;
		if (kill(list[i].pid, sig) == 0)
			members++;
	}
	free(list);
	return members;
}

int process_end_members(const char *sandbox_id, unsigned ms, struct err *err)
{
	const struct timespec pause = { .tv_nsec = MEMBERS_PAUSE_MS * 1000000L };

	/* What has died has no environment any more, so the count comes down to 0. What is
	 * within exec has none either for a moment, hence more than one pass. */
	for (unsigned waited = 0, quiet = 0;; waited += MEMBERS_PAUSE_MS) {
		quiet = process_signal_members(0, sandbox_id, SIGKILL) == 0 ? quiet + 1 : 0;
		if (quiet == MEMBERS_QUIET_PASSES)
			return 0;
		if (waited >= ms)
			return err_set(err, GRPC_DEADLINE_EXCEEDED,
			    "the sandbox's processes do not end, not even by SIGKILL");
		nanosleep(&pause, NULL);
	}
}
