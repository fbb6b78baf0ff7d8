#include "cli/background.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"

/* A byte, or the end of the child. */
static int wait_for(pid_t child, int fd)
{
	char byte;
	ssize_t n;
	int status;

	do
		n = read(fd, &byte, 1);
	while (n < 0 && errno == EINTR);
	close(fd);
	if (n == 1)
		return CLI_EXIT_OK;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : CLI_EXIT_SIGNAL + WTERMSIG(status);
}

int background_begin(struct background *b, int *code, struct err *err)
{
	int ends[2];
	pid_t child;

	fflush(NULL);
	if (pipe2(ends, O_CLOEXEC) != 0)
		return err_sys(err, errno, "a pipe to the background");
	child = fork();
	if (child < 0) {
		err_sys(err, errno, "a process for the background");
		close(ends[0]);
		close(ends[1]);
		return -1;
	}
	if (child > 0) {
		close(ends[1]);
		*code = wait_for(child, ends[0]);
		return 0;
	}
	close(ends[0]);
	b->fd = ends[1];
	return 1;
}

void background_ready(struct background *b)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (b->fd < 0)
		return;
	fflush(NULL);
	setsid();
	for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	if (null > STDERR_FILENO)
		close(null);
	if (write(b->fd, "", 1) != 1)
		return; /* the parent has gone; the forward stays */
	close(b->fd);
	b->fd = -1;
}
