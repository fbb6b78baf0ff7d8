#include "gateway/ssh_sessions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "gateway/ssh_session.h"
#include "gateway/wall.h"

static const struct log_area area = { "gateway.ssh" };

#define WRITE_SOME 128 /* rows of one transaction */

const char *ssh_end_text(enum ssh_end why)
{
	switch (why) {
	case SSH_END_NONE:
		break;
	case SSH_END_EXPIRED:
		return "the SSH session has expired; create another";
	case SSH_END_REVOKED:
		return "the SSH session was revoked";
	case SSH_END_DELETED:
		return "the sandbox has been deleted";
	}
	return "";
}

/* Clocks. */

int64_t ssh_session_wall(const struct ssh_sessions *s)
{
	return s->opt.wall != NULL ? s->opt.wall(s->opt.clock_cookie) : wall_now_ms();
}

uint64_t ssh_session_monotonic(const struct ssh_sessions *s)
{
	return s->opt.monotonic != NULL ? s->opt.monotonic(s->opt.clock_cookie)
					: loop_now_us() / 1000;
}

static bool is_late(const struct ssh_sessions *s, const struct ssh_session *x)
{
	return ssh_session_wall(s) >= x->expires_ms || ssh_session_monotonic(s) >= x->deadline_ms;
}

enum ssh_end ssh_session_over(struct ssh_sessions *s, struct ssh_session *x)
{
	if (x->why != SSH_END_NONE)
		return x->why;
	if (!atomic_load(&x->late)) {
		if (!is_late(s, x))
			return SSH_END_NONE;
		atomic_store(&x->late, true);
		atomic_store(&s->any_late, true);
	}
	return SSH_END_EXPIRED;
}

/* The table. All of it under the lock. */

static struct ssh_owner *enter_owner(struct ssh_sessions *s, const struct store_ssh *row)
{
	struct ssh_owner *o = map_get(s->owners, row->sandbox_id);

	if (o != NULL)
		return o;
	if ((o = calloc(1, sizeof(*o))) == NULL)
		return NULL;
	snprintf(o->id, sizeof(o->id), "%s", row->sandbox_id);
	snprintf(o->name, sizeof(o->name), "%s", row->sandbox);
	snprintf(o->workspace, sizeof(o->workspace), "%s", row->workspace);
	if (map_put(s->owners, o->id, o) != 0) {
		free(o);
		return NULL;
	}
	return o;
}

static void settle_owner(struct ssh_sessions *s, struct ssh_owner *o)
{
	if (o->sessions > 0)
		return;
	map_remove(s->owners, o->id);
	free(o);
}

static void session_free(struct ssh_session *x)
{
	if (x == NULL)
		return;
	free(x->subject);
	free(x->key);
	free(x);
}

static struct ssh_session *session_of(const struct store_ssh *row)
{
	struct ssh_session *x = calloc(1, sizeof(*x));

	if (x == NULL)
		return NULL;
	x->subject = strdup(row->subject);
	x->key = malloc(row->key_len > 0 ? row->key_len : 1);
	if (x->subject == NULL || x->key == NULL) {
		session_free(x);
		return NULL;
	}
	snprintf(x->id, sizeof(x->id), "%s", row->id);
	memcpy(x->token_hash, row->token_hash, sizeof(x->token_hash));
	if (row->key_len > 0)
		memcpy(x->key, row->key, row->key_len);
	x->key_len = row->key_len;
	x->serial = row->serial;
	x->permissions = row->permissions;
	x->created_ms = row->created_ms;
	x->expires_ms = row->expires_ms;
	x->ended_ms = row->ended_ms;
	x->why = (enum ssh_end)row->ended_why;
	x->bytes_in = row->bytes_in;
	x->bytes_out = row->bytes_out;
	return x;
}

static int make_room(struct ssh_sessions *s)
{
	size_t cap = s->live_cap == 0 ? 64 : s->live_cap * 2;
	struct ssh_live *live;

	if (s->live_count < s->live_cap)
		return 0;
	if ((live = realloc(s->live, cap * sizeof(*live))) == NULL)
		return -1;
	s->live = live;
	s->live_cap = cap;
	return 0;
}

