/* The store: rows, versions, requests, modes, migrations, and a second opening. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/store.h"
#include "gateway/store_schema.h"
#include "gateway/store_ssh.h"
#include "support/leak.h"

#define ID "11111111-1111-4111-8111-111111111111"

struct fixture {
	struct leak *leak;
	struct store *store;
	const char *path;
};

static void open_store(struct fixture *f)
{
	struct err err = { 0 };

	f->path = leak_path(f->leak, "gateway.db");
	f->store = store_open(f->path, &err);
	if (f->store == NULL)
		fail_msg("%s", err.text);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->leak = leak_begin();
	open_store(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	static const char *const names[] = { "gateway.db", "gateway.db-wal", "gateway.db-shm" };
	int result;

	store_close(f->store);
	for (size_t i = 0; i < 3; i++)
		unlink(leak_path(f->leak, names[i]));
	result = leak_end(f->leak);
	free(f);
	return result;
}

static const uint8_t body[] = { 1, 2, 0, 3 };
static const uint8_t hash[CRYPTO_SHA256_SIZE] = { 9, 8, 7 };

static struct store_sandbox row(const char *id, const char *workspace, const char *name)
{
	return (struct store_sandbox){
		.id = id,
		.workspace = workspace,
		.name = name,
		.phase = 1,
		.reason = "Created",
		.message = "",
		.version = 1,
		.changed_ms = 1234567890123,
		.token_hash = hash,
		.body = body,
		.body_len = sizeof(body),
	};
}

static int count_row(void *cookie, const struct store_sandbox *r, struct err *err)
{
	(void)r;
	(void)err;
	++*(size_t *)cookie;
	return 0;
}

static size_t count(struct store *s)
{
	size_t n = 0;
	struct err err;

	assert_int_equal(store_sandbox_each(s, count_row, &n, &err), 0);
	return n;
}

struct expected {
	const struct store_sandbox *row;
	size_t seen;
};

static int compare_row(void *cookie, const struct store_sandbox *r, struct err *err)
{
	struct expected *e = cookie;

	(void)err;
	e->seen++;
	assert_string_equal(r->id, e->row->id);
	assert_string_equal(r->workspace, e->row->workspace);
	assert_string_equal(r->name, e->row->name);
	assert_string_equal(r->reason, e->row->reason);
	assert_string_equal(r->message, e->row->message);
	assert_int_equal(r->phase, e->row->phase);
	assert_int_equal(r->version, e->row->version);
	assert_int_equal(r->changed_ms, e->row->changed_ms);
	assert_int_equal(r->body_len, e->row->body_len);
	assert_memory_equal(r->body, e->row->body, r->body_len);
	assert_int_equal(r->token_hash == NULL, e->row->token_hash == NULL);
	if (r->token_hash != NULL)
		assert_memory_equal(r->token_hash, hash, sizeof(hash));
	return 0;
}

static void holds(struct store *s, const struct store_sandbox *r)
{
	struct expected e = { r, 0 };
	struct err err;

	assert_int_equal(store_sandbox_each(s, compare_row, &e, &err), 0);
	assert_int_equal(e.seen, 1);
}

static void test_round_trip(void **state)
{
	struct fixture *f = *state;
	struct store_sandbox r = row(ID, "default", "web");
	struct err err;

	assert_int_equal(store_sandbox_insert(f->store, &r, NULL, &err), 0);
	holds(f->store, &r);
	store_close(f->store);
	open_store(f);
	holds(f->store, &r);
	assert_int_equal(store_sandbox_remove(f->store, ID, &err), 0);
	assert_int_equal(store_sandbox_remove(f->store, ID, &err), 0);
	assert_int_equal(count(f->store), 0);
}

static void test_taken(void **state)
{
	struct fixture *f = *state;
	struct store_sandbox one = row(ID, "default", "web"), same = row("2", "default", "web"),
			     other = row("3", "team", "web");
	struct err err;

	assert_int_equal(store_sandbox_insert(f->store, &one, NULL, &err), 0);
	assert_int_equal(store_sandbox_insert(f->store, &same, NULL, &err), -1);
	assert_int_equal(err.code, GRPC_ALREADY_EXISTS);
	assert_non_null(strstr(err.text, "\"web\""));
	assert_int_equal(store_sandbox_insert(f->store, &other, NULL, &err), 0);
	assert_int_equal(count(f->store), 2);
	assert_false(store_is_failing(f->store));
}

/* Only who knows the present version may change the row. */
static void test_versions(void **state)
{
	struct fixture *f = *state;
	struct store_sandbox r = row(ID, "default", "web");
	struct err err;

	assert_int_equal(store_sandbox_insert(f->store, &r, NULL, &err), 0);
	r.phase = 2;
	r.version = 2;
	r.token_hash = NULL;
	r.message = "it's \"fine\"; DROP TABLE sandbox";
	assert_int_equal(store_sandbox_update(f->store, &r, 1, NULL, &err), 0);
	holds(f->store, &r);

	r.version = 3;
	assert_int_equal(store_sandbox_update(f->store, &r, 1, NULL, &err), -1);
	assert_int_equal(err.code, GRPC_ABORTED);
	r.version = 2;
	holds(f->store, &r);

	assert_int_equal(store_sandbox_remove(f->store, ID, &err), 0);
	assert_int_equal(store_sandbox_update(f->store, &r, 2, NULL, &err), -1);
	assert_int_equal(err.code, GRPC_NOT_FOUND);
}

