/*
 * transfer/sync/sync_wire.h: the records of a sync, as bytes and back.
 *
 * Each end of a SyncTree call sends a stream of records (docs/wire.md, "Sync"): a type,
 * the length of the body in three bytes, the body. Numbers in a body are LEB128, names
 * and contents a number and so many bytes. Blocking, on a sync's own threads; no file
 * system. A body that is not as it should be reads as zeros and nothing, and one look
 * at the end tells.
 */
#ifndef TRANSFER_SYNC_SYNC_WIRE_H
#define TRANSFER_SYNC_SYNC_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/digest.h"
#include "base/err.h"
#include "transfer/tree/tree.h"

#define SYNC_SMALL    ((size_t)64 << 10)   /* smaller files go whole, within their record */
#define SYNC_BODY_MAX ((size_t)128 << 10)  /* bytes of a record's body */
#define SYNC_BATCH    ((size_t)64 << 10)   /* bytes gathered before they are pushed */
#define SYNC_HOLE_MAX ((uint64_t)64 << 20) /* bytes of a HOLE */

/* Of the records: the newest, and the oldest that is spoken too. SyncTreeInit says both, and
 * the answer to it which it is. */
#define SYNC_PROTOCOL             2
#define SYNC_PROTOCOL_OLDEST      1
#define SYNC_PROTOCOL_RANGES      2 /* from this one on a large file can go in ranges */
#define SYNC_PROTOCOL_RAW_EXCLUDE 2 /* and patterns be no UTF-8 */

enum sync_type {
	/* From the target. */
	SYNC_ENTRIES = 1, /* what is there, in the order of sync_compare() */
	SYNC_LISTED,      /* that was all */
	SYNC_SIGNATURE,   /* of the file next in turn: its size, block size and seed */
	SYNC_BLOCKS,      /* of that file: a weak and a strong sum a block */
	SYNC_RECEIPT,     /* the last: what has been done */
	SYNC_READY,       /* of a stream that has joined */

	/* From the source. */
	SYNC_DIRECTORY = 16, /* to be made, or made so */
	SYNC_LINK,
	SYNC_FILE,       /* a small one whole; else LITERAL and COPY follow, then END or LEAVE */
	SYNC_LITERAL,    /* bytes */
	SYNC_COPY,       /* bytes of the file that is there */
	SYNC_END,        /* the digest of the whole file */
	SYNC_LEAVE,      /* the file is not to be had: the old one stays */
	SYNC_TOUCH,      /* content is the same: mode and time */
	SYNC_SIGN,       /* asks for a signature */
	SYNC_DELETE,     /* to be deleted when all went well */
	SYNC_WALKED,     /* no more SIGN */
	SYNC_PRUNE,      /* delete now */
	SYNC_DONE,       /* the last: what has been sent */
	SYNC_HOLE,       /* zeros that take no room, as a part of a file */
	SYNC_HARDLINK,   /* another name of a file that is there */
	SYNC_ATTRIBUTES, /* extended ones, of the FILE, DIRECTORY or TOUCH that comes next */

	/* From both. */
	SYNC_FAILED = 32, /* an entry: its name, and why */

	/* From the source: more of them. */
	SYNC_SPREAD, /* more streams would be of use */
	SYNC_AFTER   /* what follows waits for so many items of the first stream */
};

/* Of a FILE. */
#define SYNC_FILE_WHOLE  0x1 /* digest and content are in the record; else parts follow */
#define SYNC_FILE_SPARSE 0x2 /* it has holes: what is zero takes no room */
#define SYNC_FILE_RANGE  0x4 /* parts follow, of one range of it: a struct sync_range */

/* Of a file that goes in ranges. END has the digest of the range. */
struct sync_range {
	uint64_t file;   /* a number that it alone has in this sync */
	uint64_t size;   /* of its ranges; the last may be shorter */
	uint64_t number; /* of this one, from 0 */
};

#define SYNC_RANGES_MAX 64                  /* of a file */
#define SYNC_RANGE_MIN  ((uint64_t)8 << 20) /* bytes of one: it costs some 100 besides */

/* In which ranges a file of ${size} bytes goes: their size. 0: it goes in one. */
uint64_t sync_range_size(uint64_t size);

/* How many there are; 0: so it cannot be. */
size_t sync_ranges_of(uint64_t size, uint64_t range);

enum sync_kind { SYNC_KIND_FILE = 1, SYNC_KIND_DIRECTORY, SYNC_KIND_LINK, SYNC_KIND_OTHER };

