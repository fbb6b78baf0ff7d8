/* base/digest.h: XXH3-128 of bytes that come in pieces (xxhash, canonical form). */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_SIZE 16

struct digest;

struct digest *digest_create(void); /* NULL: no memory */
void digest_free(struct digest *);
void digest_reset(struct digest *);
void digest_update(struct digest *, const void *, size_t);
void digest_value(const struct digest *, uint8_t out[static DIGEST_SIZE]);

/* Of what is there whole. */
void digest_of(const void *, size_t, uint8_t out[static DIGEST_SIZE]);

/* XXH3-64 of bytes that are all here. Who does not know ${seed} cannot make two that agree. */
uint64_t digest_short(const void *, size_t, uint64_t seed);

#endif
