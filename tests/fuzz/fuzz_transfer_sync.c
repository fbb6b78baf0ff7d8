/*
 * What one end of a sync is told by the other: records onto a target, or to a source, on the
 * first stream or on one that joins. The first byte says which, and the options. Whatever the
 * bytes, nothing may appear or change outside of the directory: what is beside it is looked at
 * after each run.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "scratch.h"
#include "transfer/sync/sync_peer.h"
#include "transfer/sync/sync_team.h"

#define OF_SOURCE  0x01
#define PRUNE      0x02
#define DRY_RUN    0x04
#define CHECKSUM   0x08
#define SAFE_LINKS 0x10
#define STREAM     0x20 /* one that has joined */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t left, step;
};

static ssize_t pull(void *cookie, const void **bytes, struct err *err)
{
	struct input *in = cookie;
	size_t n = in->left < in->step ? in->left : in->step;

	(void)err;
	*bytes = in->data;
	in->data += n;
	in->left -= n;
	return (ssize_t)n;
}

static int push(void *cookie, const void *bytes, size_t len, struct err *err)
{
	(void)cookie;
	(void)bytes;
	(void)len;
	(void)err;
	return 0;
}

static void stop(void *cookie, const struct err *why)
{
	(void)cookie;
	(void)why;
}

/* Nobody need wait for what does not come. */
static bool stopped(void *cookie)
{
	(void)cookie;
	return true;
}

/* "…/in" and "…/precious". */
static int outside(void)
{
	int fd = scratch_folder();

	if (mkdirat(fd, "precious", 0700) != 0 && errno != EEXIST)
		abort();
	return fd;
}

static void check_names(int folder, const char *name, size_t want)
{
	DIR *list = fdopendir(openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	size_t names = 0;

	if (list == NULL)
		abort();
	while (readdir(list) != NULL)
		names++;
	closedir(list);
	if (names != want)
		abort();
}

static void make_file(int root, const char *name, size_t size)
{
	int fd = openat(root, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, (off_t)size) != 0 || write(fd, name, strlen(name)) < 0)
		abort();
	close(fd);
}

static int make_tree(int folder)
{
	if (mkdirat(folder, "in", 0700) != 0 || mkdirat(folder, "in/d", 0700) != 0 ||
	    symlinkat("../precious", folder, "in/l") != 0)
		abort();
	make_file(folder, "in/f", 10);
	make_file(folder, "in/d/large", SYNC_SMALL + 10);
	return openat(folder, "in", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void failed(void *cookie, const char *path, const struct err *why)
{
	(void)cookie;
	(void)path;
	(void)why;
}

/* On a thread of its own, since it is confined from then on. */
struct joining {
	struct sync_team *team;
	const struct sync_link *link;
	bool source;
};

static void *join_team(void *arg)
{
	struct joining *j = arg;
	struct sync_counts counts;
	struct err err = { 0 };

	if (j->source)
		sync_source_stream(j->team, j->link, &counts, &err);
	else
		sync_target_stream(j->team, j->link, &counts, &err);
	return NULL;
}

static void give(struct sync_team *t, const char *path, uint64_t after)
{
	struct sync_job job = { .path = strdup(path), .after = after };

	if (job.path == NULL || sync_team_give(t, &job) != 0)
		abort();
}

/* A stream whose leader has two files to give, or has done all that it could wait for. */
static void run_stream(
    int root, const struct sync_options *o, const struct sync_link *link, bool source)
{
	struct err err = { 0 };
	struct sync_dirs *dirs = sync_dirs_create(&err);
	struct sync_joint *joint = sync_joint_create(SYNC_JOINT_WAIT_MS, &err);
	struct joining j = { .team = sync_team_create(&err), .link = link, .source = source };
	const struct sync_lead lead = {
		.root = root, .opt = o, .link = link, .dirs = dirs, .joint = joint, .failed = failed
	};
	struct sync_counts counts = { 0 };
	pthread_t thread;

	sync_team_lead(j.team, &lead);
	give(j.team, "f", 0);
	give(j.team, "d/large", 1);
	sync_team_advance(j.team, UINT64_MAX);
	if (pthread_create(&thread, NULL, join_team, &j) != 0)
		abort();
	if (source)
		sync_team_finish(j.team, &counts, &err);
	pthread_join(thread, NULL);
	sync_team_end(j.team);
	sync_dirs_settle(dirs, root);
	sync_team_release(j.team);
	sync_joint_free(joint);
	sync_dirs_free(dirs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int folder = outside();
	uint8_t how = size > 0 ? data[0] : 0;
	struct input in = {
		.data = data + (size > 0), .left = size - (size > 0), .step = how >= 128 ? 7 : 4096
	};
	struct sync_link link = {
		.pull = pull, .push = push, .stop = stop, .stopped = stopped, .cookie = &in
	};
	struct sync_options o = { .prune = how & PRUNE,
		.dry_run = how & DRY_RUN,
		.checksum = how & CHECKSUM,
		.safe_links = how & SAFE_LINKS };
	struct sync_counts counts;
	struct err err = { 0 };
	int root = make_tree(folder);

	if (how & STREAM)
		run_stream(root, &o, &link, how & OF_SOURCE);
	else if (how & OF_SOURCE)
		sync_source(root, &o, &link, &counts, &err);
	else
		sync_target(root, &o, &link, &counts, &err);
	close(root);
	check_names(folder, ".", 4);
	check_names(folder, "precious", 2);
	if (beneath_remove_tree(folder, "in", &err) != 0)
		abort();
	return 0;
}
