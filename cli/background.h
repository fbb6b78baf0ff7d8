/*
 * cli/background.h: going on in the background once all is well, so that who started us
 * learns from the exit code whether it is.
 */
#ifndef CLI_BACKGROUND_H
#define CLI_BACKGROUND_H

#include "base/err.h"

struct background {
	int fd; /* of the child, to its parent; -1: we are in the foreground */
};

/*
 * Splits in two, before there are threads. In the child it returns 1. In the parent it
 * waits for the child's background_ready(), and returns 0 with ${code} CLI_EXIT_OK; or,
 * when the child ends before that, with its exit code. -1: it could not be done.
 */
int background_begin(struct background *, int *code, struct err *);

/* In the child: lets the parent go, leaves the terminal and closes the descriptors it
 * shares with it. */
void background_ready(struct background *);

#endif
