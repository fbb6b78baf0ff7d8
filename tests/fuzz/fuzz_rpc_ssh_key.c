/* Lines and bytes of public keys, and files of private ones. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/ssh_key.h"
#include "rpc/ssh_key_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was taken as a line is taken as bytes too, and is the same key. */
static void check(const struct ssh_key *key)
{
	struct ssh_key again;
	struct err err;

	if (key->len > SSH_KEY_BLOB_MAX || ssh_key_parse(key->blob, key->len, &again, &err) != 0 ||
	    again.len != key->len || strcmp(again.type, key->type) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ssh_key key;
	struct err err;
	char *line = malloc(size + 1);

	if (line == NULL)
		return 0;
	if (size > 0)
		memcpy(line, data, size);
	line[size] = '\0';
	if (ssh_key_parse_line(line, &key, &err) == 0)
		check(&key);
	if (ssh_key_parse(data, size, &key, &err) == 0)
		check(&key);
	if (ssh_key_file_read(line, size, &key, &err) == 0)
		check(&key);
	free(line);
	return 0;
}
