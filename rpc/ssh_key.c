#include "rpc/ssh_key.h"

#include <openssl/ec.h>
#include <openssl/obj_mac.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "rpc/crypto.h"
#include "rpc/meta_wire.h"
#include "rpc/ssh_wire.h"

#define ED25519 "ssh-ed25519"

struct kind {
	const char *name;
	const char *curve; /* ECDSA's; else NULL */
	unsigned bits;
	int nid;
	/* Reads what comes behind the name. */
	int (*read)(const struct kind *, struct ssh_wire_in *, struct ssh_key *, struct err *);
};

/* What comes behind the name. */

static int read_ed25519(
    const struct kind *kind, struct ssh_wire_in *in, struct ssh_key *key, struct err *err)
{
	size_t len;

	ssh_wire_string(in, &len);
	key->bits = kind->bits;
	if (len != SSH_KEY_ED25519_SIZE)
		return err_set(err, GRPC_INVALID_ARGUMENT, "an Ed25519 key has %d bytes, not %zu",
		    SSH_KEY_ED25519_SIZE, len);
	return 0;
}

/* Uncompressed, and a point of the curve: anything else would be refused only when the
 * key is used. */
static bool is_on_curve(int nid, const uint8_t *point, size_t len)
{
	EC_GROUP *group = EC_GROUP_new_by_curve_name(nid);
	EC_POINT *p = group != NULL ? EC_POINT_new(group) : NULL;
	bool good = p != NULL && EC_POINT_oct2point(group, p, point, len, NULL) == 1 &&
	    EC_POINT_is_at_infinity(group, p) == 0;

	EC_POINT_free(p);
	EC_GROUP_free(group);
	return good;
}

static int read_ecdsa(
    const struct kind *kind, struct ssh_wire_in *in, struct ssh_key *key, struct err *err)
{
	size_t len, coordinate = (kind->bits + 7) / 8;
	const uint8_t *point;

	if (!ssh_wire_is(in, kind->curve))
		return err_set(err, GRPC_INVALID_ARGUMENT, "the curve is not %s", kind->curve);
	point = ssh_wire_string(in, &len);
	key->bits = kind->bits;
	if (point == NULL || len != 1 + 2 * coordinate ||
	    point[0] != POINT_CONVERSION_UNCOMPRESSED || !is_on_curve(kind->nid, point, len))
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "the key is no point of %s", kind->curve);
	return 0;
}

/* The bits of a positive number in its one proper form; 0: it is none. */
static unsigned read_number(struct ssh_wire_in *in, bool *odd)
{
	size_t len;
	const uint8_t *at = ssh_wire_string(in, &len);
	unsigned top = 0;

	*odd = len > 0 && (at[len - 1] & 1) != 0;
	if (len > 1 && at[0] == 0 && (at[1] & 0x80) != 0) {
		at++;
		len--;
	} else if (len == 0 || at[0] == 0 || (at[0] & 0x80) != 0) {
		return 0;
	}
	for (uint8_t first = at[0]; first != 0; first >>= 1)
		top++;
	return (unsigned)(len - 1) * 8 + top;
}

static int read_rsa(
    const struct kind *kind, struct ssh_wire_in *in, struct ssh_key *key, struct err *err)
{
	bool exponent_odd, modulus_odd;
	unsigned exponent = read_number(in, &exponent_odd);

	(void)kind;
	key->bits = read_number(in, &modulus_odd);
	if (exponent < 2 || exponent > 64 || !exponent_odd || key->bits == 0 || !modulus_odd)
		return err_set(err, GRPC_INVALID_ARGUMENT, "the numbers are those of no RSA key");
	if (key->bits < SSH_KEY_RSA_BITS_MIN || key->bits > SSH_KEY_RSA_BITS_MAX)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "an RSA key of %u bits; %d to %d are accepted", key->bits, SSH_KEY_RSA_BITS_MIN,
		    SSH_KEY_RSA_BITS_MAX);
	return 0;
}

static const struct kind kinds[] = {
	{ ED25519, NULL, 256, 0, read_ed25519 },
	{ "ecdsa-sha2-nistp256", "nistp256", 256, NID_X9_62_prime256v1, read_ecdsa },
	{ "ecdsa-sha2-nistp384", "nistp384", 384, NID_secp384r1, read_ecdsa },
	{ "ecdsa-sha2-nistp521", "nistp521", 521, NID_secp521r1, read_ecdsa },
	{ "ssh-rsa", NULL, 0, 0, read_rsa },
};

static bool is_certificate(const char *type, size_t len)
{
	static const char mark[] = "-cert-v";

	return memmem(type, len, mark, sizeof(mark) - 1) != NULL;
}

static const struct kind *find(const char *type, size_t len, struct err *err)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strlen(kinds[i].name) == len && memcmp(kinds[i].name, type, len) == 0)
			return &kinds[i];
	if (is_certificate(type, len))
		err_set(err, GRPC_INVALID_ARGUMENT,
		    "certificates are not accepted; give the public key itself");
	else
		err_set(err, GRPC_INVALID_ARGUMENT,
		    "keys of type \"%.*s\" are not accepted; use ssh-ed25519, ecdsa-sha2-nistp256, "
		    "-nistp384, -nistp521 or ssh-rsa",
		    (int)(len < 48 ? len : 48), type);
	return NULL;
}

