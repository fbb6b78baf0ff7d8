#include "gateway/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/store_part.h"
#include "gateway/store_schema.h"
#include "gateway/wall.h"

/* Milliseconds to wait for another process that reads the database. */
#define BUSY_MS 2000

enum statement {
	STATEMENT_SANDBOX_INSERT,
	STATEMENT_SANDBOX_UPDATE,
	STATEMENT_SANDBOX_EXISTS,
	STATEMENT_SANDBOX_REMOVE,
	STATEMENT_SANDBOX_EACH,
	STATEMENT_WORKSPACE_INSERT,
	STATEMENT_WORKSPACE_REMOVE,
	STATEMENT_WORKSPACE_EACH,
	STATEMENT_REQUEST_FIND,
	STATEMENT_REQUEST_PUT,
	STATEMENT_REQUEST_TRIM,
	STATEMENT_SETTING_GET,
	STATEMENT_SETTING_SET,
	STATEMENT_COUNT
};

static const char *const statement_sql[STATEMENT_COUNT] = {
	[STATEMENT_SANDBOX_INSERT] =
	    "INSERT INTO sandbox (id, workspace, name, phase, reason, message, version, changed_ms,"
	    " token_hash, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
	[STATEMENT_SANDBOX_UPDATE] =
	    "UPDATE sandbox SET phase = ?4, reason = ?5, message = ?6, version = ?7, changed_ms = ?8,"
	    " token_hash = ?9, body = ?10 WHERE id = ?1 AND version = ?11",
	[STATEMENT_SANDBOX_EXISTS] = "SELECT 1 FROM sandbox WHERE id = ?1",
	[STATEMENT_SANDBOX_REMOVE] = "DELETE FROM sandbox WHERE id = ?1",
	[STATEMENT_SANDBOX_EACH] =
	    "SELECT id, workspace, name, phase, reason, message, version, changed_ms, token_hash, body"
	    " FROM sandbox ORDER BY workspace, name",
	[STATEMENT_WORKSPACE_INSERT] =
	    "INSERT INTO workspace (name, id, version, body) VALUES (?1, ?2, ?3, ?4)",
	[STATEMENT_WORKSPACE_REMOVE] = "DELETE FROM workspace WHERE name = ?1",
	[STATEMENT_WORKSPACE_EACH] = "SELECT name, id, version, body FROM workspace ORDER BY name",
	[STATEMENT_REQUEST_FIND] =
	    "SELECT subject FROM request WHERE method = ?1 AND workspace = ?2 AND request_id = ?3",
	[STATEMENT_REQUEST_PUT] =
	    "INSERT OR REPLACE INTO request (method, workspace, request_id, subject)"
	    " VALUES (?1, ?2, ?3, ?4)",
	[STATEMENT_REQUEST_TRIM] =
	    "DELETE FROM request WHERE serial <= (SELECT max(serial) FROM request) - ?1",
	[STATEMENT_SETTING_GET] = "SELECT value FROM setting WHERE name = ?1",
	[STATEMENT_SETTING_SET] = "INSERT OR REPLACE INTO setting (name, value) VALUES (?1, ?2)",
};

_Static_assert((int)STATEMENT_COUNT == STORE_STATEMENTS, "struct store has room for them all");

static sqlite3_stmt *prepare(struct store *s, enum statement which)
{
	return sql_prepare(&s->sql, &s->statements[which], statement_sql[which]);
}

/* Requests. */

static int put_request(struct store *s, const struct store_request *r, struct err *err)
{
	sqlite3_stmt *stmt;

	if (r == NULL)
		return 0;
	if ((stmt = prepare(s, STATEMENT_REQUEST_PUT)) == NULL)
		return sql_fail(&s->sql, "remember a request", err);
	sql_bind_text(stmt, 1, r->method);
	sql_bind_text(stmt, 2, r->workspace);
	sql_bind_text(stmt, 3, r->request_id);
	sql_bind_text(stmt, 4, r->subject);
	if (sql_run(stmt) != 0)
		return sql_fail(&s->sql, "remember a request", err);
	if ((stmt = prepare(s, STATEMENT_REQUEST_TRIM)) == NULL)
		return sql_fail(&s->sql, "forget old requests", err);
	sqlite3_bind_int(stmt, 1, STORE_REQUESTS_MAX);
	return sql_run(stmt) == 0 ? 0 : sql_fail(&s->sql, "forget old requests", err);
}

/* Sandboxes. */

static void bind_sandbox(sqlite3_stmt *stmt, const struct store_sandbox *row)
{
	sql_bind_text(stmt, 1, row->id);
	sqlite3_bind_int(stmt, 4, row->phase);
	sql_bind_text(stmt, 5, row->reason);
	sql_bind_text(stmt, 6, row->message);
	sqlite3_bind_int64(stmt, 7, (sqlite3_int64)row->version);
	sqlite3_bind_int64(stmt, 8, row->changed_ms);
	sql_bind_blob(stmt, 9, row->token_hash, CRYPTO_SHA256_SIZE);
	sql_bind_blob(stmt, 10, row->body, row->body_len);
}

