/*
 * stand_in.h: what the test program does when a driver runs it as the supervisor. The
 * sandbox's variable STAND_IN names its role:
 *
 *	quiet		waits for SIGTERM
 *	late		listens to SIGTERM once it has come, and makes the file "ended"
 *	stubborn	takes no notice of SIGTERM from when the file "up" is there
 *	short		ends with exit code 7
 *	report		writes what it sees to the file "report", then is quiet
 *	breed		starts processes that hide, says so in the file "bred", then is quiet
 *	mess		makes files that are hard to remove, says so in "messed", then is quiet
 */
#ifndef DRIVERS_STAND_IN_H
#define DRIVERS_STAND_IN_H

#include <stdbool.h>

#define STAND_IN_BRED  4    /* processes made by breed */
#define STAND_IN_DEPTH 2000 /* directories in each other made by mess */

bool stand_in_is_meant(int argc, char *argv[]);
int stand_in_main(int argc, char *argv[]);

#endif
