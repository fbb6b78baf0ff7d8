#include "gateway/ssh_name.h"

#include <stdio.h>
#include <string.h>

#include "base/random.h"
#include "base/text.h"

#define TOKEN_PREFIX "ssh-"

static bool is_hex(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f')))
			return false;
	return true;
}

static bool is_sandbox(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!((text[i] >= 'a' && text[i] <= 'z') || (text[i] >= '0' && text[i] <= '9') ||
			text[i] == '-'))
			return false;
	return len > 0 && len <= NAMES_SANDBOX_MAX;
}

bool ssh_name_parse(const char *user, size_t len, char sandbox[static NAMES_SANDBOX_MAX + 1],
    char id[static SSH_NAME_ID_MAX + 1])
{
	size_t name = len - SSH_NAME_ID_MAX - 1;

	if (len <= SSH_NAME_ID_MAX + 1 || len > SSH_NAME_USER_MAX || user[name] != '.' ||
	    !is_sandbox(user, name) || !is_hex(user + name + 1, SSH_NAME_ID_MAX))
		return false;
	memcpy(sandbox, user, name);
	sandbox[name] = '\0';
	memcpy(id, user + name + 1, SSH_NAME_ID_MAX);
	id[SSH_NAME_ID_MAX] = '\0';
	return true;
}

void ssh_name_make_id(char id[static SSH_NAME_ID_MAX + 1])
{
	uint8_t bits[SSH_NAME_ID_MAX / 2];

	random_bytes(bits, sizeof(bits));
	text_hex(bits, sizeof(bits), id);
}

void ssh_name_make_token(
    const char *id, char token[static SSH_NAME_TOKEN_SIZE], uint8_t hash[static CRYPTO_SHA256_SIZE])
{
	uint8_t secret[SSH_NAME_SECRET_SIZE];
	char hex[2 * SSH_NAME_SECRET_SIZE + 1];

	random_bytes(secret, sizeof(secret));
	text_hex(secret, sizeof(secret), hex);
	snprintf(token, SSH_NAME_TOKEN_SIZE, TOKEN_PREFIX "%.16s.%s", id, hex);
	crypto_sha256(token, SSH_NAME_TOKEN_SIZE - 1, hash);
	explicit_bzero(secret, sizeof(secret));
	explicit_bzero(hex, sizeof(hex));
}

bool ssh_name_parse_token(
    const char *token, char id[static SSH_NAME_ID_MAX + 1], uint8_t hash[static CRYPTO_SHA256_SIZE])
{
	const char *after = token + sizeof(TOKEN_PREFIX) - 1;

	/* Of the form there is no secret, nor of the id. */
	if (strlen(token) != SSH_NAME_TOKEN_SIZE - 1 ||
	    memcmp(token, TOKEN_PREFIX, sizeof(TOKEN_PREFIX) - 1) != 0 ||
	    after[SSH_NAME_ID_MAX] != '.' || !is_hex(after, SSH_NAME_ID_MAX))
		return false;
	memcpy(id, after, SSH_NAME_ID_MAX);
	id[SSH_NAME_ID_MAX] = '\0';
	crypto_sha256(token, SSH_NAME_TOKEN_SIZE - 1, hash);
	return true;
}
