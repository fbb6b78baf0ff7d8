/* support/lease.h: a program that does not come to run. */
#ifndef SUPPORT_LEASE_H
#define SUPPORT_LEASE_H

/* Makes an empty program with a lease on it: whoever opens it, also to run it, waits until
 * the descriptor that this returns is closed. -1: the file system has no leases. */
int lease_program(const char *path);

#endif
