#include "drivers/local/local.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/log.h"
#include "base/map.h"
#include "drivers/local/isolation.h"
#include "drivers/local/launch.h"
#include "drivers/local/process.h"

static const struct log_area area = { "driver.local" };

struct local {
	struct driver_env env;
	int root;              /* state_dir */
	struct map *places;    /* id -> struct place */
	struct driver_op *ops; /* those whose jobs are with the workers, or that wait */
};

/* A sandbox whose process is known, and watched while it runs. */
struct place {
	struct local *local;
	char id[64];
	enum driver_state state;
	struct process process;
	int exit_code;
	int pidfd; /* -1 unless running */
	struct watch *watch;
	struct driver_op *busy; /* one operation at a time */
};

enum op_kind { OP_LAUNCH, OP_STOP, OP_DESTROY, OP_INSPECT };
/* A stop goes through these; destroy and failed launches as well. */
enum op_phase { OP_WORKING, OP_TERMINATING, OP_KILLING, OP_CLEANING };

struct driver_op {
	struct job job; /* first: with the workers while ${in_job} */
	struct driver_op *next, **prev;
	struct local *local;
	struct place *place;
	enum op_kind kind;
	enum op_phase phase;
	driver_done *done; /* NULL: cancelled */
	void *cookie;
	struct launch *launch; /* OP_LAUNCH */
	struct timer *timer;
	struct post post;
	int pidfd; /* found or made by the job */
	struct process process;
	struct err err;
};

static void place_ended(struct place *);
static void stop_next(struct driver_op *);

/* Places. */

static void place_status(const struct place *p, struct driver_status *status)
{
	memset(status, 0, sizeof(*status));
	status->state = p->state;
	status->exit_code = p->exit_code;
	snprintf(status->instance_id, sizeof(status->instance_id), "%s", p->process.instance);
	if (p->state == DRIVER_STATE_RUNNING)
		isolation_conditions(p->process.isolation, p->process.refused, status);
}

static struct place *place_make(struct local *l, const char *id)
{
	struct place *p = map_get(l->places, id);

	if (p != NULL)
		return p;
	if ((p = calloc(1, sizeof(*p))) == NULL)
		return NULL;
	p->local = l;
	p->pidfd = -1;
	p->state = DRIVER_STATE_STOPPED;
	snprintf(p->id, sizeof(p->id), "%s", id);
	if (map_put(l->places, p->id, p) != 0) {
		free(p);
		return NULL;
	}
	return p;
}

static void place_unwatch(struct place *p)
{
	watch_free(p->watch);
	p->watch = NULL;
	if (p->pidfd >= 0)
		close(p->pidfd);
	p->pidfd = -1;
}

static void place_free(struct place *p)
{
	place_unwatch(p);
	map_remove(p->local->places, p->id);
	free(p);
}

static void on_pidfd(void *cookie, unsigned events)
{
	(void)events;
	place_ended(cookie);
}

/* Takes ${pidfd}. */
static int place_watch(struct place *p, int pidfd, const struct process *process, struct err *err)
{
	p->pidfd = pidfd;
	p->process = *process;
	p->exit_code = 0;
	p->watch = watch_create(p->local->env.loop, pidfd, on_pidfd, p, err);
	if (p->watch == NULL) {
		place_unwatch(p);
		return -1;
	}
	watch_want(p->watch, WATCH_READ);
	p->state = DRIVER_STATE_RUNNING;
	return 0;
}

/* Operations. */

static void op_free(struct driver_op *op)
{
	*op->prev = op->next;
	if (op->next != NULL)
		op->next->prev = op->prev;
	if (op->post.pending)
		loop_unpost(op->local->env.loop, &op->post);
	op->place->busy = NULL;
	timer_free(op->timer);
	launch_free(op->launch);
	if (op->pidfd >= 0)
		close(op->pidfd);
	free(op);
}

