#include "supervisor/reaper.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/map.h"

struct child {
	struct reaper *reaper;
	pid_t pid;
	void (*ended)(void *cookie, int status);
	void *cookie;
};

struct reaper {
	struct signal_watch *signal;
	struct map *children; /* by number, as text */
};

static void key_of(pid_t pid, char key[static 16])
{
	snprintf(key, 16, "%ld", (long)pid);
}

static void collect(void *cookie)
{
	struct reaper *r = cookie;
	int status;

	for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
		char key[16];
		key_of(pid, key);
		struct child *c = map_remove(r->children, key);
		if (c == NULL)
			continue; /* an orphan of the sandbox */
		void (*ended)(void *, int) = c->ended;
		void *owner = c->cookie;
		free(c);
		if (ended != NULL)
			ended(owner, status);
	}
}

struct reaper *reaper_create(struct loop *loop, struct err *err)
{
	struct reaper *r = calloc(1, sizeof(*r));

	if (r == NULL || (r->children = map_create()) == NULL) {
		free(r);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	r->signal = signal_watch_create(loop, SIGCHLD, collect, r, err);
	if (r->signal == NULL) {
		map_free(r->children);
		free(r);
		return NULL;
	}
	return r;
}

static bool free_forgotten(void *cookie, const char *key, void *value)
{
	struct child *c = value;

	(void)key;
	assert(c->ended == NULL);
	map_remove(((struct reaper *)cookie)->children, key);
	free(c);
	return true;
}

void reaper_free(struct reaper *r)
{
	if (r == NULL)
		return;
	collect(r);
	map_each(r->children, free_forgotten, r);
	signal_watch_free(r->signal);
	map_free(r->children);
	free(r);
}

struct child *reaper_add(
    struct reaper *r, pid_t pid, void (*ended)(void *cookie, int status), void *cookie)
{
	struct child *c = malloc(sizeof(*c));
	char key[16];

	if (c == NULL)
		return NULL;
	*c = (struct child){ .reaper = r, .pid = pid, .ended = ended, .cookie = cookie };
	key_of(pid, key);
	if (map_put(r->children, key, c) != 0) {
		free(c);
		return NULL;
	}
	return c;
}

pid_t child_pid(const struct child *c)
{
	return c->pid;
}

void child_forget(struct child *c)
{
	if (c != NULL)
		c->ended = NULL;
}

/* Children of this process, one line of /proc/self/task/TID/children at a time. */
static size_t kill_children(void)
{
	char path[64], text[4096];
	size_t count = 0;

	/* Of process 1 everybody is a descendant, and it needs no /proc to find them. */
	if (getpid() == 1)
		return kill(-1, SIGKILL) == 0;
	snprintf(path, sizeof(path), "/proc/self/task/%ld/children", (long)getpid());
	FILE *f = fopen(path, "re");
	if (f == NULL)
		return 0;
	size_t n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	/* Each number has a space behind it; one that is cut off is somebody else's. */
	char *last = strrchr(text, ' ');
	if (last == NULL)
		return 0;
	*last = '\0';
	for (char *at = text, *end; *at != '\0'; at = end) {
		long pid = strtol(at, &end, 10);
		if (end == at)
			break;
		if (pid > 1 && kill((pid_t)pid, SIGKILL) == 0)
			count++;
	}
	return count;
}

void reaper_kill_all(unsigned ms)
{
	const struct timespec pause = { .tv_nsec = 2000000 };
	const uint64_t until = loop_now_us() + (uint64_t)ms * 1000;

	/* What dies leaves its children to us, so this comes to an end. */
	while (loop_now_us() < until) {
		size_t left = kill_children();
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (left == 0 && waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD)
			return;
		nanosleep(&pause, NULL);
	}
}