static void add_live(struct ssh_sessions *s, struct ssh_session *x)
{
	x->live_at = s->live_count;
	s->live[s->live_count++] = (struct ssh_live){ x->expires_ms, x->deadline_ms, x };
	x->owner->live++;
}

/* Takes ${x}; -1: no memory, and nothing has changed. */
static int add(struct ssh_sessions *s, struct ssh_session *x, const struct store_ssh *row)
{
	struct ssh_owner *o = enter_owner(s, row);

	if (o == NULL)
		return -1;
	if (make_room(s) != 0 || map_put(s->by_id, x->id, x) != 0) {
		settle_owner(s, o);
		return -1;
	}
	x->owner = o;
	o->sessions++;
	TAILQ_INSERT_TAIL(&s->all, x, all);
	if (x->why == SSH_END_NONE) {
		add_live(s, x);
	} else {
		TAILQ_INSERT_TAIL(&s->over, x, over);
		s->over_count++;
	}
	return 0;
}

void ssh_session_note(struct ssh_sessions *s, struct ssh_session *x)
{
	if (!x->unwritten)
		TAILQ_INSERT_TAIL(&s->changed, x, changed);
	x->unwritten = true;
}

/* From the live to the ended. */
static void end(struct ssh_sessions *s, struct ssh_session *x, enum ssh_end why)
{
	struct ssh_live *last = &s->live[s->live_count - 1];

	x->why = why;
	x->ended_ms = ssh_session_wall(s);
	ssh_session_note(s, x);
	s->live[x->live_at] = *last;
	last->session->live_at = x->live_at;
	s->live_count--;
	x->owner->live--;
	TAILQ_INSERT_TAIL(&s->over, x, over);
	s->over_count++;
	if (why == SSH_END_EXPIRED)
		s->stats.expired++;
	else
		s->stats.revoked++;
}

/* Out of the table, and freed. */
static void forget(struct ssh_sessions *s, struct ssh_session *x)
{
	struct ssh_owner *o = x->owner;

	TAILQ_REMOVE(&s->all, x, all);
	TAILQ_REMOVE(&s->over, x, over);
	if (x->unwritten)
		TAILQ_REMOVE(&s->changed, x, changed);
	s->over_count--;
	map_remove(s->by_id, x->id);
	o->sessions--;
	o->count.open -= x->count.open;
	s->stats.connections -= x->count.open;
	settle_owner(s, o);
	session_free(x);
}

/* To and from the store. */

static struct store_ssh row_of(const struct ssh_session *x)
{
	return (struct store_ssh){
		.serial = x->serial,
		.id = x->id,
		.sandbox_id = x->owner->id,
		.sandbox = x->owner->name,
		.workspace = x->owner->workspace,
		.subject = x->subject,
		.token_hash = x->token_hash,
		.key = x->key,
		.key_len = x->key_len,
		.permissions = x->permissions,
		.created_ms = x->created_ms,
		.expires_ms = x->expires_ms,
		.ended_ms = x->ended_ms,
		.ended_why = (int)x->why,
		.bytes_in = x->bytes_in,
		.bytes_out = x->bytes_out,
	};
}

/* Writes some of what has changed: how many, or -1. */
static int write_some(struct ssh_sessions *s, struct err *err)
{
	struct store_ssh rows[WRITE_SOME];
	struct ssh_session *taken[WRITE_SOME], *x;
	size_t n = 0;
	int result;

	pthread_rwlock_wrlock(&s->lock);
	while (n < WRITE_SOME && (x = TAILQ_FIRST(&s->changed)) != NULL) {
		TAILQ_REMOVE(&s->changed, x, changed);
		x->unwritten = false; /* what is counted from now on makes it so again */
		taken[n] = x;
		rows[n++] = row_of(x);
	}
	pthread_rwlock_unlock(&s->lock);
	result = n > 0 ? store_ssh_update(s->opt.store, rows, n, err) : 0;
	if (result == 0)
		return (int)n;
	pthread_rwlock_wrlock(&s->lock);
	for (size_t i = 0; i < n; i++)
		ssh_session_note(s, taken[i]);
	pthread_rwlock_unlock(&s->lock);
	return -1;
}

/* As much as one sweep may; a failure is logged by the store, and tried again. */
static void write_changed(struct ssh_sessions *s)
{
	struct err err;

	for (size_t n = 0; n < SSH_SESSIONS_BATCH; n += WRITE_SOME)
		if (write_some(s, &err) < WRITE_SOME)
			return;
}

