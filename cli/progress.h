/*
 * cli/progress.h: how far a transfer is, in one line on standard error that is painted
 * over: only on a terminal, only after a second, never with --quiet.
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "cli/cli.h"

#define PROGRESS_FIRST_MS   1000
#define PROGRESS_REPAINT_MS 250
#define PROGRESS_NOTES_MAX  20 /* notes printed, of any number; all with --verbose */

struct progress;

/* ${name} is what is being moved; lent. */
struct progress *progress_create(struct loop *, const struct cli *, const char *name, struct err *);

/* ${total} 0: not known. */
void progress_update(struct progress *, uint64_t bytes, uint64_t total);

/* A line for the person above the bar. Any thread. */
void progress_note(struct progress *, const char *text);

/* Clears the line. NULL is legal. */
void progress_free(struct progress *);

/* What is painted. */
struct progress_view {
	const char *name;
	uint64_t bytes, total; /* total 0: not known */
	uint64_t rate;         /* bytes a second; 0: not known */
};

/* Writes at most ${columns} columns of text; the name gives way. ${size} is of ${out}. */
void progress_format(const struct progress_view *, unsigned columns, char *out, size_t size);

#endif
