#include "gateway/paging.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "rpc/crypto.h"

/* A token is the hex of a checksum over scope and key, and of the key. The checksum
 * keeps mistakes out, not forgers: a key grants nothing. */
#define SUM_SIZE        8
#define TOKEN_BYTES_MAX 512

int paging_size(int32_t asked, size_t *size, struct err *err)
{
	if (asked < 0)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "page_size is %d; it must be 0 (the default, %d) or more", asked,
		    PAGING_DEFAULT);
	*size = asked == 0 ? PAGING_DEFAULT : (size_t)asked;
	if (*size > PAGING_MAX)
		*size = PAGING_MAX;
	return 0;
}

static int checksum(const char *scope, const char *last, size_t len, uint8_t out[SUM_SIZE])
{
	uint8_t full[CRYPTO_SHA256_SIZE];
	struct crypto_sha256 *sha = crypto_sha256_create();

	if (sha == NULL)
		return -1;
	crypto_sha256_update(sha, scope, strlen(scope) + 1);
	crypto_sha256_update(sha, last, len);
	crypto_sha256_value(sha, full);
	crypto_sha256_free(sha);
	memcpy(out, full, SUM_SIZE);
	return 0;
}

char *paging_token(const char *scope, const char *last)
{
	size_t len = strlen(last);
	uint8_t raw[TOKEN_BYTES_MAX];
	char *text;

	if (len > sizeof(raw) - SUM_SIZE || checksum(scope, last, len, raw) != 0)
		return NULL;
	memcpy(raw + SUM_SIZE, last, len);
	if ((text = malloc(2 * (SUM_SIZE + len) + 1)) != NULL)
		text_hex(raw, SUM_SIZE + len, text);
	return text;
}

int paging_after(const char *token, const char *scope, char **last, struct err *err)
{
	uint8_t raw[TOKEN_BYTES_MAX], sum[SUM_SIZE];
	size_t len = strlen(token) / 2;

	if (token[0] == '\0') {
		*last = strdup("");
		return *last != NULL ? 0 : err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	}
	if (strlen(token) % 2 != 0 || len <= SUM_SIZE || len > sizeof(raw) ||
	    text_unhex(token, raw, len) != 0 ||
	    checksum(scope, (const char *)raw + SUM_SIZE, len - SUM_SIZE, sum) != 0 ||
	    memcmp(raw, sum, SUM_SIZE) != 0)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "page_token is not one that this list gave; start again without it");
	*last = strndup((const char *)raw + SUM_SIZE, len - SUM_SIZE);
	return *last != NULL ? 0 : err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}
