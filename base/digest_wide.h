/* base/digest_wide.h: digest.c's inner loop for processors that can do more than Debian's
 * library asks of them. */
#ifndef BASE_DIGEST_WIDE_H
#define BASE_DIGEST_WIDE_H

#include <stdbool.h>
#include <stddef.h>

bool digest_wide_is_there(void);

/* XXH3_128bits_update() on the library's own XXH3_state_t. Only if it is there. */
void digest_wide_update(void *state, const void *, size_t);

#endif
