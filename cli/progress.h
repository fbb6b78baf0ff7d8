/*
 * cli/progress.h: how far transfers are, on standard error, a second after they began.
 *
 *	bar    one line that is painted over, four times a second
 *	plain  a line every five seconds, and one at the end
 *	json   JSON Lines: {"event": "progress", "name", "bytes", "total", "rate", ...}
 *	none
 *	auto   bar on a terminal, else none; none with --quiet
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "base/err.h"
#include "base/loop.h"
#include "cli/cli.h"

#define PROGRESS_FIRST_MS   1000
#define PROGRESS_REPAINT_MS 250
#define PROGRESS_LINE_MS    5000 /* between plain lines */
#define PROGRESS_NOTES_MAX  20   /* notes printed, of any number; all with --verbose */

enum progress_style {
	PROGRESS_STYLE_AUTO,
	PROGRESS_STYLE_BAR,
	PROGRESS_STYLE_PLAIN,
	PROGRESS_STYLE_JSON,
	PROGRESS_STYLE_NONE
};
config_parse progress_parse_style;

struct progress;

struct progress *progress_create(
    struct loop *, const struct cli *, enum progress_style, struct err *);

/* What is being moved, also if others chose its name; copied. */
void progress_name(struct progress *, const char *name);

/* Or how many of how many have been. */
void progress_count(struct progress *, size_t done, size_t count);

/* ${total} 0: not known. */
void progress_update(struct progress *, uint64_t bytes, uint64_t total);

/* A line for the person above the bar. Any thread. */
void progress_note(struct progress *, const char *text);

/* Clears the line, or says the last. NULL is legal. */
void progress_free(struct progress *);

/* What is painted. */
struct progress_view {
	const char *name;
	uint64_t bytes, total; /* total 0: not known */
	uint64_t rate;         /* bytes a second; 0: not known */
};

/* Writes at most ${columns} columns of text; the name gives way. ${size} is of ${out}. */
void progress_format(const struct progress_view *, unsigned columns, char *out, size_t size);

/* One line of JSON without its newline. */
void progress_format_json(const struct progress_view *, char *out, size_t size);

#endif
