/* rpc/address.h: where to listen and where to dial. */
#ifndef RPC_ADDRESS_H
#define RPC_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/err.h"

#define ADDRESS_TEXT_MAX 128

struct address {
	bool tls;        /* https:// */
	bool is_unix;    /* unix:PATH */
	bool is_numeric; /* ${sa} is filled; else ${host} must be looked up */
	char host[256];  /* name or address without brackets; path for Unix sockets */
	uint16_t port;
	struct sockaddr_storage sa;
	socklen_t sa_len;
};

/* "http://host:port", "https://host[:443]", "host:port", "[::1]:8080", "unix:/path"
 * or "unix:///path"; "localhost" is 127.0.0.1 without asking anybody. Zones and
 * IPv4 spellings other than four decimal numbers are refused. INVALID_ARGUMENT
 * names the text. */
int address_parse(const char *text, struct address *, struct err *);

/* Looks ${host} up (blocks: call on a worker or before the loop). */
int address_resolve(struct address *, struct err *);

/* 127.0.0.0/8, ::1, ::ffff:127.0.0.0/104 or a Unix socket. Numeric addresses only. */
bool address_is_loopback(const struct address *);

/* A listening socket: CLOEXEC, non-blocking, SO_REUSEADDR; a Unix path is made with
 * mode 0600, a dead socket in its place is removed first (one that answers: an
 * error). ${bound} gets the text with the real port. */
int address_listen(const struct address *, char bound[static ADDRESS_TEXT_MAX], struct err *);

/* A socket that is connecting: CLOEXEC, non-blocking, TCP_NODELAY. */
int address_connect(const struct address *, struct err *);

void address_text(const struct sockaddr *, socklen_t, char out[static ADDRESS_TEXT_MAX]);

#endif
