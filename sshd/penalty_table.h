/*
 * sshd/penalty_table.h: until when sources are held off, in memory that the processes of one
 * gateway share: who tries them one after the other gets no more tries than with one.
 *
 * A table has a fixed size and no locks: a process that dies at any point leaves it good, and
 * none can make another wait. When two processes write at the same moment, at worst a source
 * is held off for one fault less. Times are those of loop_now_ms(), which is one clock for
 * all processes of a machine.
 */
#ifndef SSHD_PENALTY_TABLE_H
#define SSHD_PENALTY_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PENALTY_SOURCES_MAX 16384 /* remembered; one more takes the place of another */

struct penalty_table;

/*
 * ${fd}: an empty memory file, or one that another process has opened so; borrowed, only for
 * this call. -1: the table is nobody else's.
 */
struct penalty_table *penalty_table_open(int fd, struct err *);
void penalty_table_close(struct penalty_table *); /* NULL is legal */

/* 0: it is not known. ${source} is not 0. */
uint64_t penalty_table_until(const struct penalty_table *, uint64_t source);

/* ${cost_ms} more than it has before it, but at most until ${latest_ms}. When there is no
 * place, that of a source which would be free sooner than others becomes its. */
void penalty_table_add(
    struct penalty_table *, uint64_t source, uint64_t now_ms, uint64_t cost_ms, uint64_t latest_ms);

size_t penalty_table_count(const struct penalty_table *); /* sources remembered */

#endif
