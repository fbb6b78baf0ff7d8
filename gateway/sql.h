/*
 * gateway/sql.h: prepared statements and transactions of SQLite. For store*.c only, since
 * SQLite's own types are in it. One thread.
 */
#ifndef GATEWAY_SQL_H
#define GATEWAY_SQL_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum sql_own { SQL_BEGIN, SQL_COMMIT, SQL_ROLLBACK, SQL_OWN_COUNT };

struct sql {
	sqlite3 *db;
	sqlite3_stmt *own[SQL_OWN_COUNT];
	bool failing; /* the last write did */
};

void sql_close(struct sql *);

/* What SQLite says went wrong: logged, and in ${err}. Returns -1. ${what} is what was
 * being done: "add a sandbox". */
int sql_fail(struct sql *, const char *what, struct err *);

/* The statement of ${text}, which ${kept} keeps for the next time; the caller finalizes it
 * before sql_close(). NULL: it cannot be prepared. */
sqlite3_stmt *sql_prepare(struct sql *, sqlite3_stmt **kept, const char *text);

/* Makes it ready for its next use and lets go of what it was lent. NULL is legal: one that
 * could not be prepared. */
void sql_release(sqlite3_stmt *);

/* Lent until sql_release(). A blob may be NULL. */
void sql_bind_text(sqlite3_stmt *, int at, const char *);
void sql_bind_blob(sqlite3_stmt *, int at, const void *, size_t len);

/* Runs a statement that answers nothing, and releases it. */
int sql_run(sqlite3_stmt *);

/* A transaction. It ends with what it did if ${result} is 0, else without. */
int sql_begin(struct sql *, const char *what, struct err *);
int sql_end(struct sql *, int result, const char *what, struct err *);

/* A column of the present row; "" for NULL, and NULL for what is no SHA-256. */
const char *sql_column_text(sqlite3_stmt *, int at);
const uint8_t *sql_column_hash(sqlite3_stmt *, int at);

#endif
