#include "gateway/tokens.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/random.h"
#include "base/text.h"

struct tokens {
	pthread_rwlock_t lock;
	struct map *hashes; /* sandbox id -> struct hash */
};

struct hash {
	uint8_t bytes[CRYPTO_SHA256_SIZE];
};

struct tokens *tokens_create(struct err *err)
{
	struct tokens *t = calloc(1, sizeof(*t));

	if (t == NULL || (t->hashes = map_create()) == NULL) {
		free(t);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	pthread_rwlock_init(&t->lock, NULL);
	return t;
}

static bool free_hash(void *cookie, const char *id, void *value)
{
	(void)cookie;
	(void)id;
	free(value);
	return true;
}

void tokens_free(struct tokens *t)
{
	if (t == NULL)
		return;
	map_each(t->hashes, free_hash, NULL);
	map_free(t->hashes);
	pthread_rwlock_destroy(&t->lock);
	free(t);
}

void tokens_make(const char *sandbox_id, char text[static TOKENS_TEXT_SIZE],
    uint8_t hash[static CRYPTO_SHA256_SIZE])
{
	uint8_t secret[TOKENS_SECRET_SIZE];

	random_bytes(secret, sizeof(secret));
	memcpy(text, sandbox_id, NAMES_ID_MAX);
	text[NAMES_ID_MAX] = '.';
	text_hex(secret, sizeof(secret), text + NAMES_ID_MAX + 1);
	crypto_sha256(text, strlen(text), hash);
	explicit_bzero(secret, sizeof(secret));
}

int tokens_set(struct tokens *t, const char *sandbox_id,
    const uint8_t hash[static CRYPTO_SHA256_SIZE], struct err *err)
{
	struct hash *kept;
	int result = 0;

	pthread_rwlock_wrlock(&t->lock);
	kept = map_get(t->hashes, sandbox_id);
	if (kept == NULL) {
		kept = malloc(sizeof(*kept));
		if (kept == NULL || map_put(t->hashes, sandbox_id, kept) != 0) {
			free(kept);
			kept = NULL;
			result = err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		}
	}
	if (kept != NULL)
		memcpy(kept->bytes, hash, sizeof(kept->bytes));
	pthread_rwlock_unlock(&t->lock);
	return result;
}

void tokens_revoke(struct tokens *t, const char *sandbox_id)
{
	pthread_rwlock_wrlock(&t->lock);
	free(map_remove(t->hashes, sandbox_id));
	pthread_rwlock_unlock(&t->lock);
}

bool tokens_verify(struct tokens *t, const char *text, char sandbox_id[static NAMES_ID_MAX + 1])
{
	uint8_t hash[CRYPTO_SHA256_SIZE];
	struct hash *kept;
	bool good = false;

	/* Of the length there is no secret, nor of the id. */
	if (strlen(text) != TOKENS_TEXT_SIZE - 1 || text[NAMES_ID_MAX] != '.')
		return false;
	memcpy(sandbox_id, text, NAMES_ID_MAX);
	sandbox_id[NAMES_ID_MAX] = '\0';
	crypto_sha256(text, TOKENS_TEXT_SIZE - 1, hash);
	pthread_rwlock_rdlock(&t->lock);
	if ((kept = map_get(t->hashes, sandbox_id)) != NULL)
		good = crypto_equal(kept->bytes, hash, sizeof(hash));
	pthread_rwlock_unlock(&t->lock);
	return good;
}
