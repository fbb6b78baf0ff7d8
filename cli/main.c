/* towline: the command line. */
#include <fcntl.h>
#include <locale.h>
#include <unistd.h>

#include "base/loop.h"
#include "cli/commands.h"

/* Who starts us without one of the three gets none of our other descriptors in its place. */
static void fill_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char *argv[])
{
	fill_standard_descriptors();
	setlocale(LC_CTYPE, "C.UTF-8");
	loop_ignore_sigpipe();
	return cmd_main(&commands, argc, argv);
}
