/* transfer/transfers.h: what the served transfers of a sandbox share. Private to the room. */
#ifndef TRANSFER_TRANSFERS_H
#define TRANSFER_TRANSFERS_H

#include <stddef.h>

#include "transfer/claims.h"
#include "transfer/pieces.h"
#include "transfer/serve.h"

struct transfers {
	struct loop *loop;
	struct workers *workers;
	int workdir, slash;
	const char *workdir_path;
	uint64_t upload_expiry_ms;
	uint64_t boot; /* clock_boot() */
	struct claims *claims;
	struct pieces_board *board;
	struct timer *sweep_timer; /* NULL: nobody sweeps */
	struct job sweep;
	size_t running;             /* of TRANSFER_MAX */
	size_t archives;            /* of TRANSFER_ARCHIVES_MAX */
	size_t watches;             /* of FILES_WATCHES_MAX */
	size_t talks;               /* of TRANSFER_TALKS_MAX */
	struct sync_serving *syncs; /* that more streams can join; sync_serve.c */
};

/* Counts one in; RESOURCE_EXHAUSTED when there are too many. Pair with leave. */
int transfers_enter(struct transfers *, bool archive, struct err *);
void transfers_leave(struct transfers *, bool archive);

/* A directory to unpack into or pack from, by an absolute or relative path. */
int transfers_open_directory(struct transfers *, const char *path, bool make, struct err *);

#endif
