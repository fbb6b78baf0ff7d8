/* A driver that does what a test tells it to, and keeps its places in memory. */
#ifndef FAKE_DRIVER_H
#define FAKE_DRIVER_H

#include "drivers/driver.h"
#include "gateway/tokens.h"

#define FAKE_PLACES_MAX 8

struct fake_place {
	char id[64];
	enum driver_state state;
};

enum fake_kind { FAKE_NONE, FAKE_CREATE, FAKE_STOP, FAKE_START, FAKE_DESTROY, FAKE_INSPECT };

struct fake_driver {
	struct loop *loop;
	bool manual;            /* operations wait for fake_finish() */
	struct err fail_next;   /* code not OK: the next operation ends with it */
	struct err refuse_next; /* and this one does not even begin */
	struct fake_place places[FAKE_PLACES_MAX];
	struct driver_op *waiting;
	enum fake_kind last;
	unsigned count[FAKE_INSPECT + 1];
	char token[TOKENS_TEXT_SIZE]; /* of the last launch */
	char environment[256];        /* "A=1;B=2;" of the last launch */
};

extern const struct driver_ops fake_driver;

struct fake_place *fake_place(struct fake_driver *, const char *id); /* NULL: none */

/* Ends the operation that waits. */
void fake_finish(struct fake_driver *);

#endif
