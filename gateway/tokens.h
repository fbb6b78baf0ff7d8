/*
 * gateway/tokens.h: what supervisors prove with that they are their sandbox's.
 *
 * A token is "SANDBOX-ID.SECRET" with 256 random bits of secret. The gateway keeps
 * its SHA-256 only; the token itself goes to the driver once, and from there into a
 * file that nobody else can read. Any thread.
 */
#ifndef GATEWAY_TOKENS_H
#define GATEWAY_TOKENS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "gateway/names.h"
#include "rpc/crypto.h"

#define TOKENS_SECRET_SIZE 32
#define TOKENS_TEXT_SIZE   (NAMES_ID_MAX + 1 + 2 * TOKENS_SECRET_SIZE + 1) /* with the NUL */

struct tokens;

struct tokens *tokens_create(struct err *);
void tokens_free(struct tokens *);

/* A new token for a sandbox and its hash. Not yet good for anything; the caller wipes
 * the text when it has handed it over. */
void tokens_make(const char *sandbox_id, char text[static TOKENS_TEXT_SIZE],
    uint8_t hash[static CRYPTO_SHA256_SIZE]);

/* From now on the token of that hash is the sandbox's, and no other. */
int tokens_set(struct tokens *, const char *sandbox_id,
    const uint8_t hash[static CRYPTO_SHA256_SIZE], struct err *);

/* None is. */
void tokens_revoke(struct tokens *, const char *sandbox_id);

/* Whose token it is; false: nobody's. Takes the same time for every secret. */
bool tokens_verify(struct tokens *, const char *text, char sandbox_id[static NAMES_ID_MAX + 1]);

#endif
