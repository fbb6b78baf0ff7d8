/* transfer/sync/sync_send.h: entries of a source onto its way out. Private to sync_source.c. */
#ifndef TRANSFER_SYNC_SYNC_SEND_H
#define TRANSFER_SYNC_SYNC_SEND_H

#include "transfer/sync/sync_attributes.h"
#include "transfer/sync/sync_delta.h"
#include "transfer/sync/sync_peer.h"

#define SYNC_TRIES 3 /* of a file that changes while it is read */

struct sync_send {
	const struct sync_options *opt;
	int root;
	struct sync_counts *counts;
	struct sync_out out;
	struct digest *digest;
	struct sync_attributes *attributes;
	uint8_t *buffer;
	uint64_t told; /* failures, by name */
	int dir;       /* of the path that was sent last; -1: none */
	char dir_path[TREE_PATH_MAX];
};

/* ${opt}, ${root}, ${counts} and ${dir} are set, and ${out} is ready. */
int sync_send_init(struct sync_send *, struct err *);
void sync_send_free(struct sync_send *);

/* These give -1 only when the sync is over: an entry that cannot be had is told of and
 * counted. */

/* ${name} in the directory ${dir}; ${there}: it is a directory at the target as well. */
int sync_send_entry(struct sync_send *, int dir, const char *name, const struct sync_entry *,
    bool there, struct err *);

/* A file or a link by its path; ${sums} is what of a file is there, of ${basis} bytes. */
int sync_send_path(
    struct sync_send *, const char *path, const struct sync_sums *, uint64_t basis, struct err *);

struct sync_job;
int sync_send_job(struct sync_send *, const struct sync_job *, struct err *);

/* Of the file that is open as ${fd}. */
int sync_send_touch(struct sync_send *, int fd, const struct sync_entry *, struct err *);
/* ${path} is one more name of the file that has been sent as ${first}. */
int sync_send_hardlink(struct sync_send *, const char *path, const char *first, struct err *);
int sync_send_delete(struct sync_send *, const struct sync_entry *, struct err *);

/* Counts it, and tells of it at both ends. */
void sync_send_failed(struct sync_send *, const char *path, const struct err *why);

/* For sync_file.c. */

/* A file by its path, to be read. */
int sync_send_open(struct sync_send *, const char *path, struct err *);

/* Counts an item, and tells of it. */
void sync_send_item(struct sync_send *, enum sync_act, const struct sync_entry *);

/* Of what comes next; ${tell}: also if some of them do not go. */
int sync_send_attributes(struct sync_send *, int fd, const char *path, bool tell, struct err *);

/* For sync_walk_options. */
bool sync_send_excluded(void *send, const char *path, bool directory);

/* Of DONE and RECEIPT. */
void sync_put_counts(struct sync_out *, const struct sync_counts *);
void sync_get_counts(struct sync_body *, struct sync_counts *);

#endif
