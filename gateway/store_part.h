/* gateway/store_part.h: what the files of the store share. For store*.c only. */
#ifndef GATEWAY_STORE_PART_H
#define GATEWAY_STORE_PART_H

#include "gateway/sql.h"

#define STORE_STATEMENTS     13 /* of store.c */
#define STORE_SSH_STATEMENTS 4  /* of store_ssh.c */

struct store {
	struct sql sql;
	sqlite3_stmt *statements[STORE_STATEMENTS]; /* prepared when first needed */
	sqlite3_stmt *ssh_statements[STORE_SSH_STATEMENTS];
};

#endif
