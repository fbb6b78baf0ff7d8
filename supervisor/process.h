/*
 * supervisor/process.h: starting a program in the sandbox, on pipes or on a terminal.
 */
#ifndef SUPERVISOR_PROCESS_H
#define SUPERVISOR_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define PROCESS_NOT_FOUND      127 /* exit codes of a shell that cannot start a program */
#define PROCESS_NOT_EXECUTABLE 126

/* Where programs are looked for when nobody says so. */
#define PROCESS_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct process_options {
	char *const *argv; /* argv[0] is looked up along PATH of ${envp} */
	char *const *envp;
	const char *workdir; /* absolute */
	bool tty;
	uint16_t cols, rows; /* of the terminal; 0: 80 by 24 */
};

/* The parent's ends: CLOEXEC and non-blocking. With a terminal ${in} and ${out} are
 * the same descriptor and ${err} is -1. */
struct process {
	pid_t pid; /* leader of a session and process group of its own */
	int in, out, err;
};

/* 0; or -1: the program cannot be started, and ${exit_code} is what a shell would
 * give (0 if it is no such failure, e.g. no descriptors are left). */
int process_start(const struct process_options *, struct process *, int *exit_code, struct err *);

/* The new size of a terminal; SIGWINCH follows by itself. */
void process_resize(int tty, uint32_t cols, uint32_t rows);

#endif
