/*
 * rpc/tls_bio.h: OpenSSL's way to a socket of ours: non-blocking, and without SIGPIPE,
 * which its own socket BIO can raise. Inside of rpc only.
 */
#ifndef RPC_TLS_BIO_H
#define RPC_TLS_BIO_H

#include <openssl/bio.h>

/* One for all connections of a context; outlives them. NULL: no memory. */
BIO_METHOD *tls_bio_method(void);

/* ${fd} stays the caller's. NULL: no memory. */
BIO *tls_bio_open(const BIO_METHOD *, int fd);

#endif
