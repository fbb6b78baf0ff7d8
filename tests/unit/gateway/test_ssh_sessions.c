/* SSH sessions: two clocks, limits, who gets in, what outlives the gateway. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/log.h"
#include "gateway/ssh_access.h"
#include "gateway/ssh_sessions.h"
#include "support/leak.h"

#define BOX   "11111111-1111-4111-8111-111111111111"
#define OTHER "22222222-2222-4222-8222-222222222222"
#define DAY   ((int64_t)24 * 3600 * 1000)

struct fixture {
	struct leak *leak;
	struct loop *loop;
	struct store *store;
	struct ssh_sessions *sessions;
	struct ssh_key key;
	int64_t wall;
	uint64_t monotonic;
	unsigned ended;
	char last[SSH_NAME_ID_MAX + 1];
	enum ssh_end why;
	bool other_gone;
};

static int64_t wall(void *cookie)
{
	return ((struct fixture *)cookie)->wall;
}

static uint64_t monotonic(void *cookie)
{
	return ((struct fixture *)cookie)->monotonic;
}

static void on_ended(void *cookie, const char *id, enum ssh_end why)
{
	struct fixture *f = cookie;

	f->ended++;
	f->why = why;
	snprintf(f->last, sizeof(f->last), "%s", id);
}

static bool exists(void *cookie, const char *sandbox_id)
{
	struct fixture *f = cookie;

	return strcmp(sandbox_id, BOX) == 0 || !f->other_gone;
}

static void open_all(struct fixture *f)
{
	struct ssh_sessions_options opt = {
		.loop = f->loop,
		.connections_max = 3,
		.connections_sandbox_max = 5,
		.ended = on_ended,
		.cookie = f,
		.wall = wall,
		.monotonic = monotonic,
		.clock_cookie = f,
	};
	struct err err;

	f->store = store_open(leak_path(f->leak, "gateway.db"), &err);
	assert_non_null(f->store);
	opt.store = f->store;
	f->sessions = ssh_sessions_create(&opt, &err);
	assert_non_null(f->sessions);
	assert_int_equal(ssh_sessions_load(f->sessions, exists, f, &err), 0);
}

static void close_all(struct fixture *f)
{
	ssh_sessions_free(f->sessions);
	store_close(f->store);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err err;

	f->leak = leak_begin();
	f->loop = loop_create(0, &err);
	f->wall = 1700000000000;
	f->monotonic = 5000;
	ssh_key_set_ed25519(&f->key, (const uint8_t *)"0123456789abcdef0123456789abcdef");
	open_all(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = { "gateway.db", "gateway.db-wal", "gateway.db-shm" };
	struct fixture *f = *state;
	int result;

	close_all(f);
	loop_free(f->loop);
	for (size_t i = 0; i < 3; i++)
		unlink(leak_path(f->leak, names[i]));
	result = leak_end(f->leak);
	free(f);
	return result;
}

static int make_at(
    struct fixture *f, const char *sandbox_id, const char *name, struct ssh_made *made)
{
	struct ssh_wanted w = {
		.sandbox_id = sandbox_id,
		.sandbox = name,
		.workspace = "default",
		.subject = "me",
		.ttl_ms = 60000,
		.permissions = SSH_ACCESS_ALL,
		.key = &f->key,
	};
	struct err err = { 0 };
	int result = ssh_sessions_make(f->sessions, &w, made, &err);

	assert_int_equal(err.code, result == 0 ? GRPC_OK : GRPC_RESOURCE_EXHAUSTED);
	return result;
}

static struct ssh_made make(struct fixture *f)
{
	struct ssh_made made;

	assert_int_equal(make_at(f, BOX, "box", &made), 0);
	return made;
}

/* The code that the key gets, and the words of a refusal. */
static enum grpc_code try(
    struct fixture *f, const struct ssh_made *m, bool proven, const char *words)
{
	struct ssh_grant g;
	struct err err = { 0 };

