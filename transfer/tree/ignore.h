/*
 * transfer/tree/ignore.h: patterns as in .gitignore, and what they say of a path.
 *
 * One struct ignore is the patterns of one place: of one .gitignore file, or of a command
 * line. Who walks a tree keeps one for each directory that has a file, asks the innermost
 * first, and does not enter a directory that is out: so nothing below it can be let in
 * again, as git has it. The meaning is that of gitignore(5); a pattern that can match
 * nothing (an unfinished class, a backslash at its end) is no error there and none here.
 *
 * Matching neither allocates nor recurses, and is at worst quadratic in the path's length
 * for each pattern. Any thread; a parsed one is never written.
 */
#ifndef TRANSFER_TREE_IGNORE_H
#define TRANSFER_TREE_IGNORE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define IGNORE_TEXT_MAX ((size_t)1 << 20) /* bytes of one file, or of all patterns of a list */

enum ignore_answer {
	IGNORE_SILENT, /* no pattern matches: ask who comes next */
	IGNORE_OUT,
	IGNORE_IN /* let in again by "!" */
};

struct ignore;

/* ${text} is a file's content: a pattern a line, "#" for comments. NULL:
 * RESOURCE_EXHAUSTED, too long or want of memory. */
struct ignore *ignore_parse(const char *text, size_t len, struct err *);

/* ${patterns} ends with NULL. Each is one pattern to its last byte. */
struct ignore *ignore_list(const char *const *patterns, struct err *);
void ignore_free(struct ignore *);

/* Of a path relative to the place of the patterns: "a/b", not "./a/b", "/a" or "a/". The
 * last pattern that matches counts. A symbolic link is no directory. */
enum ignore_answer ignore_match(const struct ignore *, const char *path, bool directory);

/* Whether the path is out, or a directory on the way to it. */
bool ignore_covers(const struct ignore *, const char *path, bool directory);

#endif
