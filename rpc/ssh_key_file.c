#include "rpc/ssh_key_file.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/random.h"
#include "rpc/crypto.h"
#include "rpc/meta_wire.h"
#include "rpc/ssh_wire.h"

#define BEGIN     "-----BEGIN OPENSSH PRIVATE KEY-----\n"
#define END       "-----END OPENSSH PRIVATE KEY-----\n"
#define MAGIC     "openssh-key-v1" /* with its NUL */
#define COLUMNS   70
#define PAD_TO    8
#define BYTES_MAX 400 /* of what is base64 in the file */
#define FILE_MAX  4096

#define SIZE SSH_KEY_ED25519_SIZE

/* The public half of a private one. */
static int derive(
    const uint8_t seed[static SIZE], uint8_t public_half[static SIZE], struct err *err)
{
	EVP_PKEY *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, SIZE);
	size_t len = SIZE;
	bool done = pair != NULL && EVP_PKEY_get_raw_public_key(pair, public_half, &len) == 1 &&
	    len == SIZE;

	EVP_PKEY_free(pair);
	if (done)
		return 0;
	ERR_clear_error();
	return err_set(err, GRPC_RESOURCE_EXHAUSTED, "libcrypto cannot make an Ed25519 key");
}

/* The part that would be encrypted, had it a passphrase. */
static void put_private(struct ssh_wire_out *out, const uint8_t seed[static SIZE],
    const uint8_t public_half[static SIZE], const char *comment)
{
	uint8_t inner[BYTES_MAX], both[2 * SIZE], check[4];
	struct ssh_wire_out in = { .at = inner, .size = sizeof(inner) };

	memcpy(both, seed, SIZE);
	memcpy(both + SIZE, public_half, SIZE);
	random_bytes(check, sizeof(check));
	ssh_wire_put(&in, check, sizeof(check));
	ssh_wire_put(&in, check, sizeof(check));
	ssh_wire_put_text(&in, "ssh-ed25519");
	ssh_wire_put_string(&in, public_half, SIZE);
	ssh_wire_put_string(&in, both, sizeof(both));
	ssh_wire_put_text(&in, comment);
	for (uint8_t pad = 1; in.len % PAD_TO != 0; pad++)
		ssh_wire_put(&in, &pad, 1);
	out->failed = out->failed || in.failed;
	ssh_wire_put_string(out, inner, in.len);
	explicit_bzero(both, sizeof(both));
	explicit_bzero(inner, sizeof(inner));
}

static void armour(const uint8_t *bytes, size_t len, char text[static SSH_KEY_FILE_SIZE])
{
	char base64[META_BASE64_SIZE(BYTES_MAX)];
	size_t n = meta_base64_encode(bytes, len, base64), at = 0;

	while (n % 4 != 0)
		base64[n++] = '=';
	at += (size_t)snprintf(text, SSH_KEY_FILE_SIZE, "%s", BEGIN);
	for (size_t from = 0; from < n; from += COLUMNS)
		at += (size_t)snprintf(text + at, SSH_KEY_FILE_SIZE - at, "%.*s\n",
		    (int)(n - from < COLUMNS ? n - from : COLUMNS), base64 + from);
	snprintf(text + at, SSH_KEY_FILE_SIZE - at, "%s", END);
	explicit_bzero(base64, sizeof(base64));
}

int ssh_key_file_make(const char *comment, char text[static SSH_KEY_FILE_SIZE],
    struct ssh_key *public_key, struct err *err)
{
	uint8_t seed[SIZE], public_half[SIZE], bytes[BYTES_MAX];
	char short_comment[SSH_KEY_COMMENT_MAX + 1];
	struct ssh_wire_out out = { .at = bytes, .size = sizeof(bytes) };
	int result;

