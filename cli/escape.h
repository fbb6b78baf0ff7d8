/*
 * cli/escape.h: keys that are for us and not for the remote side, as ssh has them, at the
 * beginning of a line: "~." leaves, "~~" is one "~".
 */
#ifndef CLI_ESCAPE_H
#define CLI_ESCAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum escape_state { ESCAPE_LINE_BEGIN, ESCAPE_TILDE, ESCAPE_TEXT };

struct escape {
	enum escape_state state; /* zeroed: at the beginning of a line */
};

/* Copies what is to be sent of ${n} bytes to ${out}, which has room for ${n} + 1, and
 * returns how many they are. With ${leave} set, what follows "~." is not looked at. */
size_t escape_filter(struct escape *, const uint8_t *in, size_t n, uint8_t *out, bool *leave);

#endif
