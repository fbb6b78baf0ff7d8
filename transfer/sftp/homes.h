/*
 * transfer/sftp/homes.h: home directories, for paths that begin with "~". Of the sandbox's
 * /etc/passwd, without a name service, as transfer/owners.h. On a worker.
 */
#ifndef TRANSFER_SFTP_HOMES_H
#define TRANSFER_SFTP_HOMES_H

#include <limits.h>
#include <stdbool.h>

/* "~", "~/x" and "~user/x" become what they stand for, other paths are copied. Our own home is
 * $HOME, else what the passwd file says, else ${dflt}. False: there is no such user, or it gets
 * too long. */
bool homes_expand(int slash, const char *path, const char *dflt, char out[static PATH_MAX]);

#endif