/* Ending and forgetting. */

static void finish(struct ssh_sessions *s, struct ssh_session *x, enum ssh_end why)
{
	bool used;

	pthread_rwlock_wrlock(&s->lock);
	used = x->used;
	end(s, x, why);
	pthread_rwlock_unlock(&s->lock);
	log_info(&area, "session_ended", LOG_STR("session", x->id),
	    LOG_STR("why", ssh_end_text(why)), LOG_STR("sandbox", x->owner->id),
	    LOG_U64("bytes_in", x->bytes_in), LOG_U64("bytes_out", x->bytes_out));
	if (used && s->opt.ended != NULL)
		s->opt.ended(s->opt.cookie, x->id, why);
}

static void end_late(struct ssh_sessions *s)
{
	int64_t wall = ssh_session_wall(s);
	uint64_t monotonic = ssh_session_monotonic(s);
	bool any_late = atomic_exchange(&s->any_late, false);

	for (size_t i = 0; i < s->live_count;) {
		struct ssh_live *l = &s->live[i];

		if (wall >= l->expires_ms || monotonic >= l->deadline_ms ||
		    (any_late && atomic_load(&l->session->late)))
			finish(s, l->session, SSH_END_EXPIRED); /* another takes its place */
		else
			i++;
	}
}

/* Those that ended too long ago, or of which there are too many. */
static void forget_old(struct ssh_sessions *s)
{
	uint64_t serials[WRITE_SOME];
	struct ssh_session *old[WRITE_SOME], *x;
	int64_t oldest = ssh_session_wall(s) - SSH_SESSIONS_KEPT_MS;
	size_t n = 0;
	struct err err;

	TAILQ_FOREACH(x, &s->over, over)
	{
		if (n == WRITE_SOME ||
		    (s->over_count - n <= SSH_SESSIONS_ENDED_MAX && x->ended_ms > oldest))
			break;
		old[n] = x;
		serials[n++] = x->serial;
	}
	if (n == 0 || store_ssh_remove(s->opt.store, serials, n, &err) != 0)
		return;
	pthread_rwlock_wrlock(&s->lock);
	for (size_t i = 0; i < n; i++)
		forget(s, old[i]);
	pthread_rwlock_unlock(&s->lock);
}

static void on_sweep(void *cookie)
{
	struct ssh_sessions *s = cookie;

	end_late(s);
	write_changed(s);
	for (size_t n = 0; n < SSH_SESSIONS_BATCH; n += WRITE_SOME)
		forget_old(s);
	if (!TAILQ_EMPTY(&s->all))
		timer_start(s->sweep, SSH_SESSIONS_SWEEP_MS);
}

/* From now on there is something to sweep. */
static void start_sweeping(struct ssh_sessions *s)
{
	if (!timer_is_running(s->sweep))
		timer_start(s->sweep, SSH_SESSIONS_SWEEP_MS);
}

struct ssh_sessions *ssh_sessions_create(const struct ssh_sessions_options *opt, struct err *err)
{
	struct ssh_sessions *s = calloc(1, sizeof(*s));

