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
#define MEMBERS_ROOM         64 /* for processes at first; it doubles */
#define MEMBERS_PAUSE_MS     10 /* from one pass to the next */
#define MEMBERS_QUIET_PASSES 3  /* in a row, until nobody is taken to be left */

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

/* Processes, by their number: as /proc lists them. */
struct members {
	struct member *list;
	size_t count, room;
};

static struct member *add_member(struct members *all)
{
	size_t room = all->room > 0 ? 2 * all->room : MEMBERS_ROOM;

	if (all->count == all->room) {
		struct member *list = realloc(all->list, room * sizeof(*list));

		if (list == NULL)
			return NULL;
		all->list = list;
		all->room = room;
	}
	return &all->list[all->count++];
}

/* All processes of the machine, with those in the sandbox by environment marked. */
static int list_processes(struct members *all, const char *sandbox_id)
{
	DIR *proc = opendir("/proc");
	int result = proc != NULL ? 0 : -1;

	for (struct dirent *e; result == 0 && (e = readdir(proc)) != NULL;) {
		struct member m = { .pid = (pid_t)strtol(e->d_name, NULL, 10) };
		uint64_t start_time;

		if (m.pid <= 1 || read_stat(m.pid, &m.parent, &start_time) != 0)
			continue;
		struct member *added = add_member(all);
		m.in = environment_names(m.pid, sandbox_id);
		if (added != NULL)
			*added = m;
		else
			result = -1;
	}
	if (proc != NULL)
		closedir(proc);
	return result;
}

static int compare_members(const void *a, const void *b)
{
	pid_t x = ((const struct member *)a)->pid, y = ((const struct member *)b)->pid;

	return (x > y) - (x < y);
}

static bool is_in(const struct members *all, pid_t pid)
{
	const struct member key = { .pid = pid };
	const struct member *found =
	    bsearch(&key, all->list, all->count, sizeof(key), compare_members);

	return found != NULL && found->in;
}

/* Marks children of marked ones until a pass finds no more. */
static void mark_descendants(struct members *all, pid_t root)
{
	for (bool more = all->count > 0; more;) {
		more = false;
		for (size_t i = 0; i < all->count; i++) {
			struct member *m = &all->list[i];

			if (m->in)
				continue;
			m->in = (root > 0 && m->parent == root) || is_in(all, m->parent);
			more = more || m->in;
		}
	}
}

int process_signal_members(pid_t pid, const char *sandbox_id, int sig, size_t *count)
{
	struct members all = { 0 };
	int result = list_processes(&all, sandbox_id);

	*count = 0;
	mark_descendants(&all, pid);
	for (size_t i = 0; i < all.count; i++) {
		const struct member *m = &all.list[i];

		if (m->in && m->pid != pid && m->pid != getpid() && kill(m->pid, sig) == 0)
			++*count;
	}
	free(all.list);
	return result;
}

int process_end_members(const char *sandbox_id, unsigned ms, struct err *err)
{
	const struct timespec pause = { .tv_nsec = MEMBERS_PAUSE_MS * 1000000L };

	/* What has died has no environment any more, so the count comes down to 0. What is
	 * within exec has none either for a moment, hence more than one pass. */
	for (unsigned waited = 0, quiet = 0;; waited += MEMBERS_PAUSE_MS) {
		size_t count;
		bool seen = process_signal_members(0, sandbox_id, SIGKILL, &count) == 0;

		quiet = seen && count == 0 ? quiet + 1 : 0;
		if (quiet == MEMBERS_QUIET_PASSES)
			return 0;
		if (waited >= ms)
			return err_set(err, GRPC_DEADLINE_EXCEEDED,
			    seen ? "the sandbox's processes do not end, not even by SIGKILL"
				 : "whether the sandbox's processes have ended cannot be seen");
		nanosleep(&pause, NULL);
	}
}
