/*
 * base/clock.h: how long ago something was, whatever the wall clock is set to meanwhile.
 *
 * The clock of a boot counts on while the machine sleeps and is never set; it says nothing
 * about another boot, which is why what is written down for later has both.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

/* Of the machine's boot, the same for all of its processes; 0: unknown. Reads a file below
 * /proc: for where that is allowed. */
uint64_t clock_boot(void);

/* Seconds of it, at least 1. */
uint64_t clock_boot_s(void);

#endif
