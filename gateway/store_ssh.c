#include "gateway/store_ssh.h"

#include "gateway/store_part.h"

enum statement {
	STATEMENT_INSERT,
	STATEMENT_UPDATE,
	STATEMENT_REMOVE,
	STATEMENT_EACH,
	STATEMENT_COUNT
};

_Static_assert((int)STATEMENT_COUNT == STORE_SSH_STATEMENTS, "struct store has room for them all");

static const char *const statement_sql[STATEMENT_COUNT] = {
	[STATEMENT_INSERT] =
	    "INSERT INTO ssh_session (id, sandbox_id, sandbox, workspace, subject, token_hash, key,"
	    " permissions, created_ms, expires_ms, ended_ms, ended_why, bytes_in, bytes_out)"
	    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, 0, 0, 0)",
	[STATEMENT_UPDATE] =
	    "UPDATE ssh_session SET ended_ms = ?2, ended_why = ?3, bytes_in = ?4, bytes_out = ?5"
	    " WHERE serial = ?1",
	[STATEMENT_REMOVE] = "DELETE FROM ssh_session WHERE serial = ?1",
	[STATEMENT_EACH] =
	    "SELECT serial, id, sandbox_id, sandbox, workspace, subject, token_hash, key,"
	    " permissions, created_ms, expires_ms, ended_ms, ended_why, bytes_in, bytes_out"
	    " FROM ssh_session ORDER BY serial",
};

static sqlite3_stmt *prepare(struct store *s, enum statement which)
{
	return sql_prepare(&s->sql, &s->ssh_statements[which], statement_sql[which]);
}

int store_ssh_insert(
    struct store *s, const struct store_ssh *row, uint64_t *serial, struct err *err)
{
	sqlite3_stmt *stmt = prepare(s, STATEMENT_INSERT);

	if (stmt == NULL)
		return sql_fail(&s->sql, "add an SSH session", err);
	sql_bind_text(stmt, 1, row->id);
	sql_bind_text(stmt, 2, row->sandbox_id);
	sql_bind_text(stmt, 3, row->sandbox);
	sql_bind_text(stmt, 4, row->workspace);
	sql_bind_text(stmt, 5, row->subject);
	sql_bind_blob(stmt, 6, row->token_hash, CRYPTO_SHA256_SIZE);
	sql_bind_blob(stmt, 7, row->key, row->key_len);
	sqlite3_bind_int64(stmt, 8, row->permissions);
	sqlite3_bind_int64(stmt, 9, row->created_ms);
	sqlite3_bind_int64(stmt, 10, row->expires_ms);
	if (sql_run(stmt) != 0)
		return sql_fail(&s->sql, "add an SSH session", err);
	s->sql.failing = false;
	*serial = (uint64_t)sqlite3_last_insert_rowid(s->sql.db);
	return 0;
}

static int update(struct store *s, const struct store_ssh *row, struct err *err)
{
	sqlite3_stmt *stmt = prepare(s, STATEMENT_UPDATE);

	if (stmt == NULL)
		return sql_fail(&s->sql, "change an SSH session", err);
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)row->serial);
	sqlite3_bind_int64(stmt, 2, row->ended_ms);
	sqlite3_bind_int(stmt, 3, row->ended_why);
	sqlite3_bind_int64(stmt, 4, (sqlite3_int64)row->bytes_in);
	sqlite3_bind_int64(stmt, 5, (sqlite3_int64)row->bytes_out);
	return sql_run(stmt) == 0 ? 0 : sql_fail(&s->sql, "change an SSH session", err);
}

int store_ssh_update(struct store *s, const struct store_ssh *rows, size_t count, struct err *err)
{
	int result = 0;

	if (sql_begin(&s->sql, "change SSH sessions", err) != 0)
		return -1;
	for (size_t i = 0; i < count && result == 0; i++)
		result = update(s, &rows[i], err);
	return sql_end(&s->sql, result, "change SSH sessions", err);
}

static int remove_row(struct store *s, uint64_t serial, struct err *err)
{
	sqlite3_stmt *stmt = prepare(s, STATEMENT_REMOVE);

	if (stmt == NULL)
		return sql_fail(&s->sql, "forget an SSH session", err);
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)serial);
	return sql_run(stmt) == 0 ? 0 : sql_fail(&s->sql, "forget an SSH session", err);
}

int store_ssh_remove(struct store *s, const uint64_t *serials, size_t count, struct err *err)
{
	int result = 0;

	if (sql_begin(&s->sql, "forget SSH sessions", err) != 0)
		return -1;
	for (size_t i = 0; i < count && result == 0; i++)
		result = remove_row(s, serials[i], err);
	return sql_end(&s->sql, result, "forget SSH sessions", err);
}

static void read_row(sqlite3_stmt *stmt, struct store_ssh *row)
{
	*row = (struct store_ssh){
		.serial = (uint64_t)sqlite3_column_int64(stmt, 0),
		.id = sql_column_text(stmt, 1),
		.sandbox_id = sql_column_text(stmt, 2),
		.sandbox = sql_column_text(stmt, 3),
		.workspace = sql_column_text(stmt, 4),
		.subject = sql_column_text(stmt, 5),
		.token_hash = sql_column_hash(stmt, 6),
		.key = sqlite3_column_blob(stmt, 7),
		.key_len = (size_t)sqlite3_column_bytes(stmt, 7),
		.permissions = (uint32_t)sqlite3_column_int64(stmt, 8),
		.created_ms = sqlite3_column_int64(stmt, 9),
		.expires_ms = sqlite3_column_int64(stmt, 10),
		.ended_ms = sqlite3_column_int64(stmt, 11),
		.ended_why = sqlite3_column_int(stmt, 12),
		.bytes_in = (uint64_t)sqlite3_column_int64(stmt, 13),
		.bytes_out = (uint64_t)sqlite3_column_int64(stmt, 14),
	};
}

int store_ssh_each(struct store *s,
    int (*each)(void *cookie, const struct store_ssh *, struct err *), void *cookie,
    struct err *err)
{
	sqlite3_stmt *stmt = prepare(s, STATEMENT_EACH);
	int step = SQLITE_ERROR, result = 0;

	while (stmt != NULL && result == 0 && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct store_ssh row;

		read_row(stmt, &row);
		result = each(cookie, &row, err);
	}
	if (result == 0 && step != SQLITE_DONE)
		result = sql_fail(&s->sql, "read the SSH sessions", err);
	sql_release(stmt);
	return result;
}
