/*
 * transfer/sync/sync_receive.h: entries of a source onto the target's disk: what either kind of
 * stream can bring. Blocking, one thread. Private to sync_target.c.
 */
#ifndef TRANSFER_SYNC_SYNC_RECEIVE_H
#define TRANSFER_SYNC_SYNC_RECEIVE_H

#include "transfer/sync/sync_apply.h"
#include "transfer/sync/sync_peer.h"

/* What LITERAL, COPY, HOLE, END and LEAVE are for. */
enum sync_file_state { SYNC_FILE_NONE, SYNC_FILE_OPEN, SYNC_FILE_FAILED };

struct sync_receive {
	const struct sync_options *opt;
	struct sync_counts *counts;
	struct sync_apply *apply; /* NULL: a dry run */
	/* An entry has failed, and the sync goes on. */
	void (*failed)(void *cookie, const char *path, const struct err *);
	void *cookie;

	enum sync_file_state file;
	struct sync_entry entry; /* of that file */
	char path[TREE_PATH_MAX], text[TREE_PATH_MAX];
	uint8_t *attributes; /* of what comes next; TREE_XATTRS_MAX bytes */
	size_t attributes_len;
	bool has_attributes;
};

/* The fields above ${file} are set. */
int sync_receive_init(struct sync_receive *, struct err *);
void sync_receive_free(struct sync_receive *);

/* Whether these are its records, and what they make it do. -1: they are no sync's. */
bool sync_receive_knows(const struct sync_receive *, enum sync_type);
int sync_receive_take(struct sync_receive *, struct sync_body *, struct err *);

/* For records that are the target's own: counts the item at ${path}, and refuses what was to
 * be left out. */
int sync_receive_admit(struct sync_receive *, bool directory, struct err *why);

/* An entry is done, or it has failed. */
void sync_receive_done(struct sync_receive *, int result, uint64_t *count, enum sync_act,
    const struct sync_entry *, const struct err *why);

#endif
