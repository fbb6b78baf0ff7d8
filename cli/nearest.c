#include "cli/nearest.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* The least number of letters to add, remove, replace or swap with their neighbour. */
static size_t distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	uint8_t d[NEAREST_LEN_MAX + 1][NEAREST_LEN_MAX + 1];

	for (size_t i = 0; i <= a_len; i++)
		d[i][0] = (uint8_t)i;
	for (size_t j = 0; j <= b_len; j++)
		d[0][j] = (uint8_t)j;
	for (size_t i = 1; i <= a_len; i++) {
		for (size_t j = 1; j <= b_len; j++) {
			size_t n = d[i - 1][j - 1] + (size_t)(a[i - 1] != b[j - 1]);

			n = least(n, least(d[i - 1][j], d[i][j - 1]) + 1U);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				n = least(n, d[i - 2][j - 2] + 1U);
			d[i][j] = (uint8_t)n;
		}
	}
	return d[a_len][b_len];
}

void nearest_begin(struct nearest *n, const char *word, size_t len)
{
	*n = (struct nearest){ .word = word, .len = len, .distance = SIZE_MAX };
}

void nearest_try(struct nearest *n, const char *candidate)
{
	size_t len = strlen(candidate), far;

	if (n->len == 0 || n->len > NEAREST_LEN_MAX || len > NEAREST_LEN_MAX)
		return;
	bool begins = n->len >= 2 && n->len < len && memcmp(n->word, candidate, n->len) == 0;
	far = begins ? 0 : distance(n->word, n->len, candidate, len);
	if (3 * far <= len && far < n->distance) {
		n->best = candidate;
		n->distance = far;
	}
}
