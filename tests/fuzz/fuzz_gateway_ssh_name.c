/* User names and tokens that SSH clients come with. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/ssh_name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char sandbox[NAMES_SANDBOX_MAX + 1], id[SSH_NAME_ID_MAX + 1];
	uint8_t hash[CRYPTO_SHA256_SIZE];
	char *text = malloc(size + 1);

	if (text == NULL)
		return 0;
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	/* Both halves together are what was read, and nothing else. */
	if (ssh_name_parse(text, size, sandbox, id) &&
	    (strlen(id) != SSH_NAME_ID_MAX || strlen(sandbox) + 1 + strlen(id) != size ||
		strlen(text) != size))
		abort();
	if (ssh_name_parse_token(text, id, hash) && strlen(id) != SSH_NAME_ID_MAX)
		abort();
	free(text);
	return 0;
}
