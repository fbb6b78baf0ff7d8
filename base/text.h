/* base/text.h: text that grows up to a limit, and text made safe to print. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Growing text, always NUL-terminated once something was added; never longer
 * than the limit given at birth. A failed add sticks: ${failed} stays true and
 * later adds do nothing, so one check at the end is enough. */
struct text {
	char *data;
	size_t len, cap, max;
	bool failed;
};

void text_init(struct text *, size_t max);
void text_free(struct text *);
void text_add(struct text *, const char *, size_t);
void text_addf(struct text *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void text_vaddf(struct text *, const char *fmt, va_list) __attribute__((format(printf, 2, 0)));

/* For text of a peer. Control characters, U+0080 to U+009F among them, are escaped. */
void text_add_json(struct text *, const char *, size_t); /* with quotes; bad UTF-8 becomes U+FFFD */
void text_add_logfmt(struct text *, const char *, size_t); /* as JSON, or bare if plain ASCII */
void text_add_plain(struct text *, const char *, size_t);  /* what is not printable as \xNN */

/* How many of the ${n} > 0 bytes are one character: well-formed UTF-8 (RFC 3629) that
 * is no control character. 0: none. */
size_t text_printable(const char *, size_t n);

/* Whole-string numbers in a range. INVALID_ARGUMENT names the text. */
int text_to_u64(const char *, uint64_t min, uint64_t max, uint64_t *out, struct err *);

/* Lower-case hex and back; out holds 2 * n + 1 bytes. */
void text_hex(const uint8_t *, size_t n, char *out);
int text_unhex(const char *, uint8_t *out, size_t n);

/* RFC 3339 in UTC, "2026-01-02T03:04:05Z"; ${out} holds 21 bytes. */
void text_time(int64_t unix_seconds, char out[static 21]);

#endif
