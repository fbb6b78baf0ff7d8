#include "supervisor/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pty.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "supervisor/modes.h"

/* The child's three descriptors, by number or (terminal) by name. */
struct child_ends {
	int in, out, err;
	char tty[64];
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int open_pipes(struct process *p, struct child_ends *c, struct err *err)
{
	int in[2] = { -1, -1 }, out[2] = { -1, -1 }, errs[2] = { -1, -1 };

	if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 ||
	    pipe2(errs, O_CLOEXEC) != 0) {
		int saved = errno;
		for (int i = 0; i < 2; i++) {
			close_fd(&in[i]);
			close_fd(&out[i]);
			close_fd(&errs[i]);
		}
		return err_sys(err, saved, "pipes for the command");
	}
	*p = (struct process){ .in = in[1], .out = out[0], .err = errs[0] };
	*c = (struct child_ends){ .in = in[0], .out = out[1], .err = errs[1] };
	return 0;
}

static unsigned short within(uint32_t n, uint32_t max, unsigned short none)
{
	return n == 0 ? none : (unsigned short)(n > max ? max : n);
}

void process_resize(int tty, struct process_size s)
{
	struct winsize size = {
		.ws_col = within(s.cols, PROCESS_SIZE_MAX, 80),
		.ws_row = within(s.rows, PROCESS_SIZE_MAX, 24),
		.ws_xpixel = within(s.width, USHRT_MAX, 0),
		.ws_ypixel = within(s.height, USHRT_MAX, 0),
	};

	ioctl(tty, TIOCSWINSZ, &size);
}

/* The master's settings are the terminal's. */
static int set_modes(int master, const struct process_options *o, struct err *err)
{
	struct termios t;

	if (o->modes_len == 0)
		return 0;
	if (tcgetattr(master, &t) != 0)
		return err_sys(err, errno, "the terminal's settings");
	if (modes_apply(o->modes, o->modes_len, &t, err) != 0)
		return -1;
	if (tcsetattr(master, TCSANOW, &t) != 0)
		return err_sys(err, errno, "the terminal's settings");
	return 0;
}

static int open_terminal(
    const struct process_options *o, struct process *p, struct child_ends *c, struct err *err)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (master < 0)
		return err_sys(err, errno, "a terminal for the command");
	if (unlockpt(master) != 0 || ptsname_r(master, c->tty, sizeof(c->tty)) != 0) {
		int saved = errno;
		close(master);
		return err_sys(err, saved, "a terminal for the command");
	}
	if (set_modes(master, o, err) != 0) {
		close(master);
		return -1;
	}
	process_resize(master, o->size);
	*p = (struct process){ .in = master, .out = master, .err = -1 };
	c->in = c->out = c->err = -1;
	return 0;
}

static const char *path_of(char *const *envp)
{
	for (; *envp != NULL; envp++)
		if (strncmp(*envp, "PATH=", 5) == 0)
			return *envp + 5;
	return PROCESS_PATH;
}

/* 0, or the errno that says why ${path} cannot be run. */
static int check_program(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return errno;
	if (!S_ISREG(st.st_mode))
		return EACCES;
	return access(path, X_OK) == 0 ? 0 : errno;
}

static const char *name_of(const struct process_options *o)
{
	return o->program != NULL ? o->program : o->argv[0];
}

/* As execvp(3) does, but along the sandbox's PATH, and from its working directory. */
static int find_program(const struct process_options *o, char out[static PATH_MAX])
{
	const char *name = name_of(o);
	int found = ENOENT;

	if (name[0] == '/') {
		snprintf(out, PATH_MAX, "%s", name);
		return check_program(out);
	}
	if (strchr(name, '/') != NULL) {
		if (snprintf(out, PATH_MAX, "%s/%s", o->workdir, name) >= PATH_MAX)
			return ENAMETOOLONG;
		return check_program(out);
	}
	for (const char *at = path_of(o->envp); *at != '\0';) {
		size_t len = strcspn(at, ":");
		int n = snprintf(out, PATH_MAX, "%.*s/%s", (int)len, len > 0 ? at : ".", name);
		int why = n >= PATH_MAX ? ENAMETOOLONG : check_program(out);
		if (why == 0)
			return 0;
		if (why == EACCES)
			found = EACCES;
		at += len + (at[len] == ':');
	}
	return found;
}

