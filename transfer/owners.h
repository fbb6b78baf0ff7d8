/*
 * transfer/owners.h: names of users and groups, as the sandbox's /etc/passwd and /etc/group
 * have them. No name service: a static program cannot load one. On a worker.
 */
#ifndef TRANSFER_OWNERS_H
#define TRANSFER_OWNERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define OWNERS_NAME_MAX   64                /* bytes with the NUL; longer names are not told */
#define OWNERS_KEPT       32                /* names remembered, of users and of groups each */
#define OWNERS_FILE_BYTES ((size_t)1 << 20) /* of either file; what is behind is not read */

struct owners_name {
	bool known;
	uint32_t id;
	char name[OWNERS_NAME_MAX]; /* "": there is none */
};

/* Remembers what was looked up: one for each call. */
struct owners {
	int slash; /* "/" of the sandbox; borrowed */
	struct owners_name users[OWNERS_KEPT], groups[OWNERS_KEPT];
};

void owners_init(struct owners *, int slash);

/* "" when there is no name. Good until the next look-up. */
const char *owners_user(struct owners *, uid_t);
const char *owners_group(struct owners *, gid_t);

#endif