	snprintf(short_comment, sizeof(short_comment), "%s", comment);
	random_bytes(seed, sizeof(seed));
	result = derive(seed, public_half, err);
	if (result == 0) {
		ssh_key_set_ed25519(public_key, public_half);
		ssh_wire_put(&out, MAGIC, sizeof(MAGIC));
		ssh_wire_put_text(&out, "none"); /* cipher */
		ssh_wire_put_text(&out, "none"); /* what makes a key of a passphrase */
		ssh_wire_put_text(&out, "");
		ssh_wire_put_u32(&out, 1);
		ssh_wire_put_string(&out, public_key->blob, public_key->len);
		put_private(&out, seed, public_half, short_comment);
		armour(bytes, out.len, text);
	}
	explicit_bzero(seed, sizeof(seed));
	explicit_bzero(bytes, sizeof(bytes));
	return result;
}

/* Reading. */

/* The bytes between the two lines; -1: there are none. */
static ptrdiff_t unarmour(const char *text, size_t len, uint8_t out[static FILE_MAX])
{
	const char *end = memmem(text, len, END, sizeof(END) - 2); /* its newline may be missing */
	char base64[FILE_MAX];
	size_t n = 0;
	ptrdiff_t result;

	if (len > FILE_MAX || len < sizeof(BEGIN) || memcmp(text, BEGIN, sizeof(BEGIN) - 1) != 0 ||
	    end == NULL)
		return -1;
	for (const char *at = text + sizeof(BEGIN) - 1; at < end; at++)
		if (*at != '\n' && *at != '\r')
			base64[n++] = *at;
	result = meta_base64_decode(base64, n, out);
	explicit_bzero(base64, sizeof(base64));
	return result;
}

/* The two halves of the private section; false: it is none. */
static bool read_private(
    struct ssh_wire_in *in, const uint8_t **public_half, const uint8_t **private_half)
{
	uint32_t check = ssh_wire_u32(in);
	size_t public_len, private_len, comment_len;

	if (check != ssh_wire_u32(in) || !ssh_wire_is(in, "ssh-ed25519"))
		return false;
	*public_half = ssh_wire_string(in, &public_len);
	*private_half = ssh_wire_string(in, &private_len);
	ssh_wire_string(in, &comment_len);
	if (in->failed || public_len != SIZE || private_len != 2 * (size_t)SIZE)
		return false;
	for (uint8_t pad = 1; in->left > 0; pad++, in->at++, in->left--)
		if (*in->at != pad)
			return false;
	return true;
}

static int read_bytes(const uint8_t *bytes, size_t len, struct ssh_key *key, struct err *err)
{
	struct ssh_wire_in in = { .at = bytes + sizeof(MAGIC), .left = len - sizeof(MAGIC) };
	const uint8_t *outer, *public_half, *private_half;
	size_t outer_len;
	uint8_t derived[SIZE];

	if (!ssh_wire_is(&in, "none") || !ssh_wire_is(&in, "none") || !ssh_wire_is(&in, ""))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "the key has a passphrase; it must have none (ssh-keygen -p)");
	if (ssh_wire_u32(&in) != 1)
		return err_set(err, GRPC_INVALID_ARGUMENT, "the file must hold one key");
	outer = ssh_wire_string(&in, &outer_len);
	struct ssh_wire_in inner = { 0 };
	inner.at = ssh_wire_string(&in, &inner.left);
	if (!ssh_wire_done(&in) || !read_private(&inner, &public_half, &private_half))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "the file is damaged, or its key is not of type ssh-ed25519");
	if (derive(private_half, derived, err) != 0)
		return -1;
	ssh_key_set_ed25519(key, derived);
	if (!crypto_equal(derived, public_half, SIZE) ||
	    !crypto_equal(derived, private_half + SIZE, SIZE) || key->len != outer_len ||
	    !crypto_equal(key->blob, outer, outer_len))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "the public and the private half do not belong together");
	return 0;
}

int ssh_key_file_read(const char *text, size_t len, struct ssh_key *public_key, struct err *err)
{
	uint8_t bytes[FILE_MAX];
	ptrdiff_t n = unarmour(text, len, bytes);
	int result;

	if (n < (ptrdiff_t)sizeof(MAGIC) || memcmp(bytes, MAGIC, sizeof(MAGIC)) != 0)
		result = err_set(err, GRPC_INVALID_ARGUMENT, "this is no OpenSSH private key");
	else
		result = read_bytes(bytes, (size_t)n, public_key, err);
	explicit_bzero(bytes, sizeof(bytes));
	return result;
}