	(void)ssh_access_key(f->sessions, m->user, f->key.blob, f->key.len, proven, &g, &err);
	if (err.code == GRPC_OK)
		assert_string_equal(g.id, m->id);
	else if (strstr(err.text, words) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.text, words);
	return err.code;
}

static void on_swept(void *cookie)
{
	loop_stop(cookie);
}

/* Lets the sweep come by. */
static void sweep(struct fixture *f)
{
	struct timer *t = timer_create_on(f->loop, on_swept, f->loop);

	timer_start(t, SSH_SESSIONS_SWEEP_MS + 50);
	loop_run(f->loop);
	timer_free(t);
}

static void test_key(void **state)
{
	struct fixture *f = *state;
	struct ssh_made m = make(f), other;
	struct ssh_grant g;
	struct ssh_key key = f->key;
	char user[64];
	struct err err;

	assert_int_equal(make_at(f, OTHER, "other", &other), 0);
	assert_int_equal(
	    ssh_access_key(f->sessions, m.user, f->key.blob, f->key.len, false, &g, &err), 0);
	assert_string_equal(g.sandbox_id, BOX);
	assert_string_equal(g.sandbox, "box");
	assert_int_equal(g.permissions, SSH_ACCESS_ALL);
	assert_int_equal(g.expires_ms, f->wall + 60000);
	assert_int_equal(g.left_ms, 60000);

	for (size_t at = 0; at < key.len; at++) {
		key.blob[at] ^= 1;
		assert_int_equal(
		    ssh_access_key(f->sessions, m.user, key.blob, key.len, true, &g, &err), -1);
		assert_int_equal(err.code, GRPC_UNAUTHENTICATED);
		key.blob[at] ^= 1;
	}
	assert_int_equal(ssh_access_key(f->sessions, m.user, key.blob, 0, true, &g, &err), -1);
	assert_int_equal(
	    ssh_access_key(f->sessions, m.user, key.blob, key.len - 1, true, &g, &err), -1);
	snprintf(user, sizeof(user), "box.%s", other.id);
	assert_int_equal(ssh_access_key(f->sessions, user, key.blob, key.len, true, &g, &err), -1);
	assert_non_null(strstr(err.text, "another sandbox"));
	assert_int_equal(
	    ssh_access_key(f->sessions, "root", key.blob, key.len, true, &g, &err), -1);
	assert_int_equal(err.code, GRPC_UNAUTHENTICATED);
}

static void test_token(void **state)
{
	struct fixture *f = *state;
	struct ssh_made m = make(f), other = make(f);
	char mixed[SSH_NAME_TOKEN_SIZE];
	struct ssh_grant g;
	struct err err;

	assert_int_equal(ssh_access_token(f->sessions, m.token, &g, &err), 0);
	assert_string_equal(g.id, m.id);
	memcpy(mixed, m.token, sizeof(mixed));
	memcpy(mixed + 4, other.id, SSH_NAME_ID_MAX);
	assert_int_equal(ssh_access_token(f->sessions, mixed, &g, &err), -1);
	assert_int_equal(err.code, GRPC_UNAUTHENTICATED);
	assert_int_equal(ssh_access_token(f->sessions, "", &g, &err), -1);
	assert_int_equal(ssh_sessions_revoke_token(f->sessions, mixed, &err), -1);
	assert_int_equal(ssh_sessions_revoke_token(f->sessions, m.token, &err), 0);
	assert_int_equal(ssh_access_token(f->sessions, m.token, &g, &err), -1);
	assert_non_null(strstr(err.text, "revoked"));
	assert_int_equal(ssh_access_find(f->sessions, other.id, &g, &err), 0);
	assert_int_equal(ssh_access_find(f->sessions, m.id, &g, &err), -1);
}

