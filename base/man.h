/*
 * base/man.h: manual pages, in the man macros of roff, made of what --help prints: usage,
 * table of options, and what is to be said behind it.
 */
#ifndef BASE_MAN_H
#define BASE_MAN_H

#include <stdio.h>

#include "base/config.h"

/* Of a program without verbs. */
struct man_page {
	const char *name;    /* "towline-gateway" */
	const char *section; /* "8" */
	const char *summary; /* half a sentence */
	const char *usage;   /* "usage: ..." to the first empty line; then what it does */
	const struct config_key *keys;
	/* Paragraphs. A line that ends with a colon is the heading of the next: "exit status:".
	 * Lines that begin with a space stay as they are. */
	const char *epilogue;
	const char *see_also; /* "towline(1), towline-supervisor(8)" */
};

void man_page(const struct man_page *, FILE *);

/* Its pieces: */
void man_title(const char *name, const char *section, const char *summary, FILE *);
void man_heading(const char *title, FILE *);      /* in capitals */
void man_text(const char *text, FILE *);          /* paragraphs, as in the epilogue */
void man_keys(const struct config_key *, FILE *); /* NULL: none */

#endif