	if (s == NULL || (s->by_id = map_create()) == NULL || (s->owners = map_create()) == NULL ||
	    (s->sweep = timer_create_on(opt->loop, on_sweep, s)) == NULL) {
		if (s != NULL) {
			map_free(s->owners);
			map_free(s->by_id);
		}
		free(s);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	s->opt = *opt;
	pthread_rwlock_init(&s->lock, NULL);
	TAILQ_INIT(&s->all);
	TAILQ_INIT(&s->over);
	TAILQ_INIT(&s->changed);
	return s;
}

static bool free_owner(void *cookie, const char *id, void *value)
{
	(void)cookie;
	(void)id;
	free(value);
	return true;
}

void ssh_sessions_free(struct ssh_sessions *s)
{
	struct ssh_session *x;
	struct err err;

	if (s == NULL)
		return;
	while (write_some(s, &err) == WRITE_SOME)
		;
	timer_free(s->sweep);
	map_free(s->by_id);
	while ((x = TAILQ_FIRST(&s->all)) != NULL) {
		TAILQ_REMOVE(&s->all, x, all);
		session_free(x);
	}
	map_each(s->owners, free_owner, NULL);
	map_free(s->owners);
	pthread_rwlock_destroy(&s->lock);
	free(s->live);
	free(s);
}

/* From the store. */

struct loading {
	struct ssh_sessions *sessions;
	bool (*exists)(void *cookie, const char *sandbox_id);
	void *cookie;
};

static bool is_whole(const struct store_ssh *row)
{
	return row->token_hash != NULL && strlen(row->id) == SSH_NAME_ID_MAX &&
	    strlen(row->sandbox_id) <= NAMES_ID_MAX && row->key_len <= SSH_KEY_BLOB_MAX &&
	    row->ended_why >= SSH_END_NONE && row->ended_why <= SSH_END_DELETED;
}

/* The monotonic clock has begun anew: what is left is what the wall clock says, and never
 * more than there was in the beginning. */
static uint64_t deadline_of(const struct ssh_sessions *s, const struct ssh_session *x)
{
	int64_t left = x->expires_ms - ssh_session_wall(s), whole = x->expires_ms - x->created_ms;

	if (left > whole)
		left = whole;
	return ssh_session_monotonic(s) + (uint64_t)(left > 0 ? left : 0);
}

static int load(void *cookie, const struct store_ssh *row, struct err *err)
{
	struct loading *l = cookie;
	struct ssh_sessions *s = l->sessions;
	struct ssh_session *x;

	if (!is_whole(row))
		return err_set(
		    err, GRPC_DATA_LOSS, "the row of SSH session %.16s cannot be read", row->id);
	if ((x = session_of(row)) == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	x->used = true; /* an endpoint may have connections from before */
	x->deadline_ms = deadline_of(s, x);
	if (add(s, x, row) != 0) {
		session_free(x);
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	}
	if (x->why == SSH_END_NONE && !l->exists(l->cookie, x->owner->id))
		finish(s, x, SSH_END_DELETED);
	return 0;
}

int ssh_sessions_load(struct ssh_sessions *s, bool (*exists)(void *cookie, const char *sandbox_id),
    void *cookie, struct err *err)
{
	struct loading l = { s, exists, cookie };

	if (store_ssh_each(s->opt.store, load, &l, err) != 0)
		return -1;
	if (!TAILQ_EMPTY(&s->all))
		start_sweeping(s);
	return 0;
}

/* A new one. */

static int check_room(const struct ssh_sessions *s, const struct ssh_wanted *w, struct err *err)
{
	const struct ssh_owner *o = map_get(s->owners, w->sandbox_id);

	if (s->live_count >= SSH_SESSIONS_MAX)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "there are %d live SSH sessions, the most this gateway takes; revoke some, or wait "
		    "until they expire",
		    SSH_SESSIONS_MAX);
	if (o != NULL && o->live >= SSH_SESSIONS_SANDBOX_MAX)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "sandbox \"%s\" has %d live SSH sessions, the most a sandbox may; revoke some, or "
		    "wait until they expire",
		    w->sandbox, SSH_SESSIONS_SANDBOX_MAX);
	return 0;
}