static void test_requests(void **state)
{
	struct fixture *f = *state;
	struct store_sandbox r = row(ID, "default", "web"), taken = row("2", "default", "web");
	struct store_request first = { "CreateSandbox", "default", "r1", ID };
	struct store_request second = { "CreateSandbox", "default", "r2", "2" };
	char subject[NAMES_WORKSPACE_MAX + 1];
	struct err err;

	assert_int_equal(store_request_find(f->store, &first, subject, &err), 0);
	assert_int_equal(store_sandbox_insert(f->store, &r, &first, &err), 0);
	assert_int_equal(store_request_find(f->store, &first, subject, &err), 1);
	assert_string_equal(subject, ID);
	first.method = "DeleteSandbox";
	assert_int_equal(store_request_find(f->store, &first, subject, &err), 0);
	first.method = "CreateSandbox";
	first.workspace = "team";
	assert_int_equal(store_request_find(f->store, &first, subject, &err), 0);

	/* What failed was not answered: it may be tried again. */
	assert_int_equal(store_sandbox_insert(f->store, &taken, &second, &err), -1);
	assert_int_equal(store_request_find(f->store, &second, subject, &err), 0);
}

static void test_requests_are_bounded(void **state)
{
	struct fixture *f = *state;
	struct store_request r = { .method = "m", .workspace = "", .subject = "s" };
	char id[16], subject[NAMES_WORKSPACE_MAX + 1];
	struct err err;

	for (int i = 0; i < STORE_REQUESTS_MAX + 2; i++) {
		snprintf(id, sizeof(id), "%d", i);
		r.request_id = id;
		assert_int_equal(store_request_put(f->store, &r, &err), 0);
	}
	r.request_id = "1";
	assert_int_equal(store_request_find(f->store, &r, subject, &err), 0);
	r.request_id = "2";
	assert_int_equal(store_request_find(f->store, &r, subject, &err), 1);
}

static int count_workspace(void *cookie, const struct store_workspace *r, struct err *err)
{
	(void)err;
	assert_string_equal(r->name, "team");
	assert_string_equal(r->id, "w1");
	assert_int_equal(r->version, 7);
	assert_memory_equal(r->body, body, sizeof(body));
	++*(size_t *)cookie;
	return 0;
}

