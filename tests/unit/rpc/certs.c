#include "certs.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static void name_files(const char *folder, const char *name, struct certs_pair *pair)
{
	snprintf(pair->cert, sizeof(pair->cert), "%s/%s.pem", folder, name);
	snprintf(pair->key, sizeof(pair->key), "%s/%s.key", folder, name);
}

static FILE *open_file(const char *path, const char *mode)
{
	FILE *f = fopen(path, mode);

	assert_non_null(f);
	return f;
}

static void extend(X509 *cert, X509 *issuer, int what, const char *value)
{
	X509V3_CTX ctx;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	X509_EXTENSION *x = X509V3_EXT_conf_nid(NULL, &ctx, what, value);
	assert_non_null(x);
	assert_int_equal(X509_add_ext(cert, x, -1), 1);
	X509_EXTENSION_free(x);
}

static X509 *make(const char *name, EVP_PKEY *key, long seconds)
{
	static long serial = 1;
	X509 *cert = X509_new();

	assert_non_null(cert);
	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++);
	X509_gmtime_adj(X509_getm_notBefore(cert), -86400);
	X509_gmtime_adj(X509_getm_notAfter(cert), seconds);
	X509_set_pubkey(cert, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
	    (const unsigned char *)name, -1, -1, 0);
	return cert;
}

static void sign(X509 *cert, const X509 *issuer, EVP_PKEY *key)
{
	X509_set_issuer_name(cert, X509_get_subject_name(issuer));
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
}

static void write_files(const struct certs_pair *pair, X509 *cert, EVP_PKEY *key)
{
	FILE *f = open_file(pair->cert, "w");

	assert_int_equal(PEM_write_X509(f, cert), 1);
	fclose(f);
	f = open_file(pair->key, "w");
	assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
	fclose(f);
	X509_free(cert);
	EVP_PKEY_free(key);
}

void certs_authority(const char *folder, const char *name, struct certs_pair *pair)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");

	assert_non_null(key);
	X509 *cert = make(name, key, 3600);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	extend(cert, cert, NID_basic_constraints, "critical,CA:TRUE");
	sign(cert, cert, key);
	name_files(folder, name, pair);
	write_files(pair, cert, key);
}

void certs_issue(const char *folder, const char *name, const struct certs_pair *ca,
    const char *names, long seconds, struct certs_pair *pair)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	FILE *f = open_file(ca->cert, "r");
	X509 *issuer = PEM_read_X509(f, NULL, NULL, NULL);

	fclose(f);
	f = open_file(ca->key, "r");
	EVP_PKEY *issuer_key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
	fclose(f);
	assert_true(key != NULL && issuer != NULL && issuer_key != NULL);
	X509 *cert = make(name, key, seconds);
	extend(cert, issuer, NID_subject_alt_name, names);
	sign(cert, issuer, issuer_key);
	X509_free(issuer);
	EVP_PKEY_free(issuer_key);
	name_files(folder, name, pair);
	write_files(pair, cert, key);
}

void certs_remove(const struct certs_pair *pair)
{
	unlink(pair->cert);
	unlink(pair->key);
}
