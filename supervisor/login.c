#include "supervisor/login.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/text.h"
#include "supervisor/process.h"

#define ENVIRONMENT_MAX ((size_t)1 << 20) /* bytes a shell may answer with */

static char *keep(const char *text, const char *fallback)
{
	char *copy = strdup(text);

	return copy != NULL ? copy : (char *)fallback;
}

static void take(struct login *l, const struct passwd *pw)
{
	l->name = keep(pw->pw_name, "");
	l->home = keep(pw->pw_dir, "");
	if (pw->pw_shell[0] == '/' && access(pw->pw_shell, X_OK) == 0)
		l->shell = keep(pw->pw_shell, l->shell);
}

const struct login *login_user(void)
{
	static struct login l;
	FILE *f;

	if (l.shell != NULL)
		return &l;
	l = (struct login){ .shell = (char *)"/bin/sh", .name = (char *)"", .home = (char *)"" };
	/* fgetpwent, not getpwuid: no name service can be loaded into a static program. */
	if ((f = fopen("/etc/passwd", "re")) == NULL)
		return &l;
	for (struct passwd *pw; (pw = fgetpwent(f)) != NULL;) {
		if (pw->pw_uid == getuid()) {
			take(&l, pw);
			break;
		}
	}
	fclose(f);
	return &l;
}

/* Until there is something to read; false at ${until}. */
static bool wait_readable(int fd, uint64_t until)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	for (uint64_t now; (now = loop_now_us()) < until;)
		if (poll(&p, 1, (int)((until - now) / 1000) + 1) > 0)
			return true;
	return false;
}

/* All that comes until the end of the file; false when it takes too long. */
static bool read_all(int fd, uint64_t until, struct text *out)
{
	char buf[8192];

	for (;;) {
		if (!wait_readable(fd, until))
			return false;
		ssize_t n = read(fd, buf, sizeof(buf));
		if (n == 0)
			return !out->failed;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return false;
		if (n > 0)
			text_add(out, buf, (size_t)n);
	}
}

/* Runs the shell; "A=1\0B=2\0" in ${out}. */
static bool ask_shell(char *const *envp, const char *workdir, struct text *out)
{
	char *argv[] = { login_user()->shell, (char *)"-lc", (char *)"exec env -0", NULL };
	const struct process_options o = { .argv = argv, .envp = envp, .workdir = workdir };
	uint64_t until = loop_now_us() + (uint64_t)LOGIN_TIMEOUT_MS * 1000;
	struct process p;
	int exit_code, status;

	if (process_start(&o, &p, &exit_code, NULL) != 0)
		return false;
	close(p.in);
	close(p.err);
	int pidfd = pidfd_open(p.pid, 0);
	/* An answer is no end yet: a profile may close its output and go on. */
	bool answered = read_all(p.out, until, out) && wait_readable(pidfd, until);
	close(p.out);
	if (pidfd >= 0)
		close(pidfd);
	if (!answered)
		kill(-p.pid, SIGKILL);
	while (waitpid(p.pid, &status, 0) < 0 && errno == EINTR)
		;
	return answered && WIFEXITED(status) && WEXITSTATUS(status) == 0 && out->len > 0;
}

/* Variables a shell sets for itself. */
static bool is_shells_own(const char *entry)
{
	return strncmp(entry, "_=", 2) == 0 || strncmp(entry, "SHLVL=", 6) == 0 ||
	    strncmp(entry, "PWD=", 4) == 0 || strncmp(entry, "OLDPWD=", 7) == 0;
}

/* A list of copies of the strings that stand one behind the other in ${text}. */
static char **split(const char *text, size_t len)
{
	size_t count = 0, n = 0;

	for (size_t i = 0; i < len; i++)
		count += text[i] == '\0';
	char **list = calloc(count + 1, sizeof(*list));
	if (list == NULL)
		return NULL;
	for (const char *at = text; n < count && at < text + len; at += strlen(at) + 1) {
		if (strchr(at, '=') == NULL || is_shells_own(at))
			continue;
		if ((list[n++] = strdup(at)) == NULL) {
			login_environment_free(list);
			return NULL;
		}
	}
	return list;
}

/* What was set for the sandbox is stronger than a profile. */
static bool is_set(char *const *envp, const char *entry)
{
	size_t len = strcspn(entry, "=") + 1;

	for (; *envp != NULL; envp++)
		if (strncmp(*envp, entry, len) == 0)
			return true;
	return false;
}

/* The shell's answer, less what is set, and behind it what is set. */
static void overlay(struct text *answer, char *const *envp)
{
	size_t kept = 0;

	for (size_t at = 0; at < answer->len;) {
		size_t len = strlen(answer->data + at) + 1;
		if (!is_set(envp, answer->data + at)) {
			memmove(answer->data + kept, answer->data + at, len);
			kept += len;
		}
		at += len;
	}
	answer->len = kept;
	for (; *envp != NULL; envp++)
		text_add(answer, *envp, strlen(*envp) + 1);
}

char **login_environment(char *const *envp, const char *workdir)
{
	struct text answer;
	char **list;

	text_init(&answer, ENVIRONMENT_MAX);
	if (!ask_shell(envp, workdir, &answer)) {
		text_free(&answer);
		text_init(&answer, ENVIRONMENT_MAX);
	}
	overlay(&answer, envp);
	list = split(answer.len > 0 ? answer.data : "", answer.len);
	text_free(&answer);
	return list;
}

void login_environment_free(char **list)
{
	if (list == NULL)
		return;
	for (char **at = list; *at != NULL; at++)
		free(*at);
	free(list);
}
