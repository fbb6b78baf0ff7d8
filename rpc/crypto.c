#include "rpc/crypto.h"

/* The SHA256_* functions need no memory and cannot fail; the EVP ones, which
 * libcrypto would rather see used, can fail at each step. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdlib.h>

struct crypto_sha256 {
	SHA256_CTX context;
};

struct crypto_sha256 *crypto_sha256_create(void)
{
	struct crypto_sha256 *sha = malloc(sizeof(*sha));

	if (sha != NULL)
		SHA256_Init(&sha->context);
	return sha;
}

void crypto_sha256_update(struct crypto_sha256 *sha, const void *data, size_t len)
{
	SHA256_Update(&sha->context, data, len);
}

void crypto_sha256_value(struct crypto_sha256 *sha, uint8_t out[static CRYPTO_SHA256_SIZE])
{
	SHA256_Final(out, &sha->context);
}

void crypto_sha256_free(struct crypto_sha256 *sha)
{
	if (sha != NULL)
		OPENSSL_cleanse(sha, sizeof(*sha));
	free(sha);
}

void crypto_sha256(const void *data, size_t len, uint8_t out[static CRYPTO_SHA256_SIZE])
{
	struct crypto_sha256 sha;

	SHA256_Init(&sha.context);
	SHA256_Update(&sha.context, data, len);
	SHA256_Final(out, &sha.context);
	OPENSSL_cleanse(&sha, sizeof(sha));
}

bool crypto_equal(const void *a, const void *b, size_t len)
{
	return CRYPTO_memcmp(a, b, len) == 0;
}