int process_find(const char *name, char *const *envp, const char *workdir)
{
	char *argv[] = { (char *)name, NULL };
	const struct process_options o = { .argv = argv, .envp = envp, .workdir = workdir };
	char path[PATH_MAX];

	return find_program(&o, path);
}

/* What happens between fork and exec, as posix_spawn(3) wants it told. */
static int describe_child(const struct process_options *o, const struct child_ends *c,
    posix_spawn_file_actions_t *files, posix_spawnattr_t *attr)
{
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	if ((r = posix_spawnattr_setflags(
		 attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK)) != 0 ||
	    (r = posix_spawnattr_setsigdefault(attr, &all)) != 0 ||
	    (r = posix_spawnattr_setsigmask(attr, &none)) != 0)
		return r;
	if (o->tty) {
		/* The first terminal a session leader opens becomes its controlling one. */
		if ((r = posix_spawn_file_actions_addopen(files, 0, c->tty, O_RDWR, 0)) != 0 ||
		    (r = posix_spawn_file_actions_adddup2(files, 0, 1)) != 0 ||
		    (r = posix_spawn_file_actions_adddup2(files, 0, 2)) != 0)
			return r;
	} else if ((r = posix_spawn_file_actions_adddup2(files, c->in, 0)) != 0 ||
	    (r = posix_spawn_file_actions_adddup2(files, c->out, 1)) != 0 ||
	    (r = posix_spawn_file_actions_adddup2(files, c->err, 2)) != 0) {
		return r;
	}
	if ((r = posix_spawn_file_actions_addchdir_np(files, o->workdir)) != 0)
		return r;
	return posix_spawn_file_actions_addclosefrom_np(files, 3);
}

static int spawn_with(const struct process_options *o, const char *path, const struct child_ends *c,
    char *const *envp, pid_t *pid)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	int r = posix_spawn_file_actions_init(&files);

	if (r != 0)
		return r;
	if ((r = posix_spawnattr_init(&attr)) == 0) {
		if ((r = describe_child(o, c, &files, &attr)) == 0)
			r = posix_spawn(pid, path, &files, &attr, o->argv, envp);
		posix_spawnattr_destroy(&attr);
	}
	posix_spawn_file_actions_destroy(&files);
	return r;
}

/* As spawn_with(), with the terminal's name in the environment if it is wanted there. */
static int spawn_program(
    const struct process_options *o, const char *path, const struct child_ends *c, pid_t *pid)
{
	size_t n = 0;
	char *named;

	if (!o->tty || o->tty_variable == NULL)
		return spawn_with(o, path, c, o->envp, pid);
	while (o->envp[n] != NULL)
		n++;
	char **envp = calloc(n + 2, sizeof(*envp));
	if (envp == NULL)
		return ENOMEM;
	if (asprintf(&named, "%s=%s", o->tty_variable, c->tty) < 0) {
		free(envp);
		return ENOMEM;
	}
	memcpy(envp, o->envp, n * sizeof(*envp));
	envp[n] = named;
	int r = spawn_with(o, path, c, envp, pid);
	free(named);
	free(envp);
	return r;
}

int process_start(
    const struct process_options *o, struct process *p, int *exit_code, struct err *err)
{
	char path[PATH_MAX];
	struct child_ends c = { .in = -1, .out = -1, .err = -1 };
	int why = find_program(o, path);

	*exit_code = why == ENOENT || why == ENOTDIR ? PROCESS_NOT_FOUND : PROCESS_NOT_EXECUTABLE;
	if (why != 0)
		return err_sys(err, why, "%s", name_of(o));
	*exit_code = 0;
	if ((o->tty ? open_terminal(o, p, &c, err) : open_pipes(p, &c, err)) != 0)
		return -1;
	why = spawn_program(o, path, &c, &p->pid);
	close_fd(&c.in);
	close_fd(&c.out);
	close_fd(&c.err);
	if (why != 0) {
		if (p->out != p->in)
			close_fd(&p->out);
		close_fd(&p->in);
		close_fd(&p->err);
		if (why == E2BIG || why == ENOEXEC || why == EACCES || why == ENOENT)
			*exit_code = why == ENOENT ? PROCESS_NOT_FOUND : PROCESS_NOT_EXECUTABLE;
		return err_sys(err, why, "%s", name_of(o));
	}
	return 0;
}
