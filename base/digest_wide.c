/*
 * XXH3 for processors with AVX2, from the library's own header: what Debian compiles it for has
 * vectors of half that width. The build gives this file alone the wider instruction set.
 */
#include "base/digest_wide.h"

#ifdef __AVX2__

#define XXH_INLINE_ALL
#include <xxhash.h>

bool digest_wide_is_there(void)
{
	return __builtin_cpu_supports("avx2");
}

void digest_wide_update(void *state, const void *data, size_t n)
{
	XXH3_128bits_update(state, data, n);
}

#else

#include <stdlib.h>

bool digest_wide_is_there(void)
{
	return false;
}

void digest_wide_update(void *state, const void *data, size_t n)
{
	(void)state;
	(void)data;
	(void)n;
	abort(); /* it is not there */
}

#endif
