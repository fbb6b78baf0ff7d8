/*
 * cli/carry.h: an upload or a download from its beginning to its end: where it goes, the
 * progress, the interruption, and what is said of it.
 */
#ifndef CLI_CARRY_H
#define CLI_CARRY_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/session.h"

struct carry_options {
	const char *sandbox;
	const char *source;         /* "-": standard input, of an upload */
	const char *dest;           /* NULL: beside us. "-": standard output, of a download */
	bool exact;                 /* -T */
	const char *const *exclude; /* ends with NULL; may be NULL */
};

struct carry_result {
	char *target; /* where it went */
	uint64_t files, bytes, skipped, us;
	bool has_digest;
	uint8_t digest[16]; /* of a file, XXH3-128 */
	int signal;         /* that ended it; 0: none */
};

/* carry_result_free() whatever the result. -1 with signal set: it was interrupted. */
int carry_upload(
    struct session *, const struct carry_options *, struct carry_result *, struct err *);
int carry_download(
    struct session *, const struct carry_options *, struct carry_result *, struct err *);
void carry_result_free(struct carry_result *);

/* Says it (${verb} is "uploaded") and returns the exit code. Result goes to ${out} as JSON
 * with -o json. */
int carry_report(const struct cli *, const char *verb, const struct carry_options *,
    const struct carry_result *, FILE *out, struct err *);

#endif
