#include "drivers/local/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/random.h"
#include "drivers/local/local.h"
#include "drivers/local/spawn.h"

#define ARGV_MAX 12

struct launch {
	int root;
	char *id;
	char *supervisor;
	char *work_dir;
	char *private_dir; /* NULL: nothing can be hidden */
	char *token;
	char *argv[ARGV_MAX + 1];
	char *envp[LAUNCH_ENVIRONMENT_MAX + 8];
	size_t argc, envc;
	bool failed; /* an allocation did */
};

static char *format(struct launch *l, const char *fmt, const char *a, const char *b)
{
	char *text;

	/* NOLINTNEXTLINE(clang-diagnostic-format-nonliteral): every caller passes a literal */
	if (asprintf(&text, fmt, a, b) < 0) {
		l->failed = true;
		return NULL;
	}
	return text;
}

static void add_argument(struct launch *l, const char *text)
{
	l->argv[l->argc] = format(l, "%s%s", text, "");
	if (l->argv[l->argc] != NULL)
		l->argc++;
}

static void add_variable(struct launch *l, const char *key, const char *value)
{
	l->envp[l->envc] = format(l, "%s=%s", key, value);
	if (l->envp[l->envc] != NULL)
		l->envc++;
}

/* The sandbox's own environment; nothing of the gateway's is passed on. What is not in
 * here (PATH, say) is for the supervisor and the login shell to choose. */
static void fill_environment(struct launch *l, const struct sandbox_spec *spec)
{
	add_variable(l, "HOME", l->work_dir);
	add_variable(l, "LANG", "C.UTF-8");
	add_variable(l, "OPENSHELL_SANDBOX", spec->name);
	add_variable(l, "OPENSHELL_SANDBOX_ID", spec->id);
	for (size_t i = 0; i < spec->environment_count; i++)
		add_variable(l, spec->environment[i].key, spec->environment[i].value);
}

static void fill_arguments(
    struct launch *l, const struct driver_env *env, const struct sandbox_spec *spec)
{
	const char *level = spec->log_level[0] != '\0' ? spec->log_level : env->log_level;

	add_argument(l, "towline-supervisor");
	add_argument(l, "--gateway");
	add_argument(l, env->gateway_url);
	add_argument(l, "--sandbox-id");
	add_argument(l, spec->id);
	add_argument(l, "--token-file");
	add_argument(l, "/dev/fd/3");
	add_argument(l, "--workdir");
	add_argument(l, l->work_dir != NULL ? l->work_dir : "");
	if (level != NULL && level[0] != '\0') {
		add_argument(l, "--log-level");
		add_argument(l, level);
	}
}

/* The private directory, unless the supervisor must reach a socket in it. */
static const char *hidden_dir(const struct driver_env *env)
{
	const char *dir = env->private_dir != NULL ? env->private_dir : env->state_dir;

	if (strncmp(env->gateway_url, "unix:", 5) == 0 && strstr(env->gateway_url, dir) != NULL)
		return NULL;
	return strncmp(env->state_dir, dir, strlen(dir)) == 0 ? dir : NULL;
}

struct launch *launch_create(
    const struct driver_env *env, int root, const struct sandbox_spec *spec, struct err *err)
{
	struct launch *l;
	const char *hidden = hidden_dir(env);

	if (spec->environment_count > LAUNCH_ENVIRONMENT_MAX) {
		err_set(err, GRPC_INVALID_ARGUMENT, "more than %d environment variables",
		    LAUNCH_ENVIRONMENT_MAX);
		return NULL;
	}
	if ((l = calloc(1, sizeof(*l))) == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	l->root = root;
	l->id = format(l, "%s%s", spec->id, "");
	l->supervisor = format(l, "%s%s", env->supervisor_path, "");
	l->token = format(l, "%s%s", spec->token, "");
	if (hidden != NULL)
		l->private_dir = format(l, "%s%s", hidden, "");
	char *dir = format(l, "%s/%s", env->state_dir, spec->id);
	l->work_dir = format(l, "%s%s", dir != NULL ? dir : "", "/work");
	free(dir);
	fill_environment(l, spec);
	fill_arguments(l, env, spec);
	if (l->failed) {
		launch_free(l);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	return l;
}

void launch_free(struct launch *l)
{
	if (l == NULL)
		return;
	if (l->token != NULL)
		explicit_bzero(l->token, strlen(l->token));
	for (size_t i = 0; i < l->argc; i++)
		free(l->argv[i]);
	for (size_t i = 0; i < l->envc; i++)
		free(l->envp[i]);
	free(l->token);
	free(l->private_dir);
	free(l->work_dir);
	free(l->supervisor);
	free(l->id);
	free(l);
}

/* A file without a name: nobody else can open it, and nothing stays behind. */
static int token_file(const struct launch *l, struct err *err)
{
	int fd = memfd_create("sandbox-token", MFD_CLOEXEC);
	ssize_t len = (ssize_t)strlen(l->token);

	if (fd < 0)
		return err_sys(err, errno, "make the token's file");
	if (fchmod(fd, 0600) != 0 || write(fd, l->token, (size_t)len) != len ||
	    lseek(fd, 0, SEEK_SET) != 0) {
		err_sys(err, errno, "write the token's file");
		close(fd);
		return -1;
	}
	return fd;
}

/* Where the supervisor writes: appended to until too long, then begun anew. */
static int log_file(int dir, struct err *err)
{
	struct stat st;
	int fd = beneath_open(
	    dir, "supervisor.log", O_WRONLY | O_CREAT | O_APPEND, 0600, BENEATH_NO_LINKS, err);

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > LOCAL_LOG_MAX && ftruncate(fd, 0) != 0) {
		err_sys(err, errno, "shorten supervisor.log");
		close(fd);
		return -1;
	}
	return fd;
}

/* The sandbox's directory, made if it is missing. */
static int open_directory(const struct launch *l, struct err *err)
{
	if (mkdirat(l->root, l->id, 0700) != 0 && errno != EEXIST)
		return err_sys(err, errno, "make the sandbox's directory");
	int dir = beneath_open(l->root, l->id, O_RDONLY | O_DIRECTORY, 0, BENEATH_NO_LINKS, err);
	if (dir >= 0 && mkdirat(dir, "work", 0755) != 0 && errno != EEXIST) {
		err_sys(err, errno, "make the sandbox's working directory");
		close(dir);
		return -1;
	}
	return dir;
}

int launch_supervisor(struct launch *l, struct process *p, struct err *err)
{
	struct spawn_options o = {
		.supervisor = l->supervisor,
		.work_dir = l->work_dir,
		.private_dir = l->private_dir,
		.log_fd = -1,
		.token_fd = -1,
		.timeout_ms = SPAWN_TIMEOUT_MS,
		.argv = l->argv,
		.envp = l->envp,
	};
	int dir = open_directory(l, err), pidfd = -1;

	if (dir < 0)
		return -1;
	o.dir = dir;
	random_uuid(p->instance);
	if ((o.log_fd = log_file(dir, err)) >= 0 && (o.token_fd = token_file(l, err)) >= 0)
		pidfd = spawn_supervisor(&o, p, err);
	if (o.token_fd >= 0)
		close(o.token_fd);
	if (o.log_fd >= 0)
		close(o.log_fd);
	close(dir);
	return pidfd;
}
