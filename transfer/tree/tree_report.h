/* transfer/tree/tree_report.h: what packing and unpacking say of single entries. Private to the room. */
#ifndef TRANSFER_TREE_TREE_REPORT_H
#define TRANSFER_TREE_TREE_REPORT_H

#include "base/err.h"
#include "transfer/tree/tree.h"

struct tree_report {
	void (*note)(void *cookie, const char *text); /* may be NULL */
	void *cookie;
	struct tree_result *result;
	struct err first; /* why the first entry failed */
};

/* "skipped NAME: WHY", counted. */
void tree_report_skip(struct tree_report *, const char *path, const char *why);

/* The text names the entry. "failed ...", counted. */
void tree_report_fail(struct tree_report *, const struct err *why);

/* Without counting. */
void tree_report_say(struct tree_report *, const char *path, const char *what);

/* 0, or -1 with how many failed and why the first of them did. */
int tree_report_end(const struct tree_report *, struct err *);

#endif