static int insert_sandbox(struct store *s, const struct store_sandbox *row, struct err *err)
{
	sqlite3_stmt *stmt = prepare(s, STATEMENT_SANDBOX_INSERT);

	if (stmt == NULL)
		return sql_fail(&s->sql, "add a sandbox", err);
	bind_sandbox(stmt, row);
	sql_bind_text(stmt, 2, row->workspace);
	sql_bind_text(stmt, 3, row->name);
	if (sql_run(stmt) == 0)
		return 0;
	if (sqlite3_extended_errcode(s->sql.db) == SQLITE_CONSTRAINT_UNIQUE)
		return err_set(err, GRPC_ALREADY_EXISTS,
		    "sandbox \"%s\" exists already in workspace \"%s\"; choose another name",
		    row->name, row->workspace);
	return sql_fail(&s->sql, "add a sandbox", err);
}

int store_sandbox_insert(struct store *s, const struct store_sandbox *row,
    const struct store_request *request, struct err *err)
{
	int result;

	if (sql_begin(&s->sql, "add a sandbox", err) != 0)
		return -1;
	result = insert_sandbox(s, row, err);
	if (result == 0)
		result = put_request(s, request, err);
	return sql_end(&s->sql, result, "add a sandbox", err);
}

/* Why an update found no row. */
static int missed(
    struct store *s, const struct store_sandbox *row, uint64_t expected, struct err *err)
{
	sqlite3_stmt *stmt = prepare(s, STATEMENT_SANDBOX_EXISTS);
	bool exists;

	if (stmt == NULL)
		return sql_fail(&s->sql, "look for a sandbox", err);
	sql_bind_text(stmt, 1, row->id);
	exists = sqlite3_step(stmt) == SQLITE_ROW;
	sql_release(stmt);
	if (!exists)
		return err_set(err, GRPC_NOT_FOUND, "sandbox %s is gone", row->id);
	return err_set(err, GRPC_ABORTED,
	    "sandbox %s has changed since version %" PRIu64 "; read it again and retry", row->id,
	    expected);
}

static int update_sandbox(
    struct store *s, const struct store_sandbox *row, uint64_t expected, struct err *err)
{
	sqlite3_stmt *stmt = prepare(s, STATEMENT_SANDBOX_UPDATE);

	if (stmt == NULL)
		return sql_fail(&s->sql, "change a sandbox", err);
	bind_sandbox(stmt, row);
	sqlite3_bind_int64(stmt, 11, (sqlite3_int64)expected);
	if (sql_run(stmt) != 0)
		return sql_fail(&s->sql, "change a sandbox", err);
	return sqlite3_changes(s->sql.db) == 1 ? 0 : missed(s, row, expected, err);
}

int store_sandbox_update(struct store *s, const struct store_sandbox *row, uint64_t expected,
    const struct store_request *request, struct err *err)
{
	int result;

	if (sql_begin(&s->sql, "change a sandbox", err) != 0)
		return -1;
	result = update_sandbox(s, row, expected, err);
	if (result == 0)
		result = put_request(s, request, err);
	return sql_end(&s->sql, result, "change a sandbox", err);
}

int store_sandbox_remove(struct store *s, const char *id, struct err *err)
{
	sqlite3_stmt *stmt = prepare(s, STATEMENT_SANDBOX_REMOVE);

	if (stmt == NULL)
		return sql_fail(&s->sql, "remove a sandbox", err);
	sql_bind_text(stmt, 1, id);
	return sql_run(stmt) == 0 ? 0 : sql_fail(&s->sql, "remove a sandbox", err);
}

int store_sandbox_each(struct store *s,
    int (*each)(void *cookie, const struct store_sandbox *, struct err *), void *cookie,
    struct err *err)
{
	sqlite3_stmt *stmt = prepare(s, STATEMENT_SANDBOX_EACH);
	int step = SQLITE_ERROR, result = 0;

	while (stmt != NULL && result == 0 && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct store_sandbox row = {
			.id = sql_column_text(stmt, 0),
			.workspace = sql_column_text(stmt, 1),
			.name = sql_column_text(stmt, 2),
			.phase = sqlite3_column_int(stmt, 3),
			.reason = sql_column_text(stmt, 4),
			.message = sql_column_text(stmt, 5),
			.version = (uint64_t)sqlite3_column_int64(stmt, 6),
			.changed_ms = sqlite3_column_int64(stmt, 7),
			.token_hash = sql_column_hash(stmt, 8),
			.body = sqlite3_column_blob(stmt, 9),
			.body_len = (size_t)sqlite3_column_bytes(stmt, 9),
		};
		result = each(cookie, &row, err);
	}
	if (result == 0 && step != SQLITE_DONE)
		result = sql_fail(&s->sql, "read the sandboxes", err);
	sql_release(stmt);
	return result;
}

