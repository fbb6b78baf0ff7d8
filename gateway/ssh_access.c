#include "gateway/ssh_access.h"

#include <inttypes.h>
#include <string.h>

#include "gateway/ssh_session.h"

/* Under the lock: a live session, or why it is none. What is said of one that has ended is
 * said to those who hold its key or token, and to endpoints. */
static struct ssh_session *find(struct ssh_sessions *s, const char *id, struct err *err)
{
	struct ssh_session *x = map_get(s->by_id, id);
	enum ssh_end why;

	if (x == NULL)
		err_set(err, GRPC_UNAUTHENTICATED, "there is no SSH session %.16s", id);
	else if ((why = ssh_session_over(s, x)) != SSH_END_NONE)
		err_set(err, GRPC_UNAUTHENTICATED, "%s", ssh_end_text(why));
	else
		return x;
	return NULL;
}

static void grant(const struct ssh_sessions *s, const struct ssh_session *x, struct ssh_grant *g)
{
	int64_t left = x->expires_ms - ssh_session_wall(s);
	uint64_t now = ssh_session_monotonic(s);
	uint64_t monotonic = x->deadline_ms > now ? x->deadline_ms - now : 0;

	memcpy(g->id, x->id, sizeof(g->id));
	memcpy(g->sandbox_id, x->owner->id, sizeof(g->sandbox_id));
	memcpy(g->sandbox, x->owner->name, sizeof(g->sandbox));
	memcpy(g->workspace, x->owner->workspace, sizeof(g->workspace));
	g->permissions = x->permissions;
	g->expires_ms = x->expires_ms;
	g->left_ms = left > 0 ? (uint64_t)left : 0;
	if (monotonic < g->left_ms)
		g->left_ms = monotonic;
}

/* Counting. */

/* Connections open, and those that are about to be. */
static uint32_t in_use(struct ssh_count *c, uint64_t now)
{
	if (c->granted > 0 && now - c->granted_ms >= SSH_ACCESS_GRANT_MS)
		c->granted = 0;
	return c->open + c->granted;
}

static int check_room(struct ssh_sessions *s, struct ssh_session *x, struct err *err)
{
	uint64_t now = ssh_session_monotonic(s);

	if (in_use(&x->count, now) >= s->opt.connections_max) {
		s->stats.refused++;
		return err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "the SSH session has %" PRIu32 " connections, the most it may; close some",
		    s->opt.connections_max);
	}
	if (in_use(&x->owner->count, now) >= s->opt.connections_sandbox_max) {
		s->stats.refused++;
		return err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "the sandbox has %" PRIu32 " SSH connections, the most it may; close some",
		    s->opt.connections_sandbox_max);
	}
	return 0;
}

static void admit(struct ssh_count *c, uint64_t now)
{
	c->granted++;
	c->granted_ms = now;
}

/* A connection is about to be. */
static int let_in(struct ssh_sessions *s, struct ssh_session *x, struct err *err)
{
	uint64_t now = ssh_session_monotonic(s);

	if (check_room(s, x, err) != 0)
		return -1;
	admit(&x->count, now);
	admit(&x->owner->count, now);
	x->used = true;
	return 0;
}

static void open_one(struct ssh_count *c)
{
	c->open++;
	if (c->granted > 0)
		c->granted--;
}

enum ssh_end ssh_access_opened(struct ssh_sessions *s, const char *id)
{
	struct ssh_session *x;
	enum ssh_end why = SSH_END_REVOKED; /* of one that is not known any more */

	pthread_rwlock_wrlock(&s->lock);
	if ((x = map_get(s->by_id, id)) != NULL) {
		open_one(&x->count);
		open_one(&x->owner->count);
		s->stats.connections++;
		x->used = true;
		why = ssh_session_over(s, x);
	}
	pthread_rwlock_unlock(&s->lock);
	return why;
}

void ssh_access_closed(struct ssh_sessions *s, const char *id)
{
	struct ssh_session *x;

	pthread_rwlock_wrlock(&s->lock);
	if ((x = map_get(s->by_id, id)) != NULL && x->count.open > 0) {
		x->count.open--;
		x->owner->count.open--;
		s->stats.connections--;
	}
	pthread_rwlock_unlock(&s->lock);
}