/* What is said of an entry. The texts are lent. */
struct sync_entry {
	enum sync_kind kind;
	const char *path; /* relative to the root, clean */
	uint64_t size;    /* of a file */
	int64_t mtime;    /* ns since 1970 */
	mode_t mode;      /* permission bits, without setuid and the like */
	const char *link; /* what a link says */
	bool has_digest;
	uint8_t digest[DIGEST_SIZE];
	uint64_t file;       /* the same for all names of a file that has several; else 0 */
	uint64_t attributes; /* a sum over the extended ones; 0: none */
};

/* Whole trees in one order: a directory right before what is in it, names by their bytes. */
int sync_compare(const char *path, const char *other);

/* A path to be found beneath a root: relative, clean, within the limits of tree.h. */
bool sync_path_is_clean(const char *path);

/* The way out. */

typedef int sync_push(void *cookie, const void *, size_t, struct err *);

struct sync_out {
	sync_push *push;
	void *cookie;
	uint8_t *data;  /* SYNC_BATCH and a record */
	size_t len;     /* what waits to be pushed, the record that is begun included */
	size_t begun;   /* where that begins */
	uint64_t total; /* bytes, waiting or pushed */
};

int sync_out_init(struct sync_out *, sync_push *, void *cookie, struct err *);
void sync_out_free(struct sync_out *);

/* A record is begun, put together and ended; what is put past SYNC_BODY_MAX is a fault
 * (asserted). The end pushes when a batch is full. */
void sync_begin(struct sync_out *, enum sync_type);
void sync_put_number(struct sync_out *, uint64_t);
void sync_put_signed(struct sync_out *, int64_t);
void sync_put_raw(struct sync_out *, const void *, size_t);
void sync_put_bytes(struct sync_out *, const void *, size_t); /* with their number */
void sync_put_text(struct sync_out *, const char *);
size_t sync_room(const struct sync_out *); /* bytes that the record can still take */
int sync_end(struct sync_out *, struct err *);
void sync_drop(struct sync_out *); /* the record that is begun will not be */
int sync_flush(struct sync_out *, struct err *);

/* Room for ${n} bytes within the record, to be filled by the caller. */
uint8_t *sync_put_space(struct sync_out *, size_t n);

/* The way in. */

typedef ssize_t sync_pull(void *cookie, const void **, struct err *);

/* A record's body, while it is read. */
struct sync_body {
	enum sync_type type;
	const uint8_t *at, *end;
	bool bad;
};

struct sync_in {
	sync_pull *pull;
	void *cookie;
	uint8_t *data; /* a record that came in pieces */
	size_t len;
	const uint8_t *at, *end; /* what was pulled and not read */
	uint64_t total;          /* bytes of the records so far */
};

int sync_in_init(struct sync_in *, sync_pull *, void *cookie, struct err *);
void sync_in_free(struct sync_in *);

/* 1: a record, good until the next call. 0: the end, between two records. -1:
 * INVALID_ARGUMENT, or what the pull says. */
int sync_next(struct sync_in *, struct sync_body *, struct err *);

/* Nothing is here to be read: the next call may wait for the peer. */
bool sync_in_is_empty(const struct sync_in *);

uint64_t sync_get_number(struct sync_body *);
int64_t sync_get_signed(struct sync_body *);
const uint8_t *sync_get_raw(struct sync_body *, size_t); /* NULL: bad */
const uint8_t *sync_get_bytes(struct sync_body *, size_t *len);

/* A text without NUL. "" when it is bad. */
void sync_get_text(struct sync_body *, char out[static TREE_PATH_MAX]);
void sync_get_path(struct sync_body *, char out[static TREE_PATH_MAX]); /* clean, or bad */

/* All is read, and nothing was bad: or INVALID_ARGUMENT. */
int sync_get_done(const struct sync_body *, struct err *);

/* Entries in batches: names and times as they differ from the one before. */

struct sync_shape {
	size_t head, tail; /* bytes of a path that the one before has too */
	size_t between;    /* and that it has not */
};

struct sync_entries {
	char path[TREE_PATH_MAX], link[TREE_PATH_MAX];
	size_t len; /* of the path */
	struct sync_shape shape;
	mode_t mode;
	uint64_t size;
	int64_t mtime, directory_mtime;
	uint64_t file;
};

#define SYNC_ENTRY_MAX (2 * TREE_PATH_MAX + 96) /* bytes that one takes at most */

void sync_entries_init(struct sync_entries *); /* before each batch, at both ends */
void sync_put_entry(struct sync_out *, struct sync_entries *, const struct sync_entry *);

/* False: the batch is over, or bad. The texts are ${e}'s own. */
bool sync_get_entry(struct sync_body *, struct sync_entries *, struct sync_entry *e);

#endif
