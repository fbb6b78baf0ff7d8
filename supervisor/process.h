/*
 * supervisor/process.h: starting a program in the sandbox, on pipes or on a terminal.
 */
#ifndef SUPERVISOR_PROCESS_H
#define SUPERVISOR_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define PROCESS_NOT_FOUND      127 /* exit codes of a shell that cannot start a program */
#define PROCESS_NOT_EXECUTABLE 126

#define PROCESS_SIZE_MAX 10000 /* columns or rows; more is a mistake */

/* Where programs are looked for when nobody says so. */
#define PROCESS_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Of a terminal. Columns or rows of 0 are 80 and 24, more than PROCESS_SIZE_MAX are that. */
struct process_size {
	uint32_t cols, rows;
	uint32_t width, height; /* pixels; 0: unknown */
};

struct process_options {
	const char *program; /* NULL: argv[0]; without a slash looked up along PATH of ${envp} */
	char *const *argv;
	char *const *envp;
	const char *workdir; /* absolute */
	bool tty;
	struct process_size size;
	const uint8_t *modes; /* of the terminal, as supervisor/modes.h has them */
	size_t modes_len;
	const char *tty_variable; /* of the environment, for the terminal's name; NULL: none */
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
void process_resize(int tty, struct process_size);

/* 0: process_start() would find ${name} along PATH of ${envp}; else the errno. */
int process_find(const char *name, char *const *envp, const char *workdir);

#endif
