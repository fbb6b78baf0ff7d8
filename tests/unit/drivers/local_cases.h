/*
 * local_cases.h: what holds for the local driver however much isolation the kernel grants.
 */
#ifndef DRIVERS_LOCAL_CASES_H
#define DRIVERS_LOCAL_CASES_H

#include <stdbool.h>

/* Runs them all, or is the stand-in if the arguments are a supervisor's. ${name} is the
 * group's; ${enter} runs first and may change what the process is allowed: false when this
 * machine does not let it, and nothing is tried then. May be NULL. The exit code for main(). */
int local_cases_main(int argc, char *argv[], const char *name, bool (*enter)(void));

#endif