/* Ends the operation with the place's status now, or with its error. */
static void op_done(struct post *post)
{
	struct driver_op *op =
	    (struct driver_op *)((char *)post - offsetof(struct driver_op, post));
	driver_done *done = op->done;
	void *cookie = op->cookie;
	struct err err = op->err;
	struct place *p = op->place;
	struct driver_status status;

	place_status(p, &status);
	op_free(op);
	if (status.state == DRIVER_STATE_ABSENT)
		place_free(p);
	if (done != NULL)
		done(cookie, err.code == GRPC_OK ? &status : NULL,
		    err.code == GRPC_OK ? NULL : &err);
}

static void op_finish(struct driver_op *op)
{
	op->post.run = op_done;
	loop_post(op->local->env.loop, &op->post);
}

/* An id becomes the name of a directory: it must be one, and fit. */
static int check_id(const char *id, struct err *err)
{
	if (id[0] == '\0' || id[0] == '.' || strchr(id, '/') != NULL ||
	    strlen(id) >= sizeof(((struct place *)0)->id))
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "\"%.64s\" is no id of a sandbox; a UUID is", id);
	return 0;
}

static struct driver_op *op_create(struct local *l, enum op_kind kind, const char *id,
    driver_done *done, void *cookie, struct err *err)
{
	struct place *p;
	struct driver_op *op;

	if (check_id(id, err) != 0)
		return NULL;
	p = place_make(l, id);
	if (p != NULL && p->busy != NULL) {
		err_set(
		    err, GRPC_ABORTED, "another operation on this sandbox is under way; try again");
		return NULL;
	}
	if (p == NULL || (op = calloc(1, sizeof(*op))) == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	op->local = l;
	op->kind = kind;
	op->place = p;
	op->pidfd = -1;
	op->done = done;
	op->cookie = cookie;
	op->next = l->ops;
	op->prev = &l->ops;
	if (op->next != NULL)
		op->next->prev = &op->next;
	l->ops = op;
	p->busy = op;
	return op;
}

static struct driver_op *op_submit(
    struct driver_op *op, void (*run)(struct job *), void (*after)(struct job *), struct err *err)
{
	op->job.run = run;
	op->job.done = after;
	if (workers_submit(op->local->env.workers, op->local->env.loop, &op->job) != 0) {
		op_free(op);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "too many operations are waiting; try again");
		return NULL;
	}
	return op;
}

/* What supervisor.pid says, and a pidfd of it if that still runs. NOT_FOUND: there is no
 * such sandbox. On a worker. */
static int op_look(struct driver_op *op, struct err *err)
{
	int dir = beneath_open(
	    op->local->root, op->place->id, O_RDONLY | O_DIRECTORY, 0, BENEATH_NO_LINKS, err);
	struct err none;

	if (dir < 0)
		return -1;
	if (process_load(dir, &op->process, &none) == 0)
		op->pidfd = process_open(&op->process);
	close(dir);
	return 0;
}

/* Create and start: launch on a worker, watch on the loop. */

static void launch_run(struct job *job)
{
	struct driver_op *op = (struct driver_op *)job;
	struct err none;

	/* A driver before us may have started it: never a second one beside it. */
	if (op_look(op, &none) == 0 && op->pidfd >= 0)
		return;
	op->pidfd = launch_supervisor(op->launch, &op->process, &op->err);
}

static void launch_after(struct job *job)
{
	struct driver_op *op = (struct driver_op *)job;
	int pidfd = op->pidfd;

	op->pidfd = -1;
	if (pidfd >= 0)
		place_watch(op->place, pidfd, &op->process, &op->err);
	else
		op->place->state = DRIVER_STATE_FAILED;
	op_finish(op);
}

static struct driver_op *local_launch(
    void *self, const struct sandbox_spec *spec, driver_done *done, void *cookie, struct err *err)
{
	struct local *l = self;
	struct driver_op *op = op_create(l, OP_LAUNCH, spec->id, done, cookie, err);

	if (op == NULL)
		return NULL;
	if (op->place->state == DRIVER_STATE_RUNNING) {
		op_finish(op);
		return op;
	}
	if ((op->launch = launch_create(&l->env, l->root, spec, err)) == NULL) {
		op_free(op);
		return NULL;
	}
	return op_submit(op, launch_run, launch_after, err);
}

