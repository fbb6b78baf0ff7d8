/* cli/signals.h: the signals that end a program, told to it in time to tidy up. */
#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H

#include "base/err.h"
#include "base/loop.h"

#define SIGNALS_COUNT 4 /* SIGINT, SIGTERM, SIGHUP, SIGQUIT */

struct signals;

struct signals_one {
	struct signals *all;
	int number;
	struct signal_watch *watch; /* NULL: who started us had it ignored, and so it stays */
};

struct signals {
	struct signals_one one[SIGNALS_COUNT];
	void (*fire)(void *cookie, int number);
	void *cookie;
};

/* ${fire} comes from the loop, for each signal. signals_free() whatever the result. */
int signals_watch(struct signals *, struct loop *, void (*fire)(void *cookie, int number),
    void *cookie, struct err *);
void signals_free(struct signals *); /* zeroed is legal */

#endif
