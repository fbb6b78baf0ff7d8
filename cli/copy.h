/*
 * cli/copy.h: where a copy goes. The rules are cp's; tests/scenario/lands.tsv has them,
 * for docs/cli.md and for the test of each row.
 */
#ifndef CLI_COPY_H
#define CLI_COPY_H

#include <stdbool.h>

#include "base/err.h"

enum copy_kind { COPY_KIND_NONE, COPY_KIND_FILE, COPY_KIND_DIRECTORY };

struct copy_case {
	const char *source;
	enum copy_kind source_kind; /* FILE or DIRECTORY */
	const char *dest;           /* NULL: none given */
	enum copy_kind dest_kind;   /* what is there now; not looked at unless copy_asks() */
	bool exact;                 /* -T: never into DEST, always as DEST */
	bool several;               /* one of several: DEST has to be a directory */
};

/* Whether the rules depend on what is at DEST now. */
bool copy_asks(const struct copy_case *);

/* The path of the copy, of a directory the path its content goes into; the caller frees
 * it. NULL: INVALID_ARGUMENT, FAILED_PRECONDITION (a directory over a file). */
char *copy_target(const struct copy_case *, struct err *);

/* DEST says that it is a directory, be it there or not: "d/", ".", "..", "a/.". */
bool copy_is_folder_name(const char *dest);

#endif
