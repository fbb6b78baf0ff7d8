#include "base/digest.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/digest_wide.h"

struct digest {
	XXH3_state_t *state;
	bool wide;
};

struct digest *digest_create(void)
{
	struct digest *d = malloc(sizeof(*d));

	if (d == NULL || (d->state = XXH3_createState()) == NULL) {
		free(d);
		return NULL;
	}
	d->wide = digest_wide_is_there();
	digest_reset(d);
	return d;
}

void digest_free(struct digest *d)
{
	if (d == NULL)
		return;
	XXH3_freeState(d->state);
	free(d);
}

void digest_reset(struct digest *d)
{
	XXH3_128bits_reset(d->state);
}

void digest_update(struct digest *d, const void *data, size_t n)
{
	if (d->wide)
		digest_wide_update(d->state, data, n);
	else
		XXH3_128bits_update(d->state, data, n);
}

void digest_value(const struct digest *d, uint8_t out[static DIGEST_SIZE])
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(d->state));
	memcpy(out, canonical.digest, DIGEST_SIZE);
}

void digest_of(const void *data, size_t n, uint8_t out[static DIGEST_SIZE])
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, n));
	memcpy(out, canonical.digest, DIGEST_SIZE);
}

uint64_t digest_short(const void *data, size_t n, uint64_t seed)
{
	return XXH3_64bits_withSeed(data, n, seed);
}
