/*
 * transfer/sync/sync_part.h: a file on its way, under another name beside its target
 * (sync_walk.h, SYNC_PART), with a lock that says that somebody writes it. Blocking. Private
 * to the room.
 */
#ifndef TRANSFER_SYNC_SYNC_PART_H
#define TRANSFER_SYNC_SYNC_PART_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "transfer/sync/sync_walk.h"

#define SYNC_PART_RANDOM ((size_t)8) /* bytes of its name, in hexadecimal digits */
#define SYNC_PART_SIZE   (sizeof(SYNC_PART) + (size_t)2 * SYNC_PART_RANDOM)

struct sync_part {
	int dir; /* that it and its target are in */
	int fd;  /* -1: none */
	char name[SYNC_PART_SIZE];
};

#define SYNC_PART_NONE ((struct sync_part){ .dir = -1, .fd = -1 })

/* Empty, in ${dir}; with ${room} for so many bytes, so that a full disk is found before they
 * come. ${path} is for errors, and ${part} none after one. */
int sync_part_make(struct sync_part *, int dir, const char *path, uint64_t room, struct err *);

/* It becomes ${name}, and ${part} none; an empty directory makes way. */
int sync_part_place(struct sync_part *, const char *name, const char *path, struct err *);
void sync_part_undo(struct sync_part *); /* none: nothing */

/* Of those that are no files: a name, and ${name} takes the place of ${target}. */
void sync_part_name(char name[static SYNC_PART_SIZE]);
int sync_part_rename(int dir, const char *name, const char *target, const char *path, struct err *);

#endif
