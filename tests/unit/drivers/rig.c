#include "rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "support/leak.h"

#define WAIT_MS 20000 /* for anything; a kill alone takes 5 s */

static void on_changed(void *cookie, const char *id, const struct driver_status *status)
{
	struct rig *r = cookie;

	assert_string_equal(id, r->id);
	r->changes++;
	r->change = *status;
	loop_stop(r->env.loop);
}

/* What comes behind all that the workers have posted. */
struct last_post {
	struct post post;
	struct loop *loop;
};

/* This program, which is its own stand-in. */
static const char *own_path(void)
{
	static char path[4096];
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);

	assert_true(len > 0);
	path[len] = '\0';
	return path;
}

void rig_open(struct rig *r)
{
	struct err err;
	struct workers_options w = { .threads = 2, .max_queued = 16 };

	if ((r->env.workers = workers_create(&w, &err)) == NULL ||
	    r->ops->open(&r->driver, &r->env, &err) != 0)
		fail_msg("%s", err.text);
}

static void stop_loop(struct post *post)
{
	loop_stop(((struct last_post *)post)->loop);
}

static void close_driver(struct rig *r)
{
	struct last_post last = { { .run = stop_loop }, r->env.loop };

	workers_free(r->env.workers);
	loop_post(r->env.loop, &last.post);
	loop_run(r->env.loop);
	r->ops->close(r->driver);
	r->driver = NULL;
}

/* The first loop of a program makes a pipe that is kept to its end. */
int rig_setup_group(void **state)
{
	struct err err;

	(void)state;
	loop_free(loop_create(0, &err));
	return 0;
}

int rig_setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct err err;
	int three;

	assert_non_null(r);
	r->leak = leak_begin();
	/* The next descriptor that the driver makes is 3, which is the token's in the child. */
	three = open("/dev/null", O_RDONLY | O_CLOEXEC);
	random_uuid(r->id);
	r->ops = driver_find("local");
	assert_non_null(r->ops);
	r->env.loop = loop_create(0, &err);
	assert_non_null(r->env.loop);
	r->env.state_dir = strdup(leak_path(r->leak, "local"));
	r->env.private_dir = leak_folder(r->leak);
	r->env.supervisor_path = own_path();
	r->env.gateway_url = "http://127.0.0.1:9"; /* nobody is there */
	r->env.log_level = "info";
	r->env.changed = on_changed;
	r->env.cookie = r;
	rig_open(r);
	close(three);
	*state = r;
	return 0;
}

void rig_reopen(struct rig *r)
{
	close_driver(r);
	rig_open(r);
}

static bool is_empty(const char *path)
{
	DIR *dir = opendir(path);
	bool empty = true;

	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir)) != NULL;) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		print_error("left in %s: %s\n", path, e->d_name);
		empty = false;
	}
	closedir(dir);
	return empty;
}

int rig_teardown(void **state)
{
	struct rig *r = *state;
	bool clean = is_empty(r->env.state_dir);
	unsigned processes = rig_processes(r);

	close_driver(r);
	loop_free(r->env.loop);
	if (processes > 0)
		print_error("%u processes are left\n", processes);
	rmdir(r->env.state_dir);
	free((char *)r->env.state_dir);
	int leaks = leak_end(r->leak);
	free(r);
	return clean && processes == 0 ? leaks : -1;
}

/* Waiting. */

static void too_late(void *cookie)
{
	(void)cookie;
	fail_msg("nothing has happened for %d ms", WAIT_MS);
}

void rig_wait(struct rig *r, const bool *flag)
{
	struct timer *limit = timer_create_on(r->env.loop, too_late, NULL);

	timer_start(limit, WAIT_MS);
	while (!*flag)
		loop_run(r->env.loop);
	timer_free(limit);
}

void rig_wait_changes(struct rig *r, unsigned n)
{
	struct timer *limit = timer_create_on(r->env.loop, too_late, NULL);

	timer_start(limit, WAIT_MS);
	while (r->changes < n)
		loop_run(r->env.loop);
	timer_free(limit);
}

void rig_done(void *cookie, const struct driver_status *status, const struct err *err)
{
	struct rig *r = cookie;

	assert_false(r->done);
	assert_true((status == NULL) != (err == NULL));
	r->done = true;
	if (status != NULL)
		r->status = *status;
	if (err != NULL)
		r->err = *err;
	loop_stop(r->env.loop);
}

