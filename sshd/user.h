/* sshd/user.h: the user name of a session, "SANDBOX.SESSION". */
#ifndef SSHD_USER_H
#define SSHD_USER_H

#include "base/err.h"

#define USER_SANDBOX_MAX 19 /* bytes of a sandbox's name, [a-z0-9-] */
#define USER_SESSION_LEN 16 /* hex digits of a session's id */

/* Whether it could be one, so that nobody is asked about others. INVALID_ARGUMENT does not
 * repeat the text. */
int user_parse(const char *name, struct err *);

#endif