static void test_time_is_up(void **state)
{
	struct fixture *f = *state;
	struct ssh_made m = make(f);

	f->wall += 59999;
	f->monotonic += 59999;
	assert_int_equal(try(f, &m, true, ""), GRPC_OK);
	f->wall++;
	f->monotonic++;
	assert_int_equal(try(f, &m, true, "expired"), GRPC_UNAUTHENTICATED);
	assert_int_equal(f->ended, 0);
	sweep(f);
	assert_int_equal(f->ended, 1);
	assert_int_equal(f->why, SSH_END_EXPIRED);
	assert_string_equal(f->last, m.id);
}

/* Forward: it has ended, and nothing revives it. */
static void test_wall_clock_forward_and_back(void **state)
{
	struct fixture *f = *state;
	struct ssh_made m = make(f);

	f->wall += 2 * DAY;
	assert_int_equal(try(f, &m, true, "expired"), GRPC_UNAUTHENTICATED);
	sweep(f);
	f->wall -= 2 * DAY;
	assert_int_equal(try(f, &m, true, "expired"), GRPC_UNAUTHENTICATED);
	close_all(f);
	open_all(f);
	assert_int_equal(try(f, &m, true, "expired"), GRPC_UNAUTHENTICATED);
}

/* Nor does anything when nobody has come to sweep in between. */
static void test_seen_once(void **state)
{
	struct fixture *f = *state;
	struct ssh_made m = make(f), other = make(f);

	f->wall += 2 * DAY;
	assert_int_equal(try(f, &m, false, "expired"), GRPC_UNAUTHENTICATED);
	f->wall -= 2 * DAY;
	assert_int_equal(try(f, &m, true, "expired"), GRPC_UNAUTHENTICATED);
	assert_int_equal(try(f, &other, true, ""), GRPC_OK);
	sweep(f);
	close_all(f);
	open_all(f);
	assert_int_equal(try(f, &m, true, "expired"), GRPC_UNAUTHENTICATED);
	assert_int_equal(try(f, &other, true, ""), GRPC_OK);
}

/* Back: it ends when its time is up all the same. */
static void test_wall_clock_back(void **state)
{
	struct fixture *f = *state;
	struct ssh_made m = make(f);
	struct ssh_grant g;
	struct err err;

	f->wall -= 2 * DAY;
	f->monotonic += 30000;
	assert_int_equal(ssh_access_find(f->sessions, m.id, &g, &err), 0);
	assert_int_equal(g.left_ms, 30000);
	f->monotonic += 30000;
	assert_int_equal(try(f, &m, true, "expired"), GRPC_UNAUTHENTICATED);
	sweep(f);
	f->wall += 2 * DAY;
	assert_int_equal(try(f, &m, true, "expired"), GRPC_UNAUTHENTICATED);
}

/* Of two clocks the machine's restart leaves one, and what is left never grows. */
static void test_restart(void **state)
{
	struct fixture *f = *state;
	struct ssh_made m = make(f), revoked = make(f), gone;
	struct ssh_grant g;
	struct err err;

	assert_int_equal(make_at(f, OTHER, "other", &gone), 0);
	assert_int_equal(ssh_sessions_revoke(f->sessions, revoked.id, &err), 0);
	ssh_access_opened(f->sessions, m.id);
	ssh_access_count(f->sessions, m.id, 100, 7);
	close_all(f);
	f->monotonic = 17;
	f->wall -= DAY;
	f->other_gone = true;
	open_all(f);
	assert_int_equal(ssh_access_find(f->sessions, m.id, &g, &err), 0);
	assert_int_equal(g.left_ms, 60000);
	assert_int_equal(g.expires_ms, m.expires_ms);
	assert_int_equal(try(f, &revoked, true, "revoked"), GRPC_UNAUTHENTICATED);
	assert_int_equal(try(f, &gone, true, "deleted"), GRPC_UNAUTHENTICATED);
	assert_int_equal(ssh_access_token(f->sessions, m.token, &g, &err), 0);
	f->wall += DAY + 60000;
	assert_int_equal(try(f, &m, true, "expired"), GRPC_UNAUTHENTICATED);
}

