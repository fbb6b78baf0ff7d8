/*
 * gateway/ssh_name.h: what SSH clients log in as: "SANDBOX.SESSION", and what opens a
 * session without a key: "ssh-SESSION.SECRET". Any thread.
 */
#ifndef GATEWAY_SSH_NAME_H
#define GATEWAY_SSH_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/names.h"
#include "rpc/crypto.h"

#define SSH_NAME_ID_MAX      16 /* characters: 64 random bits in hex */
#define SSH_NAME_USER_MAX    (NAMES_SANDBOX_MAX + 1 + SSH_NAME_ID_MAX)
#define SSH_NAME_SECRET_SIZE 32                                                       /* bytes */
#define SSH_NAME_TOKEN_SIZE  (4 + SSH_NAME_ID_MAX + 1 + 2 * SSH_NAME_SECRET_SIZE + 1) /* with NUL */

/* A user name of ${len} bytes, of a peer: exactly [a-z0-9-]{1,19}\.[0-9a-f]{16}. False: it
 * is none, and the outputs are untouched. */
bool ssh_name_parse(const char *user, size_t len, char sandbox[static NAMES_SANDBOX_MAX + 1],
    char id[static SSH_NAME_ID_MAX + 1]);

/* A new session's id. */
void ssh_name_make_id(char id[static SSH_NAME_ID_MAX + 1]);

/* A new token of a session, and its hash. The caller wipes the text. */
void ssh_name_make_token(const char *id, char token[static SSH_NAME_TOKEN_SIZE],
    uint8_t hash[static CRYPTO_SHA256_SIZE]);

/* Whose token it claims to be, and its hash; false: it has not the form of one. */
bool ssh_name_parse_token(const char *token, char id[static SSH_NAME_ID_MAX + 1],
    uint8_t hash[static CRYPTO_SHA256_SIZE]);

#endif