/* Workspaces. */

static int insert_workspace(struct store *s, const struct store_workspace *row, struct err *err)
{
	sqlite3_stmt *stmt = prepare(s, STATEMENT_WORKSPACE_INSERT);

	if (stmt == NULL)
		return sql_fail(&s->sql, "add a workspace", err);
	sql_bind_text(stmt, 1, row->name);
	sql_bind_text(stmt, 2, row->id);
	sqlite3_bind_int64(stmt, 3, (sqlite3_int64)row->version);
	sql_bind_blob(stmt, 4, row->body, row->body_len);
	if (sql_run(stmt) == 0)
		return 0;
	if (sqlite3_extended_errcode(s->sql.db) == SQLITE_CONSTRAINT_PRIMARYKEY)
		return err_set(
		    err, GRPC_ALREADY_EXISTS, "workspace \"%s\" exists already", row->name);
	return sql_fail(&s->sql, "add a workspace", err);
}

int store_workspace_insert(struct store *s, const struct store_workspace *row,
    const struct store_request *request, struct err *err)
{
	int result;

	if (sql_begin(&s->sql, "add a workspace", err) != 0)
		return -1;
	result = insert_workspace(s, row, err);
	if (result == 0)
		result = put_request(s, request, err);
	return sql_end(&s->sql, result, "add a workspace", err);
}

static int remove_workspace(struct store *s, const char *name, struct err *err)
{
	sqlite3_stmt *stmt = prepare(s, STATEMENT_WORKSPACE_REMOVE);

	if (stmt == NULL)
		return sql_fail(&s->sql, "remove a workspace", err);
	sql_bind_text(stmt, 1, name);
	return sql_run(stmt) == 0 ? 0 : sql_fail(&s->sql, "remove a workspace", err);
}

int store_workspace_remove(
    struct store *s, const char *name, const struct store_request *request, struct err *err)
{
	int result;

	if (sql_begin(&s->sql, "remove a workspace", err) != 0)
		return -1;
	result = remove_workspace(s, name, err);
	if (result == 0)
		result = put_request(s, request, err);
	return sql_end(&s->sql, result, "remove a workspace", err);
}

int store_workspace_each(struct store *s,
    int (*each)(void *cookie, const struct store_workspace *, struct err *), void *cookie,
    struct err *err)
{
	sqlite3_stmt *stmt = prepare(s, STATEMENT_WORKSPACE_EACH);
	int step = SQLITE_ERROR, result = 0;

	while (stmt != NULL && result == 0 && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct store_workspace row = {
			.name = sql_column_text(stmt, 0),
			.id = sql_column_text(stmt, 1),
			.version = (uint64_t)sqlite3_column_int64(stmt, 2),
			.body = sqlite3_column_blob(stmt, 3),
			.body_len = (size_t)sqlite3_column_bytes(stmt, 3),
		};
		result = each(cookie, &row, err);
	}
	if (result == 0 && step != SQLITE_DONE)
		result = sql_fail(&s->sql, "read the workspaces", err);
	sql_release(stmt);
	return result;
}

/* Requests and settings. */

int store_request_find(struct store *s, const struct store_request *r,
    char subject[static NAMES_WORKSPACE_MAX + 1], struct err *err)
{
	sqlite3_stmt *stmt = prepare(s, STATEMENT_REQUEST_FIND);
	int step;

	if (stmt == NULL)
		return sql_fail(&s->sql, "look for a request", err);
	sql_bind_text(stmt, 1, r->method);
	sql_bind_text(stmt, 2, r->workspace);
	sql_bind_text(stmt, 3, r->request_id);
	step = sqlite3_step(stmt);
	if (step == SQLITE_ROW)
		snprintf(subject, NAMES_WORKSPACE_MAX + 1, "%s", sql_column_text(stmt, 0));
	sql_release(stmt);
	if (step == SQLITE_ROW || step == SQLITE_DONE)
		return step == SQLITE_ROW;
	return sql_fail(&s->sql, "look for a request", err);
}

int store_request_put(struct store *s, const struct store_request *request, struct err *err)
{
	if (sql_begin(&s->sql, "remember a request", err) != 0)
		return -1;
	return sql_end(&s->sql, put_request(s, request, err), "remember a request", err);
}