static void test_workspaces(void **state)
{
	struct fixture *f = *state;
	struct store_workspace w = { "team", "w1", 7, body, sizeof(body) };
	size_t n = 0;
	struct err err;

	assert_int_equal(store_workspace_insert(f->store, &w, NULL, &err), 0);
	w.id = "w2";
	assert_int_equal(store_workspace_insert(f->store, &w, NULL, &err), -1);
	assert_int_equal(err.code, GRPC_ALREADY_EXISTS);
	assert_int_equal(store_workspace_each(f->store, count_workspace, &n, &err), 0);
	assert_int_equal(n, 1);
	assert_int_equal(store_workspace_remove(f->store, "team", NULL, &err), 0);
	assert_int_equal(store_workspace_each(f->store, count_workspace, &n, &err), 0);
	assert_int_equal(n, 1);
}

static void test_settings(void **state)
{
	struct fixture *f = *state;
	char *value;
	struct err err;

	assert_int_equal(store_setting_get(f->store, "port", &value, &err), 0);
	assert_null(value);
	assert_int_equal(store_setting_set(f->store, "port", "1", &err), 0);
	assert_int_equal(store_setting_set(f->store, "port", "2", &err), 0);
	assert_int_equal(store_setting_get(f->store, "port", &value, &err), 0);
	assert_string_equal(value, "2");
	free(value);
}

/* Nobody else may read it, whatever the umask and whatever it was before. */
static void test_modes(void **state)
{
	struct fixture *f = *state;
	static const char *const names[] = { "gateway.db", "gateway.db-wal", "gateway.db-shm" };
	struct store_sandbox r = row(ID, "default", "web");
	struct stat st;
	struct err err;

	store_close(f->store);
	assert_int_equal(chmod(f->path, 0666), 0);
	open_store(f);
	assert_int_equal(store_sandbox_insert(f->store, &r, NULL, &err), 0);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(stat(leak_path(f->leak, names[i]), &st), 0);
		assert_int_equal(st.st_mode & 0777, 0600);
	}
}

static void execute(const char *path, const char *sql)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void test_newer(void **state)
{
	struct fixture *f = *state;
	struct err err;

	store_close(f->store);
	execute(f->path, "INSERT INTO schema VALUES (1000, 0)");
	f->store = store_open(f->path, &err);
	assert_null(f->store);
	assert_int_equal(err.code, GRPC_FAILED_PRECONDITION);
	assert_non_null(strstr(err.text, "1000"));
}

/* A step that breaks off is not half done. */
static void test_migration_is_whole(void **state)
{
	struct fixture *f = *state;
	struct err err;

	store_close(f->store);
	execute(f->path, "DELETE FROM schema; DROP TABLE setting"); /* sandbox is in the way */
	f->store = store_open(f->path, &err);
	assert_null(f->store);
	execute(f->path,
	    "DROP TABLE sandbox; DROP TABLE workspace; DROP TABLE request;"
	    "DROP TABLE ssh_session");
	open_store(f);
	assert_int_equal(count(f->store), 0);
}

static void test_no_database(void **state)
{
	struct fixture *f = *state;
	struct err err;
	FILE *file;

	store_close(f->store);
	file = fopen(f->path, "w");
	fputs("this is no database, and long enough to be told apart from an empty one", file);
	fclose(file);
	f->store = store_open(f->path, &err);
	assert_null(f->store);
	assert_non_null(strstr(err.text, f->path));
	assert_null(store_open("/nonexistent/gateway.db", &err));
	assert_int_equal(err.code, GRPC_NOT_FOUND);
}

static struct store_ssh ssh_row(const char *id)
{
	return (struct store_ssh){
		.id = id,
		.sandbox_id = ID,
		.sandbox = "web",
		.workspace = "default",
		.subject = "local",
		.token_hash = hash,
		.key = body,
		.key_len = sizeof(body),
		.permissions = 5,
		.created_ms = 1,
		.expires_ms = 900001,
	};
}