static int add_new(struct ssh_sessions *s, struct store_ssh *row, struct err *err)
{
	struct ssh_session *x;
	int result = -1;

	if (store_ssh_insert(s->opt.store, row, &row->serial, err) != 0)
		return -1;
	if ((x = session_of(row)) != NULL) {
		x->deadline_ms =
		    ssh_session_monotonic(s) + (uint64_t)(row->expires_ms - row->created_ms);
		pthread_rwlock_wrlock(&s->lock);
		result = add(s, x, row);
		s->stats.made++;
		pthread_rwlock_unlock(&s->lock);
	}
	if (result == 0)
		return 0;
	session_free(x);
	(void)store_ssh_remove(s->opt.store, &row->serial, 1, NULL);
	return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

int ssh_sessions_make(
    struct ssh_sessions *s, const struct ssh_wanted *w, struct ssh_made *made, struct err *err)
{
	uint8_t hash[CRYPTO_SHA256_SIZE];
	struct store_ssh row = {
		.id = made->id,
		.sandbox_id = w->sandbox_id,
		.sandbox = w->sandbox,
		.workspace = w->workspace,
		.subject = w->subject,
		.token_hash = hash,
		.key = w->key->blob,
		.key_len = w->key->len,
		.permissions = w->permissions,
	};

	if (check_room(s, w, err) != 0)
		return -1;
	do
		ssh_name_make_id(made->id);
	while (map_get(s->by_id, made->id) != NULL);
	ssh_name_make_token(made->id, made->token, hash);
	snprintf(made->user, sizeof(made->user), "%s.%s", w->sandbox, made->id);
	row.created_ms = ssh_session_wall(s);
	row.expires_ms = made->expires_ms = row.created_ms + w->ttl_ms;
	if (add_new(s, &row, err) != 0) {
		explicit_bzero(made->token, sizeof(made->token));
		return -1;
	}
	start_sweeping(s);
	return 0;
}

/* Ending one, or many. */

static int revoke(struct ssh_sessions *s, struct ssh_session *x, struct err *err)
{
	if (x == NULL)
		return err_set(err, GRPC_NOT_FOUND, "there is no such SSH session");
	if (ssh_session_over(s, x) == SSH_END_NONE)
		finish(s, x, SSH_END_REVOKED);
	else if (x->why != SSH_END_REVOKED || !x->unwritten)
		return err_set(err, GRPC_NOT_FOUND, "SSH session %s has ended already: %s", x->id,
		    ssh_end_text(ssh_session_over(s, x)));
	while (x->unwritten)
		if (write_some(s, err) < 0)
			return -1;
	return 0;
}

int ssh_sessions_revoke(struct ssh_sessions *s, const char *id, struct err *err)
{
	return revoke(s, map_get(s->by_id, id), err);
}

int ssh_sessions_revoke_token(struct ssh_sessions *s, const char *token, struct err *err)
{
	char id[SSH_NAME_ID_MAX + 1];
	uint8_t hash[CRYPTO_SHA256_SIZE];
	struct ssh_session *x = NULL;

	if (ssh_name_parse_token(token, id, hash))
		x = map_get(s->by_id, id);
	if (x != NULL && !crypto_equal(x->token_hash, hash, sizeof(hash)))
		x = NULL;
	return revoke(s, x, err);
}

void ssh_sessions_drop_sandbox(struct ssh_sessions *s, const char *sandbox_id)
{
	const struct ssh_owner *o = map_get(s->owners, sandbox_id);
	struct err err;

	if (o == NULL || o->live == 0)
		return;
	for (size_t i = 0; i < s->live_count;) {
		struct ssh_session *x = s->live[i].session;

		if (x->owner == o)
			finish(s, x, SSH_END_DELETED);
		else
			i++;
	}
	while (write_some(s, &err) == WRITE_SOME)
		;
}

/* Showing. */

static void show(const struct ssh_session *x, struct ssh_shown *shown)
{
	*shown = (struct ssh_shown){
		.serial = x->serial,
		.id = x->id,
		.sandbox_id = x->owner->id,
		.sandbox = x->owner->name,
		.workspace = x->owner->workspace,
		.subject = x->subject,
		.key = x->key,
		.key_len = x->key_len,
		.permissions = x->permissions,
		.created_ms = x->created_ms,
		.expires_ms = x->expires_ms,
		.ended_ms = x->ended_ms,
		.why = x->why,
		.connections = x->count.open,
		.bytes_in = x->bytes_in,
		.bytes_out = x->bytes_out,
	};
}

void ssh_sessions_each(struct ssh_sessions *s, uint64_t after,
    bool (*each)(void *cookie, const struct ssh_shown *), void *cookie)
{
	struct ssh_session *x;
	bool more = true;

	pthread_rwlock_rdlock(&s->lock);
	for (x = TAILQ_FIRST(&s->all); x != NULL && more; x = TAILQ_NEXT(x, all)) {
		struct ssh_shown shown;

		if (x->serial <= after)
			continue;
		show(x, &shown);
		shown.why = ssh_session_over(s, x);
		more = each(cookie, &shown);
	}
	pthread_rwlock_unlock(&s->lock);
}

void ssh_sessions_stats(struct ssh_sessions *s, struct ssh_sessions_stats *stats)
{
	pthread_rwlock_rdlock(&s->lock);
	*stats = s->stats;
	stats->live = s->live_count;
	stats->ended = s->over_count;
	pthread_rwlock_unlock(&s->lock);
}
