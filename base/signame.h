/* base/signame.h: signals by the names that RFC 4254, section 6.10, has for them. */
#ifndef BASE_SIGNAME_H
#define BASE_SIGNAME_H

/* The number of "TERM"; -1: no name of a signal that may be sent to a command. */
int signame_number(const char *name);

/* "TERM" for SIGTERM. One the RFC does not name gets a local name, as it wants those:
 * "BUS@towline", or "SIG@towline" when the system has none. Never NULL; ${out} is used
 * for a local one. */
const char *signame_of(int number, char out[static 32]);

#endif