static void test_drop_sandbox(void **state)
{
	struct fixture *f = *state;
	struct ssh_made mine[3], other;

	for (size_t i = 0; i < 3; i++)
		mine[i] = make(f);
	assert_int_equal(make_at(f, OTHER, "other", &other), 0);
	ssh_sessions_drop_sandbox(f->sessions, BOX);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(try(f, &mine[i], true, "deleted"), GRPC_UNAUTHENTICATED);
	assert_int_equal(try(f, &other, true, ""), GRPC_OK);
	assert_int_equal(f->ended, 0); /* nobody had got in */
	ssh_sessions_drop_sandbox(f->sessions, OTHER);
	assert_int_equal(f->ended, 1);
	assert_int_equal(f->why, SSH_END_DELETED);
}

/* Three of a session, five of a sandbox; also those that are on their way. */
static void test_connections(void **state)
{
	struct fixture *f = *state;
	struct ssh_made a = make(f), b = make(f);
	struct ssh_sessions_stats stats;
	struct ssh_grant g;
	struct err err;

	for (int i = 0; i < 3; i++)
		assert_int_equal(try(f, &a, true, ""), GRPC_OK);
	assert_int_equal(try(f, &a, true, "the SSH session has"), GRPC_RESOURCE_EXHAUSTED);
	assert_int_equal(try(f, &a, false, ""), GRPC_OK);
	assert_int_equal(ssh_access_token(f->sessions, a.token, &g, &err), -1);
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ssh_access_opened(f->sessions, a.id), SSH_END_NONE);
	assert_int_equal(try(f, &b, true, ""), GRPC_OK);
	assert_int_equal(ssh_access_id(f->sessions, b.id, &g, &err), 0);
	assert_int_equal(try(f, &b, true, "the sandbox has"), GRPC_RESOURCE_EXHAUSTED);

	/* The two of b never came. */
	f->monotonic += SSH_ACCESS_GRANT_MS;
	assert_int_equal(try(f, &b, true, ""), GRPC_OK);
	ssh_access_closed(f->sessions, a.id);
	assert_int_equal(try(f, &a, true, ""), GRPC_OK);
	ssh_sessions_stats(f->sessions, &stats);
	assert_int_equal(stats.connections, 2);
	assert_int_equal(stats.refused, 3);
	assert_int_equal(stats.live, 2);
	for (int i = 0; i < 9; i++)
		ssh_access_closed(f->sessions, a.id);
	ssh_sessions_stats(f->sessions, &stats);
	assert_int_equal(stats.connections, 0);
}

static void test_opened_after_the_end(void **state)
{
	struct fixture *f = *state;
	struct ssh_made m = make(f);
	struct err err;

	assert_int_equal(try(f, &m, true, ""), GRPC_OK);
	assert_int_equal(ssh_sessions_revoke(f->sessions, m.id, &err), 0);
	assert_int_equal(f->ended, 1);
	assert_int_equal(ssh_access_opened(f->sessions, m.id), SSH_END_REVOKED);
	assert_int_equal(ssh_access_opened(f->sessions, "0000000000000000"), SSH_END_REVOKED);
	ssh_access_closed(f->sessions, m.id);
	ssh_access_closed(f->sessions, "0000000000000000");
}

struct tally {
	size_t count;
	uint64_t last;
	struct ssh_shown first;
};

static bool tally(void *cookie, const struct ssh_shown *s)
{
	struct tally *t = cookie;

	assert_true(s->serial > t->last);
	t->last = s->serial;
	if (t->count++ == 0)
		t->first = *s;
	return true;
}