static int count_ssh(void *cookie, const struct store_ssh *row, struct err *err)
{
	(void)err;
	assert_int_equal(strlen(row->id), 16);
	assert_memory_equal(row->token_hash, hash, sizeof(hash));
	assert_memory_equal(row->key, body, sizeof(body));
	assert_int_equal(row->permissions, 5);
	assert_int_equal(row->expires_ms, 900001);
	if (row->serial == 2) {
		assert_int_equal(row->ended_ms, 77);
		assert_int_equal(row->ended_why, 2);
		assert_int_equal(row->bytes_in, UINT64_C(1) << 40);
		assert_int_equal(row->bytes_out, 3);
	}
	++*(size_t *)cookie;
	return 0;
}

static void test_ssh_sessions(void **state)
{
	struct fixture *f = *state;
	struct store_ssh row = ssh_row("0123456789abcdef");
	const uint64_t first[] = { 1, 9 };
	size_t n = 0;
	struct err err;

	for (uint64_t i = 1; i <= 3; i++) {
		assert_int_equal(store_ssh_insert(f->store, &row, &row.serial, &err), 0);
		assert_int_equal(row.serial, i);
	}
	row.serial = 2;
	row.ended_ms = 77;
	row.ended_why = 2;
	row.bytes_in = UINT64_C(1) << 40;
	row.bytes_out = 3;
	assert_int_equal(store_ssh_update(f->store, &row, 1, &err), 0);
	assert_int_equal(store_ssh_remove(f->store, first, 2, &err), 0);
	store_close(f->store);
	open_store(f);
	assert_int_equal(store_ssh_each(f->store, count_ssh, &n, &err), 0);
	assert_int_equal(n, 2);
}

/* What was there when it was opened is not any more: each call says so, none crashes. */
static void test_damaged_while_open(void **state)
{
	struct fixture *f = *state;
	const struct store_request request = { "CreateSandbox", "default", "r1", ID };
	struct store_sandbox r = row(ID, "default", "web");
	char subject[NAMES_WORKSPACE_MAX + 1], *value;
	struct store_ssh ssh = ssh_row("0123456789abcdef");
	size_t n = 0;
	struct err err;

	execute(f->path,
	    "DROP TABLE sandbox; DROP TABLE workspace; DROP TABLE request;"
	    "DROP TABLE setting; DROP TABLE ssh_session");
	assert_int_equal(store_sandbox_each(f->store, count_row, &n, &err), -1);
	assert_int_equal(err.code, GRPC_INTERNAL);
	assert_true(store_is_failing(f->store));
	assert_int_equal(store_workspace_each(f->store, count_workspace, &n, &err), -1);
	assert_int_equal(store_sandbox_insert(f->store, &r, NULL, &err), -1);
	assert_int_equal(store_sandbox_update(f->store, &r, 1, NULL, &err), -1);
	assert_int_equal(store_sandbox_remove(f->store, ID, &err), -1);
	assert_int_equal(store_request_find(f->store, &request, subject, &err), -1);
	assert_int_equal(store_request_put(f->store, &request, &err), -1);
	assert_int_equal(store_setting_get(f->store, "port", &value, &err), -1);
	assert_int_equal(store_setting_set(f->store, "port", "1", &err), -1);
	assert_int_equal(store_ssh_insert(f->store, &ssh, &ssh.serial, &err), -1);
	assert_int_equal(store_ssh_update(f->store, &ssh, 1, &err), -1);
	assert_int_equal(store_ssh_remove(f->store, &ssh.serial, 1, &err), -1);
	assert_int_equal(store_ssh_each(f->store, count_ssh, &n, &err), -1);
	assert_int_equal(n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
		cmocka_unit_test_setup_teardown(test_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_versions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_requests_are_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_workspaces, setup, teardown),
		cmocka_unit_test_setup_teardown(test_settings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_modes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_newer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_migration_is_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_database, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ssh_sessions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged_while_open, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
