#include "rpc/tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/tls_bio.h"
#include "rpc/tls_context.h"

#define READ_AHEAD ((size_t)64 << 10) /* bytes of records taken from the socket at once */

struct rpc_tls {
	SSL_CTX *ctx;
	BIO_METHOD *bio;
	char *server_name;
};

static const unsigned char alpn_h2[] = { 2, 'h', '2' };
static const unsigned char session_context[] = { 't', 'o', 'w', 'l', 'i', 'n', 'e' };

void tls_context_error(struct err *err, SSL *ssl)
{
	char text[128];
	long verify = ssl != NULL ? SSL_get_verify_result(ssl) : X509_V_OK;

	if (verify != X509_V_OK) {
		err_set(err, GRPC_UNAVAILABLE, "TLS: %s", X509_verify_cert_error_string(verify));
		return;
	}
	ERR_error_string_n(ERR_peek_last_error(), text, sizeof(text));
	err_set(err, GRPC_UNAVAILABLE, "TLS: %s", text);
}

/* Only h2 is spoken here: a client that does not offer it is refused (RFC 7301, 3.2). */
static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
    const unsigned char *in, unsigned in_len, void *arg)
{
	(void)ssl;
	(void)arg;
	for (unsigned i = 0; i + 1 <= in_len; i += 1u + in[i]) {
		if (in[i] == 2 && i + 3 <= in_len && memcmp(in + i + 1, "h2", 2) == 0) {
			*out = in + i + 1;
			*out_len = 2;
			return SSL_TLSEXT_ERR_OK;
		}
	}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int file_error(struct err *err, const char *what, const char *path)
{
	tls_context_error(err, NULL);
	err->code = GRPC_INVALID_ARGUMENT;
	return err_wrap(err, "%s %s", what, path);
}

static int load_files(SSL_CTX *ctx, const struct rpc_tls_options *o, struct err *err)
{
	ERR_clear_error();
	if (o->cert_file != NULL && SSL_CTX_use_certificate_chain_file(ctx, o->cert_file) != 1)
		return file_error(err, "the certificate", o->cert_file);
	if (o->key_file != NULL &&
	    SSL_CTX_use_PrivateKey_file(ctx, o->key_file, SSL_FILETYPE_PEM) != 1)
		return file_error(err, "the key", o->key_file);
	if (o->key_file != NULL && SSL_CTX_check_private_key(ctx) != 1)
		return file_error(err, "the key does not fit the certificate:", o->key_file);
	if (o->ca_file != NULL && SSL_CTX_load_verify_locations(ctx, o->ca_file, NULL) != 1)
		return file_error(err, "the authorities", o->ca_file);
	return 0;
}

static struct rpc_tls *create(
    const SSL_METHOD *method, const struct rpc_tls_options *o, struct err *err)
{
	struct rpc_tls *t = calloc(1, sizeof(*t));

	if (t == NULL || (t->ctx = SSL_CTX_new(method)) == NULL ||
	    (t->bio = tls_bio_method()) == NULL ||
	    (o->server_name != NULL && (t->server_name = strdup(o->server_name)) == NULL)) {
		rpc_tls_free(t);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION);
	SSL_CTX_set_mode(t->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(t->ctx, 1);
	SSL_CTX_set_default_read_buffer_len(t->ctx, READ_AHEAD);
	/* Frames of HTTP/2 have lengths, so that a connection cut short is noticed there. */
	SSL_CTX_set_options(
	    t->ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
	if (load_files(t->ctx, o, err) != 0) {
		rpc_tls_free(t);
		return NULL;
	}
	return t;
}

struct rpc_tls *rpc_tls_server(const struct rpc_tls_options *o, struct err *err)
{
	if (o->cert_file == NULL || o->key_file == NULL) {
		err_set(err, GRPC_INVALID_ARGUMENT, "a TLS server needs a certificate and a key");
		return NULL;
	}
	struct rpc_tls *t = create(TLS_server_method(), o, err);
	if (t == NULL)
		return NULL;
	SSL_CTX_set_alpn_select_cb(t->ctx, select_alpn, NULL);
	/* Without one OpenSSL ends connections that resume a session with a certificate. */
	SSL_CTX_set_session_id_context(t->ctx, session_context, sizeof(session_context));
	if (o->require_client_cert)
		SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	return t;
}

struct rpc_tls *rpc_tls_client(const struct rpc_tls_options *o, struct err *err)
{
	struct rpc_tls *t = create(TLS_client_method(), o, err);

	if (t == NULL)
		return NULL;
	SSL_CTX_set_alpn_protos(t->ctx, alpn_h2, sizeof(alpn_h2));
	SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
	if (o->ca_file == NULL)
		SSL_CTX_set_default_verify_paths(t->ctx);
	return t;
}

void rpc_tls_free(struct rpc_tls *t)
{
	if (t == NULL)
		return;
	SSL_CTX_free(t->ctx);
	BIO_meth_free(t->bio);
	free(t->server_name);
	free(t);
}

/* The name the certificate must bear: an address is no name (RFC 9525). */
static int expect_host(SSL *ssl, const char *host)
{
	struct in6_addr addr;

	if (inet_pton(AF_INET, host, &addr) == 1 || inet_pton(AF_INET6, host, &addr) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host);
	return SSL_set_tlsext_host_name(ssl, host) == 1 && SSL_set1_host(ssl, host) == 1;
}

SSL *tls_context_open(struct rpc_tls *t, int fd, bool is_server, const char *host, struct err *err)
{
	SSL *ssl = SSL_new(t->ctx);
	BIO *bio = tls_bio_open(t->bio, fd);
	const char *name = t->server_name != NULL ? t->server_name : host;

	if (ssl == NULL || bio == NULL ||
	    (!is_server && name != NULL && expect_host(ssl, name) != 1)) {
		SSL_free(ssl);
		BIO_free(bio);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory for a TLS connection");
		return NULL;
	}
	SSL_set_bio(ssl, bio, bio);
	if (is_server)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	return ssl;
}

int tls_context_check(SSL *ssl, struct err *err)
{
	const unsigned char *protocol;
	unsigned len;

	SSL_get0_alpn_selected(ssl, &protocol, &len);
	if (len == 2 && memcmp(protocol, "h2", 2) == 0)
		return 0;
	return err_set(err, GRPC_UNAVAILABLE, "the peer does not speak HTTP/2 (ALPN h2)");
}
