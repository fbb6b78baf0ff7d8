/* cli/exec_start.h: the first message of an exec call. */
#ifndef CLI_EXEC_START_H
#define CLI_EXEC_START_H

#include "cli/exec.h"

/* ExecSandboxInput{start}, packed; the caller frees it. NULL: no memory. */
uint8_t *exec_start_message(
    struct session *, const struct exec_options *, bool tty, size_t *len, struct err *);

#endif
