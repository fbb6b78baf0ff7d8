#include "cli/terminal.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int set_raw(int fd, const struct termios *from)
{
	struct termios raw = *from;

	cfmakeraw(&raw);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	return tcsetattr(fd, TCSADRAIN, &raw);
}

int terminal_raw(struct terminal *t, int fd, struct err *err)
{
	t->fd = fd;
	t->is_raw = false;
	if (tcgetattr(fd, &t->saved) != 0 || set_raw(fd, &t->saved) != 0)
		return err_sys(err, errno, "the terminal");
	t->is_raw = true;
	return 0;
}

void terminal_again(const struct terminal *t)
{
	if (t->is_raw)
		set_raw(t->fd, &t->saved);
}

void terminal_restore(struct terminal *t)
{
	if (t->is_raw)
		tcsetattr(t->fd, TCSADRAIN, &t->saved);
	t->is_raw = false;
}

void terminal_size(int fd, uint32_t *cols, uint32_t *rows)
{
	struct winsize size;

	*cols = *rows = 0;
	if (ioctl(fd, TIOCGWINSZ, &size) != 0)
		return;
	*cols = size.ws_col;
	*rows = size.ws_row;
}

bool terminal_is_background(int fd)
{
	pid_t foreground = tcgetpgrp(fd);

	return foreground > 0 && foreground != getpgrp();
}
