/* rpc/tls.h: certificates and keys for either side; OpenSSL stays inside rpc. */
#ifndef RPC_TLS_H
#define RPC_TLS_H

#include <stdbool.h>

#include "base/err.h"

struct rpc_tls;

struct rpc_tls_options {
	const char *cert_file; /* PEM chain; server: required */
	const char *key_file;
	const char *ca_file;      /* whom to trust; client: NULL means the system's */
	bool require_client_cert; /* server: mTLS */
	const char *server_name;  /* client: what the certificate must name; NULL: the URL's host */
};

/* TLS 1.2 and up, ALPN "h2" required on both sides. Errors name the file. */
struct rpc_tls *rpc_tls_server(const struct rpc_tls_options *, struct err *);
struct rpc_tls *rpc_tls_client(const struct rpc_tls_options *, struct err *);
void rpc_tls_free(struct rpc_tls *);

#endif