static enum grpc_code finish(struct rig *r, struct driver_op *op)
{
	if (op != NULL)
		rig_wait(r, &r->done);
	return r->err.code;
}

static void begin(struct rig *r)
{
	r->done = false;
	memset(&r->status, 0, sizeof(r->status));
	memset(&r->err, 0, sizeof(r->err));
}

/* Operations. */

struct sandbox_spec rig_spec(struct rig *r, const char *role)
{
	static struct driver_pair pair = { "STAND_IN", NULL };

	pair.value = role;
	r->env.supervisor_path = role != NULL ? own_path() : TOWLINE_SUPERVISOR;
	return (struct sandbox_spec){
		.id = r->id,
		.name = "box",
		.workspace = "default",
		.image = "",
		.log_level = "",
		.environment = &pair,
		.environment_count = role != NULL,
		.token = RIG_TOKEN,
	};
}

/* The driver has copied its environment, so another program needs another driver. */
static struct sandbox_spec spec_for(struct rig *r, const char *role)
{
	const char *before = r->env.supervisor_path;
	struct sandbox_spec spec = rig_spec(r, role);

	if (strcmp(before, r->env.supervisor_path) != 0)
		rig_reopen(r);
	return spec;
}

enum grpc_code rig_create(struct rig *r, const char *role)
{
	struct sandbox_spec spec = spec_for(r, role);

	begin(r);
	return finish(r, r->ops->create(r->driver, &spec, rig_done, r, &r->err));
}

enum grpc_code rig_start(struct rig *r, const char *role)
{
	struct sandbox_spec spec = spec_for(r, role);

	begin(r);
	return finish(r, r->ops->start(r->driver, &spec, rig_done, r, &r->err));
}

enum grpc_code rig_stop(struct rig *r)
{
	begin(r);
	return finish(r, r->ops->stop(r->driver, r->id, rig_done, r, &r->err));
}

enum grpc_code rig_destroy(struct rig *r)
{
	begin(r);
	return finish(r, r->ops->destroy(r->driver, r->id, rig_done, r, &r->err));
}

enum grpc_code rig_inspect(struct rig *r)
{
	begin(r);
	return finish(r, r->ops->inspect(r->driver, r->id, rig_done, r, &r->err));
}

/* Looking. */

const char *rig_path(struct rig *r, const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "local/%s/%s", r->id, name);
	return leak_path(r->leak, path);
}

static ssize_t read_file(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t n = 0;

	if (fd < 0)
		return -1;
	for (ssize_t r; n < size - 1 && (r = read(fd, out + n, size - 1 - n)) > 0;)
		n += (size_t)r;
	close(fd);
	out[n] = '\0';
	return (ssize_t)n;
}

void rig_read(struct rig *r, const char *name, char *out, size_t size)
{
	const struct timespec pause = { .tv_nsec = 5000000 };
	char path[256];

	snprintf(path, sizeof(path), "work/%s", name);
	out[0] = '\0';
	for (unsigned waited = 0; read_file(rig_path(r, path), out, size) < 0; waited += 5) {
		if (waited > WAIT_MS) {
			read_file(rig_path(r, "supervisor.log"), out, size);
			fail_msg("%s does not come; the log: %s", name, out);
		}
		nanosleep(&pause, NULL);
	}
}

pid_t rig_pid(struct rig *r)
{
	char text[160];

	assert_true(read_file(rig_path(r, "supervisor.pid"), text, sizeof(text)) > 0);
	return (pid_t)strtol(text, NULL, 10);
}

static bool is_in(const struct rig *r, const char *pid)
{
	static char text[65536];
	const char *folder = leak_folder(r->leak);
	char path[64];

	snprintf(path, sizeof(path), "/proc/%.20s/environ", pid);
	ssize_t n = read_file(path, text, sizeof(text));
	if (n > 0 && memmem(text, (size_t)n, folder, strlen(folder)) != NULL)
		return true;
	snprintf(path, sizeof(path), "/proc/%.20s/cwd", pid);
	n = readlink(path, text, sizeof(text));
	return n > 0 && memmem(text, (size_t)n, folder, strlen(folder)) != NULL;
}

unsigned rig_processes(const struct rig *r)
{
	DIR *proc = opendir("/proc");
	unsigned count = 0;

	assert_non_null(proc);
	for (struct dirent *e; (e = readdir(proc)) != NULL;)
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && is_in(r, e->d_name))
			count++;
	closedir(proc);
	return count;
}
