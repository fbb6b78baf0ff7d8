/*
 * sshd/admission.h: where connections come from, and who is let in.
 *
 * As long as few connections are on their way to being open, all are let in. Beyond, the
 * more there are the likelier one has to go: the oldest of them if it had a second to get
 * on, so that those who stall make room for those who do not; else the new one.
 */
#ifndef SSHD_ADMISSION_H
#define SSHD_ADMISSION_H

#include <stdbool.h>

#include "base/err.h"
#include "sshd/sshd.h"

struct admission;

#define ADMISSION_ACCEPTS_PER_TURN 64
#define ADMISSION_EVICT_MS         1000 /* who is older than this and not open goes first */
#define ADMISSION_PAUSE_MS         100  /* without a descriptor left */

/* Takes ${fd}, a listening socket that other processes may accept from, too. */
struct admission *admission_create(struct sshd *, int fd, struct err *);
void admission_free(struct admission *); /* NULL is legal */

/* Of a hundred, how many connections are to go when ${count} are on their way. */
unsigned admission_drop_rate(const struct sshd_limits *, size_t count);

/* "START:RATE:FULL", as OpenSSH's MaxStartups. INVALID_ARGUMENT says what is wrong. */
int admission_parse_startups(const char *text, struct sshd_limits *, struct err *);

#endif
