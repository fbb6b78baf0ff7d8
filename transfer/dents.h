/*
 * transfer/dents.h: the entries of a directory, one after the other, from a descriptor
 * that stays the caller's. What is read ahead is bounded by ${buffer}. On a worker.
 */
#ifndef TRANSFER_DENTS_H
#define TRANSFER_DENTS_H

#include <stddef.h>
#include <stdint.h>

#define DENTS_BYTES ((size_t)16 << 10) /* read ahead */

struct dents {
	int fd;
	size_t pos, len;
	int64_t next; /* where what follows the last entry is */
	_Alignas(long long) char buffer[DENTS_BYTES];
};

/* Begins, or begins again, at the first entry. */
void dents_begin(struct dents *, int fd);

/* Begins at ${next}, as dents_next() has left it, maybe with another descriptor of the directory. */
void dents_resume(struct dents *, int fd, int64_t next);

/* 1: ${name}, good until the next call, and its DT_* type, which may be DT_UNKNOWN; "."
 * and ".." are left out. 0: there are no more. -1: errno. */
int dents_next(struct dents *, const char **name, unsigned char *type);

#endif
