#include "support/lease.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int lease_program(const char *path)
{
	const struct sigaction ignore = { .sa_handler = SIG_IGN };
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0755);

	if (fd < 0) {
		perror(path);
		exit(2);
	}
	sigaction(SIGIO, &ignore, NULL); /* it says that somebody waits */
	if (fcntl(fd, F_SETLEASE, F_WRLCK) == 0)
		return fd;
	close(fd);
	unlink(path);
	return -1;
}
