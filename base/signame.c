#include "base/signame.h"

#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	int number;
} signals[] = {
	{ "ABRT", SIGABRT },
	{ "ALRM", SIGALRM },
	{ "FPE", SIGFPE },
	{ "HUP", SIGHUP },
	{ "ILL", SIGILL },
	{ "INT", SIGINT },
	{ "KILL", SIGKILL },
	{ "PIPE", SIGPIPE },
	{ "QUIT", SIGQUIT },
	{ "SEGV", SIGSEGV },
	{ "TERM", SIGTERM },
	{ "USR1", SIGUSR1 },
	{ "USR2", SIGUSR2 },
};

#define SIGNALS (sizeof(signals) / sizeof(signals[0]))

int signame_number(const char *name)
{
	for (size_t i = 0; i < SIGNALS; i++)
		if (strcmp(signals[i].name, name) == 0)
			return signals[i].number;
	return -1;
}

const char *signame_of(int number, char out[static 32])
{
	const char *name = sigabbrev_np(number);

	for (size_t i = 0; i < SIGNALS; i++)
		if (signals[i].number == number)
			return signals[i].name;
	snprintf(out, 32, "%.20s@towline", name != NULL ? name : "SIG");
	return out;
}