int ssh_key_parse(const uint8_t *blob, size_t len, struct ssh_key *key, struct err *err)
{
	struct ssh_wire_in in = { .at = blob, .left = len };
	const struct kind *kind;
	const uint8_t *type;
	size_t type_len;

	if (len > sizeof(key->blob))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "the key has %zu bytes; at most %d are accepted", len, SSH_KEY_BLOB_MAX);
	type = ssh_wire_string(&in, &type_len);
	if (type == NULL)
		return err_set(err, GRPC_INVALID_ARGUMENT, "the bytes are no SSH key");
	if ((kind = find((const char *)type, type_len, err)) == NULL ||
	    kind->read(kind, &in, key, err) != 0)
		return -1;
	if (!ssh_wire_done(&in))
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "the key is cut off, or something follows it");
	key->type = kind->name;
	key->len = len;
	memcpy(key->blob, blob, len);
	return 0;
}

/* Lines. */

static bool is_plain(const char *line, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < ' ' && line[i] != '\t')
			return false;
	return true;
}

static size_t without_newline(const char *line, size_t len)
{
	if (len > 0 && line[len - 1] == '\n')
		len--;
	if (len > 0 && line[len - 1] == '\r')
		len--;
	return len;
}

static int check_line(const char *line, size_t len, struct err *err)
{
	if (strncmp(line, "-----BEGIN", 10) == 0)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "this is a private key or a PEM file; give the line of the .pub file, and keep the "
		    "private key to yourself");
	if (!is_plain(line, len))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "more than one line, or control characters; give one line of a .pub file");
	return 0;
}

int ssh_key_parse_line(const char *line, struct ssh_key *key, struct err *err)
{
	uint8_t blob[SSH_KEY_LINE_MAX];
	size_t len = strnlen(line, SSH_KEY_LINE_MAX + 1), type_len, at, base64_len;
	ptrdiff_t blob_len;

	if (len > SSH_KEY_LINE_MAX)
		return err_set(err, GRPC_INVALID_ARGUMENT, "the line is longer than %d bytes",
		    SSH_KEY_LINE_MAX);
	len = without_newline(line, len);
	if (check_line(line, len, err) != 0)
		return -1;
	type_len = strcspn(line, " \t\r\n");
	if (find(line, type_len, err) == NULL)
		return -1;
	at = type_len + strspn(line + type_len, " \t");
	base64_len = strcspn(line + at, " \t\r\n");
	blob_len = meta_base64_decode(line + at, base64_len, blob);
	if (blob_len <= 0)
		return err_set(err, GRPC_INVALID_ARGUMENT, "what follows the type is no base64");
	if (ssh_key_parse(blob, (size_t)blob_len, key, err) != 0)
		return -1;
	if (strlen(key->type) != type_len || memcmp(key->type, line, type_len) != 0)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "the line says \"%.*s\", but the key is of type \"%s\"", (int)type_len, line,
		    key->type);
	return 0;
}

void ssh_key_set_ed25519(struct ssh_key *key, const uint8_t bytes[static SSH_KEY_ED25519_SIZE])
{
	struct ssh_wire_out out = { .at = key->blob, .size = sizeof(key->blob) };

	ssh_wire_put_text(&out, ED25519);
	ssh_wire_put_string(&out, bytes, SSH_KEY_ED25519_SIZE);
	key->type = ED25519;
	key->bits = 256;
	key->len = out.len;
}

void ssh_key_line(
    const struct ssh_key *key, const char *comment, char out[static SSH_KEY_LINE_SIZE])
{
	/* 51 bytes, which base64 makes 68 characters of, without padding. */
	char base64[META_BASE64_SIZE(4 + sizeof(ED25519) - 1 + 4 + SSH_KEY_ED25519_SIZE)];

	if (key->len > 4 + sizeof(ED25519) - 1 + 4 + SSH_KEY_ED25519_SIZE) {
		out[0] = '\0'; /* no Ed25519 key */
		return;
	}
	meta_base64_encode(key->blob, key->len, base64);
	snprintf(out, SSH_KEY_LINE_SIZE, "%s %s%s%.*s", key->type, base64,
	    comment[0] != '\0' ? " " : "", SSH_KEY_COMMENT_MAX, comment);
}

void ssh_key_fingerprint(const uint8_t *blob, size_t len, char out[static SSH_KEY_FINGERPRINT_SIZE])
{
	uint8_t hash[CRYPTO_SHA256_SIZE];
	char base64[META_BASE64_SIZE(CRYPTO_SHA256_SIZE)];

	crypto_sha256(blob, len, hash);
	meta_base64_encode(hash, sizeof(hash), base64);
	snprintf(out, SSH_KEY_FINGERPRINT_SIZE, "SHA256:%.43s", base64);
}
