/*
 * transfer/tree/tree_notes.h: what was said of single entries, kept for an answer. Private to
 * the room.
 *
 * The first of them; how many there were is counted elsewhere. One thread at a time.
 */
#ifndef TRANSFER_TREE_TREE_NOTES_H
#define TRANSFER_TREE_TREE_NOTES_H

#include <stddef.h>

#include "towline/v1/files.pb-c.h"
#include "transfer/flow.h"

#define TREE_NOTES_MAX       100
#define TREE_NOTES_BYTES_MAX ((size_t)16 << 10) /* of all of them; an answer has 64 KiB */

struct tree_notes {
	char *text[TREE_NOTES_MAX];
	size_t count, bytes;
};

/* Dropped when there is no room, or no memory. */
void tree_notes_add(struct tree_notes *, const char *text);
void tree_notes_free(struct tree_notes *);

/* What a flow came to; the notes are borrowed. */
void tree_notes_report(
    const struct tree_notes *, const struct flow_result *, Towline__V1__TreeReport *);

#endif