int store_setting_get(struct store *s, const char *name, char **value, struct err *err)
{
	sqlite3_stmt *stmt = prepare(s, STATEMENT_SETTING_GET);
	int step;

	*value = NULL;
	if (stmt == NULL)
		return sql_fail(&s->sql, "read a setting", err);
	sql_bind_text(stmt, 1, name);
	step = sqlite3_step(stmt);
	if (step == SQLITE_ROW)
		*value = strdup(sql_column_text(stmt, 0));
	sql_release(stmt);
	if (step == SQLITE_ROW && *value == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	return step == SQLITE_ROW || step == SQLITE_DONE ? 0
							 : sql_fail(&s->sql, "read a setting", err);
}

int store_setting_set(struct store *s, const char *name, const char *value, struct err *err)
{
	sqlite3_stmt *stmt = prepare(s, STATEMENT_SETTING_SET);

	if (stmt == NULL)
		return sql_fail(&s->sql, "keep a setting", err);
	sql_bind_text(stmt, 1, name);
	sql_bind_text(stmt, 2, value);
	return sql_run(stmt) == 0 ? 0 : sql_fail(&s->sql, "keep a setting", err);
}

bool store_is_failing(const struct store *s)
{
	return s->sql.failing;
}

/* Opening. */

/* SQLite gives its -wal and -shm files the mode of the database file, so making that
 * one ourselves settles all three. */
static int make_file(const char *path, struct err *err)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int result;

	if (fd < 0)
		return err_sys(err, errno, "open the database %s", path);
	result = fchmod(fd, 0600) == 0 ? 0 : err_sys(err, errno, "protect the database %s", path);
	close(fd);
	return result;
}

static int schema_version(struct store *s, size_t *version, struct err *err)
{
	sqlite3_stmt *stmt = NULL;
	int step = SQLITE_ERROR;

	if (sqlite3_exec(s->sql.db,
		"CREATE TABLE IF NOT EXISTS schema (version INTEGER PRIMARY KEY, applied_ms INTEGER) STRICT",
		NULL, NULL, NULL) != SQLITE_OK)
		return sql_fail(&s->sql, "make the table of schema versions", err);
	if (sqlite3_prepare_v2(s->sql.db, "SELECT coalesce(max(version), 0) FROM schema", -1, &stmt,
		NULL) == SQLITE_OK)
		step = sqlite3_step(stmt);
	*version = step == SQLITE_ROW ? (size_t)sqlite3_column_int64(stmt, 0) : 0;
	sqlite3_finalize(stmt);
	return step == SQLITE_ROW ? 0 : sql_fail(&s->sql, "read the schema version", err);
}

static int migrate_step(struct store *s, size_t version, struct err *err)
{
	char note[128];
	int result;

	snprintf(note, sizeof(note), "INSERT INTO schema VALUES (%zu, %" PRId64 ")", version + 1,
	    wall_now_ms());
	if (sql_begin(&s->sql, "bring the schema up to date", err) != 0)
		return -1;
	result =
	    sqlite3_exec(s->sql.db, store_schema_steps[version], NULL, NULL, NULL) == SQLITE_OK &&
		sqlite3_exec(s->sql.db, note, NULL, NULL, NULL) == SQLITE_OK
	    ? 0
	    : sql_fail(&s->sql, "bring the schema up to date", err);
	return sql_end(&s->sql, result, "bring the schema up to date", err);
}

static int migrate(struct store *s, struct err *err)
{
	size_t version = 0;

	if (schema_version(s, &version, err) != 0)
		return -1;
	if (version > store_schema_count)
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "the database has schema version %zu, this program knows up to %zu; run the newer "
		    "towline-gateway that made it",
		    version, store_schema_count);
	for (; version < store_schema_count; version++)
		if (migrate_step(s, version, err) != 0)
			return -1;
	return 0;
}

/* The cache is small: the gateway keeps what it needs often in memory of its own. */
static int configure(struct store *s, struct err *err)
{
	sqlite3_extended_result_codes(s->sql.db, 1);
	sqlite3_busy_timeout(s->sql.db, BUSY_MS);
	if (sqlite3_exec(s->sql.db,
		"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -256;"
		"PRAGMA trusted_schema = OFF",
		NULL, NULL, NULL) != SQLITE_OK)
		return sql_fail(&s->sql, "set it up", err);
	return 0;
}

struct store *store_open(const char *path, struct err *err)
{
	struct store *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	if (make_file(path, err) != 0) {
		free(s);
		return NULL;
	}
	if (sqlite3_open_v2(path, &s->sql.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
	    SQLITE_OK)
		sql_fail(&s->sql, "open it", err);
	else if (configure(s, err) == 0 && migrate(s, err) == 0)
		return s;
	err_wrap(err, "%s", path);
	store_close(s);
	return NULL;
}

void store_close(struct store *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < STORE_STATEMENTS; i++)
		sqlite3_finalize(s->statements[i]);
	for (size_t i = 0; i < STORE_SSH_STATEMENTS; i++)
		sqlite3_finalize(s->ssh_statements[i]);
	sql_close(&s->sql);
	free(s);
}
