#include "cli/escape.h"

static enum escape_state after(uint8_t key)
{
	return key == '\r' || key == '\n' ? ESCAPE_LINE_BEGIN : ESCAPE_TEXT;
}

size_t escape_filter(struct escape *e, const uint8_t *in, size_t n, uint8_t *out, bool *leave)
{
	size_t len = 0;

	*leave = false;
	for (size_t i = 0; i < n; i++) {
		bool was_tilde = e->state == ESCAPE_TILDE;

		if (was_tilde && in[i] == '.') {
			*leave = true;
			return len;
		}
		if (e->state == ESCAPE_LINE_BEGIN && in[i] == '~') {
			e->state = ESCAPE_TILDE; /* what it means is said by the next key */
			continue;
		}
		e->state = after(in[i]);
		if (was_tilde && in[i] != '~')
			out[len++] = '~';
		out[len++] = in[i];
	}
	return len;
}
