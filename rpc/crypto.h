/* rpc/crypto.h: SHA-256 and comparison in constant time (libcrypto). */
#ifndef RPC_CRYPTO_H
#define RPC_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRYPTO_SHA256_SIZE 32

struct crypto_sha256;

struct crypto_sha256 *crypto_sha256_create(void); /* NULL: no memory */
void crypto_sha256_update(struct crypto_sha256 *, const void *, size_t);
void crypto_sha256_value(
    struct crypto_sha256 *, uint8_t out[static CRYPTO_SHA256_SIZE]); /* ends it */
void crypto_sha256_free(struct crypto_sha256 *);

/* In one go. */
void crypto_sha256(const void *, size_t, uint8_t out[static CRYPTO_SHA256_SIZE]);

/* Takes the same time whatever the bytes are. */
bool crypto_equal(const void *, const void *, size_t);

#endif
