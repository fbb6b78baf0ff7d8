/*
 * transfer/tree/tree.h: trees as tar streams. libarchive knows the format (pax, ustar,
 * gnu; plain, gzip, zstd) and nothing else; the file system is ours (openat2 beneath
 * a held directory), because libarchive's own extraction can be raced out of its
 * directory (docs/limits.md). Both functions block and pull or push bytes through
 * callbacks: run on a thread of their own.
 *
 * One entry that fails loses no other: it is noted by its name, counted, and both
 * functions go on. In the end they return -1 with the first of the reasons and how many
 * there were; what is unpacked stays. What ends a stream at once is a stream that is
 * damaged, a limit passed and a disk that is full. ${result} is filled in either case.
 */
#ifndef TRANSFER_TREE_TREE_H
#define TRANSFER_TREE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "transfer/tree/ignore.h"

#define TREE_ENTRIES_MAX 1000000
#define TREE_RATIO_MAX   200 /* unpacked bytes a packed byte, past the first 16 MiB */
#define TREE_DEPTH_MAX   128 /* directories within each other */
#define TREE_PATH_MAX    4096
#define TREE_HEADER_MAX  ((size_t)4 << 20)    /* bytes before the content of an entry */
#define TREE_LINKS_MAX   ((size_t)16 << 20)   /* bytes of names of files that have several */
#define TREE_HOLES_MAX   4096                 /* of one file; behind them holes are zeros */
#define TREE_XATTRS_MAX  ((size_t)64 << 10)   /* bytes of attributes of one entry */
#define TREE_SPARSE_MAX  ((uint64_t)16 << 40) /* bytes of one file with its holes */
#define TREE_LATER_MAX   ((size_t)8 << 20)    /* bytes kept of directories until the end */
#define TREE_HELD_MAX    ((size_t)256 << 10)  /* bytes; a larger file is begun before it is read */

/* The attribute of an entry that takes the one before it back (docs/wire.md). */
#define TREE_WITHDRAWN "towline.withdrawn"

enum tree_compression { TREE_COMPRESSION_NONE, TREE_COMPRESSION_GZIP, TREE_COMPRESSION_ZSTD };

/* Blocks for the next bytes: > 0, 0 at the end, -1 with ${err}. The bytes are good
 * until the next call. */
typedef ssize_t tree_pull(void *cookie, const void **bytes, struct err *err);
/* Takes bytes; -1 with ${err} stops the packing. */
typedef int tree_push(void *cookie, const void *bytes, size_t, struct err *);

/* Entries, files and bytes are the same at both ends, or something was lost. */
struct tree_result {
	uint64_t entries; /* as the archive has them, its root too */
	uint64_t files;   /* those of them that are no directories */
	uint64_t bytes;   /* of content, holes not counted */
	uint64_t skipped; /* no entry was made of it, or nothing of the entry; each was noted */
	uint64_t ignored; /* left out by patterns; a directory and all in it are one */
	uint64_t failed;  /* each was noted */
	bool complete;    /* the stream came to its end, whatever became of entries */
};

/* Modes, times to the nanosecond, symbolic and hard links, user.* attributes and holes
 * come out as they went in. Setuid, setgid and sticky bits are dropped; owners are ours.
 * An entry that is absolute, has "..", leads out by a link or is a device fails
 * (PERMISSION_DENIED or INVALID_ARGUMENT). Each file is written beside its name and
 * renamed; one larger than TREE_HELD_MAX when the next header has not withdrawn it, and
 * one that was comes to nothing. The syncing is once for the tree. ${root} is the directory to unpack into;
 * its own mode and time stay. */
struct tree_unpack {
	int root;
	tree_pull *pull;
	void (*note)(void *cookie, const char *text); /* may be NULL */
	void *cookie;
	bool links; /* symbolic links that stay inside are made; else they are noted and skipped */
	uint64_t max_entries, max_bytes; /* 0: TREE_ENTRIES_MAX; no limit */
};
int tree_unpack(const struct tree_unpack *, struct tree_result *, struct err *);

/*
 * ${name} beneath ${root} (a file, or a tree whose content appears as "./..."). Symbolic
 * links are packed as links; those that lead out, sockets, pipes, devices and what cannot
 * be opened are noted and skipped. What changes while it is read fails (ABORTED). A file
 * that shrinks or cannot be read on comes to no entry: one of up to TREE_HELD_MAX bytes has
 * not begun, and a larger one is filled up with zeros and withdrawn (TREE_WITHDRAWN).
 */
struct tree_pack {
	int root;
	const char *name; /* "." for all of it */
	enum tree_compression compression;
	tree_push *push;
	void (*note)(void *cookie, const char *text);
	void *cookie;
	const struct ignore *exclude; /* of paths beneath ${name}; may be NULL */
	bool git_ignore;   /* heed .gitignore files, also above the tree; leave .git out */
	bool follow_links; /* pack what symbolic links lead to, wherever that is */
};
int tree_pack(const struct tree_pack *, struct tree_result *, struct err *);

#endif