void ssh_access_count(struct ssh_sessions *s, const char *id, uint64_t bytes_in, uint64_t bytes_out)
{
	struct ssh_session *x;

	if (bytes_in == 0 && bytes_out == 0)
		return;
	pthread_rwlock_wrlock(&s->lock);
	if ((x = map_get(s->by_id, id)) != NULL) {
		x->bytes_in += bytes_in;
		x->bytes_out += bytes_out;
		ssh_session_note(s, x);
	}
	pthread_rwlock_unlock(&s->lock);
}

/* Asking. */

/* The key is the session's own, bit for bit. */
static bool is_key(const struct ssh_session *x, const uint8_t *key, size_t len)
{
	return x->key_len == len && len > 0 && memcmp(x->key, key, len) == 0;
}

static int key_opens(struct ssh_sessions *s, const char *sandbox, const char *id,
    const uint8_t *key, size_t key_len, struct ssh_session **found, struct err *err)
{
	*found = find(s, id, err);
	if (*found == NULL)
		return -1;
	if (strcmp((*found)->owner->name, sandbox) != 0)
		return err_set(err, GRPC_UNAUTHENTICATED,
		    "SSH session %s is of another sandbox than \"%s\"", id, sandbox);
	if (!is_key(*found, key, key_len))
		return err_set(
		    err, GRPC_UNAUTHENTICATED, "the key is not that of SSH session %s", id);
	return 0;
}

int ssh_access_key(struct ssh_sessions *s, const char *user, const uint8_t *key, size_t key_len,
    bool proven, struct ssh_grant *g, struct err *err)
{
	char sandbox[NAMES_SANDBOX_MAX + 1], id[SSH_NAME_ID_MAX + 1];
	struct ssh_session *x;
	int result;

	if (!ssh_name_parse(user, strlen(user), sandbox, id))
		return err_set(err, GRPC_UNAUTHENTICATED,
		    "the user name \"%.64s\" is none that a session was given", user);
	pthread_rwlock_wrlock(&s->lock);
	result = key_opens(s, sandbox, id, key, key_len, &x, err);
	if (result == 0 && proven)
		result = let_in(s, x, err);
	if (result == 0)
		grant(s, x, g);
	pthread_rwlock_unlock(&s->lock);
	return result;
}

int ssh_access_id(struct ssh_sessions *s, const char *id, struct ssh_grant *g, struct err *err)
{
	struct ssh_session *x;
	int result = -1;

	pthread_rwlock_wrlock(&s->lock);
	if ((x = find(s, id, err)) != NULL && (result = let_in(s, x, err)) == 0)
		grant(s, x, g);
	pthread_rwlock_unlock(&s->lock);
	return result;
}

int ssh_access_token(
    struct ssh_sessions *s, const char *token, struct ssh_grant *g, struct err *err)
{
	char id[SSH_NAME_ID_MAX + 1];
	uint8_t hash[CRYPTO_SHA256_SIZE];
	struct ssh_session *x;
	int result = -1;

	if (!ssh_name_parse_token(token, id, hash))
		return err_set(err, GRPC_UNAUTHENTICATED,
		    "the authorization_token is none that CreateSshSession gives");
	pthread_rwlock_wrlock(&s->lock);
	x = map_get(s->by_id, id);
	if (x == NULL || !crypto_equal(x->token_hash, hash, sizeof(hash)))
		err_set(err, GRPC_UNAUTHENTICATED, "the token is no SSH session's");
	else if ((x = find(s, id, err)) != NULL)
		result = check_room(s, x, err);
	if (result == 0)
		grant(s, x, g);
	pthread_rwlock_unlock(&s->lock);
	return result;
}

int ssh_access_find(struct ssh_sessions *s, const char *id, struct ssh_grant *g, struct err *err)
{
	struct ssh_session *x;

	pthread_rwlock_rdlock(&s->lock);
	if ((x = find(s, id, err)) != NULL)
		grant(s, x, g);
	pthread_rwlock_unlock(&s->lock);
	return x != NULL ? 0 : -1;
}
