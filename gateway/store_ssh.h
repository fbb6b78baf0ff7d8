/*
 * gateway/store_ssh.h: SSH sessions in the store. Of a session's token there is a hash, of
 * its key the public half. One thread, as store.h.
 */
#ifndef GATEWAY_STORE_SSH_H
#define GATEWAY_STORE_SSH_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "gateway/store.h"

/* Lent in both directions. */
struct store_ssh {
	uint64_t serial; /* grows with each session; the store's to give */
	const char *id;
	const char *sandbox_id, *sandbox, *workspace;
	const char *subject;       /* who made it */
	const uint8_t *token_hash; /* CRYPTO_SHA256_SIZE bytes */
	const uint8_t *key;
	size_t key_len;
	uint32_t permissions;
	int64_t created_ms, expires_ms;
	int64_t ended_ms; /* 0: not yet */
	int ended_why;
	uint64_t bytes_in, bytes_out;
};

int store_ssh_insert(struct store *, const struct store_ssh *, uint64_t *serial, struct err *);

/* Writes what changes of a session (ended_*, bytes_*), of all of them or of none. Rows that
 * are gone are passed over. */
int store_ssh_update(struct store *, const struct store_ssh *, size_t count, struct err *);

/* Removes rows, all or none. */
int store_ssh_remove(struct store *, const uint64_t *serials, size_t count, struct err *);

/* As store_sandbox_each(), by serial. */
int store_ssh_each(struct store *,
    int (*each)(void *cookie, const struct store_ssh *, struct err *), void *cookie, struct err *);

#endif
