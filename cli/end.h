/*
 * cli/end.h: one end of a copy, as it is typed: NAME:PATH is in a sandbox, - is standard
 * input or output, all else is a path here. A path here with a colon in it is given as
 * ./a:b or /x/a:b, as docker has it.
 */
#ifndef CLI_END_H
#define CLI_END_H

#include "base/err.h"

enum end_kind { END_KIND_LOCAL, END_KIND_REMOTE, END_KIND_STREAM };

struct end {
	enum end_kind kind;
	char *sandbox;    /* of END_KIND_REMOTE */
	const char *path; /* in the word; "." if it is empty there: the working directory */
};

/* ${word} is lent to the end. -1: no memory. end_free() whatever the result. */
int end_parse(const char *word, struct end *, struct err *);
void end_free(struct end *);

#endif
