/*
 * transfer/tree.h: trees as tar streams. libarchive knows the format (pax, ustar,
 * gnu; plain, gzip, zstd) and nothing else; the file system is ours (openat2 beneath
 * a held directory), because libarchive's own extraction can be raced out of its
 * directory (docs/limits.md). Both functions block and pull or push bytes through
 * callbacks: run on a thread of their own.
 */
#ifndef TRANSFER_TREE_H
#define TRANSFER_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define TREE_ENTRIES_MAX 1000000
#define TREE_RATIO_MAX   200 /* unpacked bytes a packed byte, past the first 16 MiB */
#define TREE_DEPTH_MAX   128 /* directories within each other */
#define TREE_PATH_MAX    4096

enum tree_compression { TREE_COMPRESSION_NONE, TREE_COMPRESSION_GZIP, TREE_COMPRESSION_ZSTD };

/* Blocks for the next bytes: > 0, 0 at the end, -1 with ${err}. The bytes are good
 * until the next call. */
typedef ssize_t tree_pull(void *cookie, const void **bytes, struct err *);
/* Takes bytes; -1 with ${err} stops the packing. */
typedef int tree_push(void *cookie, const void *bytes, size_t, struct err *);

struct tree_result {
	uint64_t entries; /* as the archive has them, its root too */
	uint64_t files;   /* those of them that are no directories */
	uint64_t bytes;   /* of content */
	uint64_t skipped; /* each was noted */
};

/* Entries are refused or defused one by one: absolute names, "..", links that lead
 * out, devices and the like are errors that name the entry (PERMISSION_DENIED or
 * INVALID_ARGUMENT; nothing after it is unpacked); setuid, setgid and sticky bits
 * are dropped; owners are ours. Files are written as transfer/place.h does but for
 * the syncing, which is once for the tree. ${root} is the directory to unpack into. */
struct tree_unpack {
	int root;
	tree_pull *pull;
	void (*note)(void *cookie, const char *text); /* may be NULL */
	void *cookie;
	bool links; /* symbolic links that stay inside are made; else they are noted and skipped */
	uint64_t max_entries, max_bytes; /* 0: TREE_ENTRIES_MAX; no limit */
};
int tree_unpack(const struct tree_unpack *, struct tree_result *, struct err *);

/* ${name} beneath ${root} (a file, or a tree whose content appears as "./..."). Symbolic
 * links are packed as links. Sockets and devices are noted and skipped. A file that
 * shrinks while it is read is ABORTED. */
struct tree_pack {
	int root;
	const char *name; /* "." for all of it */
	enum tree_compression compression;
	tree_push *push;
	void (*note)(void *cookie, const char *text);
	void *cookie;
	const char *const *exclude; /* patterns as in .gitignore, ends with NULL; may be NULL */
};
int tree_pack(const struct tree_pack *, struct tree_result *, struct err *);

#endif