/* A day after its end it is forgotten, in the store too. */
static void test_forgets(void **state)
{
	struct fixture *f = *state;
	struct ssh_made m = make(f), stays;
	struct tally t = { 0 };
	struct err err;

	assert_int_equal(ssh_sessions_revoke(f->sessions, m.id, &err), 0);
	f->wall += DAY - 1;
	stays = make(f);
	sweep(f);
	ssh_sessions_each(f->sessions, 0, tally, &t);
	assert_int_equal(t.count, 2);
	assert_int_equal(t.first.why, SSH_END_REVOKED);
	f->wall += 1;
	sweep(f);
	t = (struct tally){ 0 };
	ssh_sessions_each(f->sessions, 0, tally, &t);
	assert_int_equal(t.count, 1);
	close_all(f);
	open_all(f);
	t = (struct tally){ 0 };
	ssh_sessions_each(f->sessions, 0, tally, &t);
	assert_int_equal(t.count, 1);
	assert_string_equal(t.first.id, stays.id);
	assert_int_equal(ssh_sessions_revoke(f->sessions, m.id, &err), -1);
	assert_non_null(strstr(err.text, "no such"));
}

/* As many of a sandbox as may be, one more, and again one when one has ended; then more
 * ended ones than are kept. */
static void test_limits(void **state)
{
	struct fixture *f = *state;
	struct ssh_made first = make(f), m;
	struct ssh_sessions_stats stats;
	struct err err;

	for (size_t i = 1; i < SSH_SESSIONS_SANDBOX_MAX; i++)
		make(f);
	assert_int_equal(make_at(f, BOX, "box", &m), -1);
	assert_int_equal(make_at(f, OTHER, "other", &m), 0);
	assert_int_equal(ssh_sessions_revoke(f->sessions, first.id, &err), 0);
	make(f);
	assert_int_equal(make_at(f, BOX, "box", &m), -1);
	ssh_sessions_drop_sandbox(f->sessions, BOX);
	ssh_sessions_stats(f->sessions, &stats);
	assert_int_equal(stats.live, 1);
	assert_int_equal(stats.ended, SSH_SESSIONS_SANDBOX_MAX + 1);
	sweep(f);
	ssh_sessions_stats(f->sessions, &stats);
	assert_int_equal(stats.ended, SSH_SESSIONS_ENDED_MAX);
}

static void execute(struct fixture *f, const char *text)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(leak_path(f->leak, "gateway.db"), &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* As many as a gateway may have, of as many sandboxes as it takes: in the store when it
 * starts, since to make them would take long. */
static void test_limit_of_all(void **state)
{
	struct fixture *f = *state;
	struct ssh_made m = make(f), last;
	struct ssh_sessions_stats stats;
	struct err err;

	close_all(f);
	execute(f,
	    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 65534)"
	    " INSERT INTO ssh_session (id, sandbox_id, sandbox, workspace, subject, token_hash,"
	    " key, permissions, created_ms, expires_ms, ended_ms, ended_why, bytes_in, bytes_out)"
	    " SELECT printf('%016x', i), printf('%08d-1111-4111-8111-111111111111', i % 8),"
	    " sandbox, workspace, subject, randomblob(32), key, permissions, created_ms,"
	    " expires_ms, ended_ms, ended_why, bytes_in, bytes_out FROM n, ssh_session");
	open_all(f);
	ssh_sessions_stats(f->sessions, &stats);
	assert_int_equal(stats.live, SSH_SESSIONS_MAX - 1);
	assert_int_equal(make_at(f, OTHER, "other", &last), 0);
	assert_int_equal(make_at(f, OTHER, "other", &m), -1);
	assert_int_equal(ssh_sessions_revoke(f->sessions, last.id, &err), 0);
	assert_int_equal(make_at(f, OTHER, "other", &m), 0);
	assert_int_equal(make_at(f, OTHER, "other", &m), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_key, setup, teardown),
		cmocka_unit_test_setup_teardown(test_token, setup, teardown),
		cmocka_unit_test_setup_teardown(test_time_is_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wall_clock_forward_and_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_seen_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wall_clock_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drop_sandbox, setup, teardown),
		cmocka_unit_test_setup_teardown(test_connections, setup, teardown),
		cmocka_unit_test_setup_teardown(test_opened_after_the_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forgets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limit_of_all, setup, teardown),
	};

	loop_free(loop_create(0, NULL)); /* what libuv opens once and keeps */
	log_setup(2, LOG_FORMAT_LOGFMT, LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
