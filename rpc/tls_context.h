/* rpc/tls_context.h: what the transport needs of rpc/tls.h. Inside of rpc only. */
#ifndef RPC_TLS_CONTEXT_H
#define RPC_TLS_CONTEXT_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "base/err.h"
#include "rpc/tls.h"

SSL *tls_context_open(struct rpc_tls *, int fd, bool is_server, const char *host, struct err *);

/* After the handshake: "h2" must have been agreed on (RFC 7301). */
int tls_context_check(SSL *, struct err *);

/* The newest entry of OpenSSL's queue, or of the certificate's verification. */
void tls_context_error(struct err *, SSL *);

#endif