/* Inspect: look, and watch what runs. */

static void look_run(struct job *job)
{
	struct driver_op *op = (struct driver_op *)job;

	op_look(op, &op->err);
}

/* What was found becomes the place's state. */
static void op_found(struct driver_op *op)
{
	int pidfd = op->pidfd;

	op->pidfd = -1;
	if (op->err.code == GRPC_NOT_FOUND) {
		op->place->state = DRIVER_STATE_ABSENT;
		err_clear(&op->err);
	} else if (op->err.code == GRPC_OK && pidfd >= 0) {
		place_watch(op->place, pidfd, &op->process, &op->err);
	}
}

static void inspect_after(struct job *job)
{
	struct driver_op *op = (struct driver_op *)job;

	op_found(op);
	op_finish(op);
}

static struct driver_op *local_inspect(
    void *self, const char *id, driver_done *done, void *cookie, struct err *err)
{
	struct driver_op *op = op_create(self, OP_INSPECT, id, done, cookie, err);

	if (op == NULL)
		return NULL;
	if (op->place->pidfd >= 0) {
		op_finish(op);
		return op;
	}
	return op_submit(op, look_run, inspect_after, err);
}

/* Stop and destroy: look if nobody has yet; SIGTERM, a while, SIGKILL, a while; then what
 * no namespace has ended; then, to destroy, the files. */

static void clean_run(struct job *job)
{
	struct driver_op *op = (struct driver_op *)job;
	const char *id = op->place->id;

	if (!(op->process.isolation & ISOLATION_PID) &&
	    process_end_members(id, LOCAL_KILL_MS, &op->err) != 0)
		return;
	if (op->kind == OP_DESTROY)
		beneath_remove_tree(op->local->root, id, &op->err);
}

static void clean_after(struct job *job)
{
	struct driver_op *op = (struct driver_op *)job;

	if (op->err.code == GRPC_OK && op->kind == OP_DESTROY)
		op->place->state = DRIVER_STATE_ABSENT;
	op_finish(op);
}

/* The process is gone: what is left to do? */
static void stop_ended(struct driver_op *op)
{
	op->place->state = DRIVER_STATE_STOPPED;
	op->phase = OP_CLEANING;
	op->job.run = clean_run;
	op->job.done = clean_after;
	if (workers_submit(op->local->env.workers, op->local->env.loop, &op->job) != 0) {
		err_set(&op->err, GRPC_RESOURCE_EXHAUSTED,
		    "too many operations are waiting; try again");
		op_finish(op);
	}
}

static void place_ended(struct place *p)
{
	siginfo_t info = { 0 };
	struct driver_op *op = p->busy;
	size_t count;

	/* Ours to reap only if it was started by this process. */
	p->exit_code = -1;
	if (waitid(P_PIDFD, (id_t)p->pidfd, &info, WEXITED | WNOHANG) == 0 && info.si_pid != 0)
		p->exit_code = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
	place_unwatch(p);
	log_info(&area, "supervisor_exit", LOG_STR("sandbox", p->id),
	    LOG_I64("exit_code", p->exit_code));
	if (op != NULL && (op->phase == OP_TERMINATING || op->phase == OP_KILLING)) {
		timer_stop(op->timer);
		op->process = p->process;
		stop_ended(op);
		return;
	}
	if (!(p->process.isolation & ISOLATION_PID))
		process_signal_members(0, p->id, SIGKILL, &count);
	p->state = DRIVER_STATE_FAILED;
	struct driver_status status;
	place_status(p, &status);
	if (p->local->env.changed != NULL)
		p->local->env.changed(p->local->env.cookie, p->id, &status);
}

static void stop_signal(struct place *p, int sig)
{
	size_t count;

	if (!(p->process.isolation & ISOLATION_PID))
		process_signal_members(p->process.pid, p->id, sig, &count);
	pidfd_send_signal(p->pidfd, sig, NULL, 0);
}

