/*
 * supervisor/modes.h: a client's terminal modes, as SSH encodes them (RFC 4254,
 * section 8), made settings of a terminal here.
 */
#ifndef SUPERVISOR_MODES_H
#define SUPERVISOR_MODES_H

#include <stddef.h>
#include <stdint.h>
#include <termios.h>

#include "base/err.h"

/*
 * Changes in ${t} what the ${len} bytes say, and leaves alone what they do not mention
 * or this system does not have. They end at TTY_OP_END, at the first opcode that the RFC
 * leaves undefined (160 and above), or where they are over. -1: a value is cut off,
 * INVALID_ARGUMENT, and ${t} is as it was.
 */
int modes_apply(const uint8_t *modes, size_t len, struct termios *t, struct err *);

#endif
