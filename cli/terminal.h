/* cli/terminal.h: the person's terminal, made to pass every key on. */
#ifndef CLI_TERMINAL_H
#define CLI_TERMINAL_H

#include <stdbool.h>
#include <stdint.h>
#include <termios.h>

#include "base/err.h"

struct terminal {
	int fd;
	bool is_raw;
	struct termios saved;
};

/* No line editing, no signals from keys, nothing added to output. */
int terminal_raw(struct terminal *, int fd, struct err *);

/* Once more, after somebody else had the terminal (SIGCONT). */
void terminal_again(const struct terminal *);

/* As it was; twice is harmless. */
void terminal_restore(struct terminal *);

/* Zeros if ${fd} is no terminal, or does not know. */
void terminal_size(int fd, uint32_t *cols, uint32_t *rows);

/* Somebody else has the terminal now: reading it would stop us. */
bool terminal_is_background(int fd);

#endif
