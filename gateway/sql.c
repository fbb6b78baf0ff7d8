#include "gateway/sql.h"

#include "base/log.h"
#include "rpc/crypto.h"

static const struct log_area area = { "gateway.store" };

static const char *const own_text[SQL_OWN_COUNT] = {
	[SQL_BEGIN] = "BEGIN IMMEDIATE",
	[SQL_COMMIT] = "COMMIT",
	[SQL_ROLLBACK] = "ROLLBACK",
};

void sql_close(struct sql *s)
{
	for (size_t i = 0; i < SQL_OWN_COUNT; i++)
		sqlite3_finalize(s->own[i]);
	sqlite3_close(s->db);
}

int sql_fail(struct sql *s, const char *what, struct err *err)
{
	const char *why = sqlite3_errmsg(s->db);

	s->failing = true;
	log_fail(&area, "store_failed", LOG_STR("doing", what), LOG_STR("error", why));
	if (sqlite3_errcode(s->db) == SQLITE_FULL)
		return err_set(
		    err, GRPC_RESOURCE_EXHAUSTED, "the gateway's disk is full: %s", what);
	return err_set(err, GRPC_INTERNAL, "the gateway's database: %s: %s", what, why);
}

sqlite3_stmt *sql_prepare(struct sql *s, sqlite3_stmt **kept, const char *text)
{
	if (*kept == NULL)
		sqlite3_prepare_v3(s->db, text, -1, SQLITE_PREPARE_PERSISTENT, kept, NULL);
	return *kept;
}

void sql_release(sqlite3_stmt *stmt)
{
	if (stmt == NULL)
		return;
	sqlite3_reset(stmt);
	sqlite3_clear_bindings(stmt);
}

void sql_bind_text(sqlite3_stmt *stmt, int at, const char *text)
{
	sqlite3_bind_text(stmt, at, text, -1, SQLITE_STATIC);
}

void sql_bind_blob(sqlite3_stmt *stmt, int at, const void *data, size_t len)
{
	if (data == NULL)
		sqlite3_bind_null(stmt, at);
	else
		sqlite3_bind_blob64(stmt, at, data, len, SQLITE_STATIC);
}

int sql_run(sqlite3_stmt *stmt)
{
	int result = stmt == NULL ? SQLITE_ERROR : sqlite3_step(stmt);

	sql_release(stmt);
	return result == SQLITE_DONE || result == SQLITE_ROW ? 0 : -1;
}

static int run_own(struct sql *s, enum sql_own which)
{
	return sql_run(sql_prepare(s, &s->own[which], own_text[which]));
}

int sql_begin(struct sql *s, const char *what, struct err *err)
{
	return run_own(s, SQL_BEGIN) == 0 ? 0 : sql_fail(s, what, err);
}

int sql_end(struct sql *s, int result, const char *what, struct err *err)
{
	if (result == 0 && run_own(s, SQL_COMMIT) == 0) {
		s->failing = false;
		return 0;
	}
	if (result == 0)
		sql_fail(s, what, err);
	if (!sqlite3_get_autocommit(s->db))
		run_own(s, SQL_ROLLBACK);
	return -1;
}

const char *sql_column_text(sqlite3_stmt *stmt, int at)
{
	const unsigned char *text = sqlite3_column_text(stmt, at);

	return text != NULL ? (const char *)text : "";
}

const uint8_t *sql_column_hash(sqlite3_stmt *stmt, int at)
{
	return sqlite3_column_bytes(stmt, at) == CRYPTO_SHA256_SIZE ? sqlite3_column_blob(stmt, at)
								    : NULL;
}
