/* cli/nearest.h: which word was meant by one that is none, for a "did you mean". */
#ifndef CLI_NEAREST_H
#define CLI_NEAREST_H

#include <stddef.h>

#define NEAREST_LEN_MAX 32 /* longer words are never near */

struct nearest {
	const char *word;
	size_t len;
	const char *best; /* NULL: none is near */
	size_t distance;
};

/* ${word} is lent, and has not to end behind its ${len} bytes. */
void nearest_begin(struct nearest *, const char *word, size_t len);

/* A word that would have been good; lent. It is near if a third of it at most differs, by
 * letters that are missing, too many, others or swapped, or if it begins like the word. */
void nearest_try(struct nearest *, const char *candidate);

#endif
