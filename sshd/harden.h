/*
 * sshd/harden.h: what this process gives up before it speaks to strangers.
 */
#ifndef SSHD_HARDEN_H
#define SSHD_HARDEN_H

#include <stdbool.h>

#include "base/err.h"

/* First of all: nobody may look into us, and there is no core. Descriptors above 2 that are
 * not among ${kept} (ends with -1) are closed. */
void harden_early(const int *kept);

/*
 * Last, when all is open that will be: no program is run and nothing traced, no file is
 * opened or changed; what stays is sockets and memory. With ${names}, files under /etc may
 * be read: a gateway's name that is not an address has to be looked up.
 */
int harden_late(bool names, struct err *);

#endif
