/*
 * cli/carry.h: uploads, downloads and copies between sandboxes from their beginning to their end: where they go,
 * how many at a time, the progress, the interruption, and what is said of them.
 */
#ifndef CLI_CARRY_H
#define CLI_CARRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "cli/progress.h"
#include "cli/session.h"
#include "transfer/client.h"

#define CARRY_TRANSFERS_DEFAULT 4 /* copies at a time */
#define CARRY_TRANSFERS_MAX     16

/* One source. */
struct carry_item {
	bool up; /* into the sandbox */
	const char *sandbox;
	const char *source; /* "-": standard input, of an upload */
	const char *to;     /* NULL; or the sandbox it is copied to, without ever being here */

	/* What became of it: */
	char *target; /* where it went */
	bool is_tree;
	uint64_t files, bytes, skipped, us;
	uint64_t ignored; /* left out by patterns */
	uint64_t moved;   /* bytes that came or went now */
	uint64_t kept;    /* bytes that the same command need not move again */
	bool same;        /* it was there already (--if-exists skip) */
	bool has_digest;
	uint8_t digest[16]; /* of a file, XXH3-128 */
	struct err err;     /* code GRPC_OK: it is there */
};

struct carry_options {
	const char *dest; /* of all; NULL: beside us. "-": standard output, of a download */
	bool exact;       /* -T */
	bool fresh;       /* what an interrupted command left is not used */
	/* At a time; a single file has so many streams. 0: CARRY_TRANSFERS_DEFAULT files, and one
	 * stream for each, which is fastest where the way is short. */
	unsigned transfers;
	enum progress_style progress;
	const char *const *exclude; /* ends with NULL; may be NULL */
	bool git_ignore;            /* uploads of directories heed .gitignore */
	bool follow_links;          /* and have what symbolic links lead to */
	enum transfer_exists exists;
};

/* Copies all of them; one that fails does not stop the others. Returns 0, or -1 with
 * ${err} if it could not even begin. ${signal} gets the one that ended it, or 0. */
int carry(struct session *, const struct carry_options *, struct carry_item *, size_t count,
    int *signal, struct err *);

/* Of a config_key whose field is such a number: "auto", or from 1 to CARRY_TRANSFERS_MAX. */
int carry_parse_transfers(void *field, const char *value, struct err *err);

/* Where an item goes, and whether it is a tree. What is at DEST is asked for once. */
struct carry_plan {
	struct session *session;
	const struct carry_options *options;
	bool several, asked;
	int dest_kind; /* enum copy_kind, if asked */
};
int carry_plan(struct carry_plan *, struct carry_item *, struct err *);

/* Says it and returns the exit code. Of one item the result is an object, of several
 * (${list}) one that holds them; it goes to standard output with -o json, or to standard
 * error if a copy went there. */
int carry_report(const struct cli *, const struct carry_options *, const struct carry_item *,
    size_t count, bool list, int signal);
void carry_items_free(struct carry_item *, size_t count); /* what is in them */

#endif