static void stop_fire(void *cookie)
{
	stop_next(cookie);
}

static void stop_next(struct driver_op *op)
{
	switch (op->phase) {
	case OP_WORKING:
		op->phase = OP_TERMINATING;
		pidfd_send_signal(op->place->pidfd, SIGTERM, NULL, 0);
		timer_start(op->timer, LOCAL_STOP_MS);
		break;
	case OP_TERMINATING:
		op->phase = OP_KILLING;
		stop_signal(op->place, SIGKILL);
		timer_start(op->timer, LOCAL_KILL_MS);
		break;
	default:
		err_set(&op->err, GRPC_DEADLINE_EXCEEDED,
		    "the sandbox's processes do not end, not even by SIGKILL");
		op_finish(op);
		break;
	}
}

/* Now it is known whether something runs. */
static void end_after(struct job *job)
{
	struct driver_op *op = (struct driver_op *)job;

	op_found(op);
	if (op->err.code != GRPC_OK ||
	    (op->kind == OP_STOP && op->place->state == DRIVER_STATE_ABSENT))
		op_finish(op);
	else if (op->place->pidfd >= 0)
		stop_next(op);
	else
		stop_ended(op);
}

static struct driver_op *local_end(struct local *l, enum op_kind kind, const char *id,
    driver_done *done, void *cookie, struct err *err)
{
	struct driver_op *op = op_create(l, kind, id, done, cookie, err);

	if (op == NULL)
		return NULL;
	if ((op->timer = timer_create_on(l->env.loop, stop_fire, op)) == NULL) {
		op_free(op);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	if (op->place->pidfd < 0)
		return op_submit(op, look_run, end_after, err);
	stop_next(op);
	return op;
}

static struct driver_op *local_stop(
    void *self, const char *id, driver_done *done, void *cookie, struct err *err)
{
	return local_end(self, OP_STOP, id, done, cookie, err);
}

static struct driver_op *local_destroy(
    void *self, const char *id, driver_done *done, void *cookie, struct err *err)
{
	return local_end(self, OP_DESTROY, id, done, cookie, err);
}

static void local_cancel(void *self, struct driver_op *op)
{
	(void)self;
	op->done = NULL;
}

/* The driver. */

static int local_open(void **self, const struct driver_env *env, struct err *err)
{
	struct local *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	l->env = *env;
	if (mkdir(env->state_dir, 0700) != 0 && errno != EEXIST) {
		free(l);
		return err_sys(err, errno, "the local driver's directory %s", env->state_dir);
	}
	l->root = open(env->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (l->root < 0) {
		int saved = errno;
		free(l);
		return err_sys(err, saved, "the local driver's directory %s", env->state_dir);
	}
	if ((l->places = map_create()) == NULL) {
		close(l->root);
		free(l);
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	}
	*self = l;
	return 0;
}

static bool close_place(void *cookie, const char *id, void *value)
{
	(void)cookie;
	(void)id;
	place_free(value);
	return true;
}

static void local_close(void *self)
{
	struct local *l = self;

	for (struct driver_op *op = l->ops, *next; op != NULL; op = next) {
		next = op->next;
		op_free(op);
	}
	map_each(l->places, close_place, NULL);
	map_free(l->places);
	close(l->root);
	free(l);
}

static int local_list(
    void *self, void (*each)(void *cookie, const char *id), void *cookie, struct err *err)
{
	struct local *l = self;
	int fd = openat(l->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

	if (dir == NULL) {
		err_sys(err, errno, "read %s", l->env.state_dir);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	for (struct dirent *e; (e = readdir(dir)) != NULL;)
		if (e->d_name[0] != '.')
			each(cookie, e->d_name);
	closedir(dir);
	return 0;
}

const struct driver_ops driver_local = {
	.name = "local",
	.open = local_open,
	.close = local_close,
	.create = local_launch,
	.stop = local_stop,
	.start = local_launch,
	.destroy = local_destroy,
	.inspect = local_inspect,
	.list = local_list,
	.cancel = local_cancel,
};
