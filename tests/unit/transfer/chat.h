/*
 * transfer/chat.h: a talk whose other end is memory: what it says is all there from the
 * beginning, cut up as wanted, and what it is told is gathered.
 */
#ifndef TESTS_TRANSFER_CHAT_H
#define TESTS_TRANSFER_CHAT_H

#include "transfer/sftp/talk.h"

struct chat {
	struct talk talk;
	uint8_t *said, *told;
	size_t said_len, said_cap, told_len, told_cap;
	size_t at;            /* of what is said, taken */
	size_t piece;         /* bytes of one slice; 0: all */
	size_t used, largest; /* credited; the largest that was told at once */
	size_t gone_after;    /* bytes told, after which the other end is gone; 0: never */
};

void chat_begin(struct chat *);
void chat_end(struct chat *);

/* What the other end says next. */
void chat_say(struct chat *, const void *, size_t);

#endif
