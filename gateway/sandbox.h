/*
 * gateway/sandbox.h: one sandbox: its phase, and the work that moves it along.
 *
 * For the files gateway/sandbox*.c; others go through sandboxes.h. First loop.
 *
 * A change of phase is written to the store before anything is done about it, so that
 * a gateway that is killed in between finds out what was under way and goes on with
 * it. Memory is never ahead of the store: when a write fails, nothing has changed, and
 * it is tried again.
 */
#ifndef GATEWAY_SANDBOX_H
#define GATEWAY_SANDBOX_H

#include "base/loop.h"
#include "gateway/events.h"
#include "gateway/names.h"
#include "gateway/phase.h"
#include "gateway/sandboxes.h"
#include "gateway/store.h"

#define SANDBOX_RETRY_MIN_MS 200 /* before an operation that failed is tried again; doubles */
#define SANDBOX_RETRY_MAX_MS 30000

/* "workspace/name", by which lists are sorted. */
#define SANDBOX_KEY_SIZE (NAMES_WORKSPACE_MAX + 1 + NAMES_SANDBOX_MAX + 1)

struct sandbox {
	struct sandboxes *all;
	char id[NAMES_ID_MAX + 1];
	char key[SANDBOX_KEY_SIZE];
	Openshell__V1__Sandbox *body; /* metadata and spec as they were asked for */

	/* As stored. */
	enum phase phase;
	char reason[48];
	char message[ERR_TEXT_MAX];
	uint64_t version;
	int64_t changed_ms;
	bool has_token;
	uint8_t token_hash[CRYPTO_SHA256_SIZE];

	/* As it is now. */
	struct phase_facts facts;
	struct driver_status status;
	int64_t connected_ms; /* when facts.connected last changed */
	struct driver_op *op;
	enum phase_work work;   /* of ${op} */
	struct err trouble;     /* why the last operation failed that is to be tried again */
	uint64_t retry_ms;      /* how long to wait after the next failure */
	struct timer *retry;    /* then sandbox_step() */
	struct timer *deadline; /* for becoming READY */

	struct events events;
	struct sandbox_listener *listeners;
};

/* What they all share. */
struct sandboxes {
	struct sandboxes_options opt;
	struct map *by_id;
	struct sandbox **sorted; /* by key */
	size_t count, cap;
	uint64_t first_event;
	bool closing;                    /* no operation is begun any more */
	const struct driver_ops *driver; /* these three from sandboxes_reconcile() on */
	void *driver_self;
	struct tunnels *tunnels;
	struct leftovers *leftovers; /* NULL: none were found */
};

/* Takes ${body}. NULL: no memory, nothing taken. */
struct sandbox *sandbox_create(struct sandboxes *, Openshell__V1__Sandbox *body);
void sandbox_free(struct sandbox *);

/* As a row of the store, which points into ${s} and ${body}. */
void sandbox_row(const struct sandbox *, struct store_sandbox *row);

/* Goes to another phase: in the store, in memory, in the directory, to listeners.
 * -1: nothing has changed. ${request} may be NULL. */
int sandbox_move(struct sandbox *, enum phase to, const char *reason, const char *message,
    const struct store_request *request, struct err *);

/* Writes it as it is in memory, as a new version. */
int sandbox_save(struct sandbox *, struct err *);

/* Something about it changed that is no phase: saves it and tells the listeners. */
void sandbox_touch(struct sandbox *);

/* Looks at the facts: takes the phase they lead to, begins the work it needs. May free
 * the sandbox. */
void sandbox_step(struct sandbox *);

/* sandbox_step() in a while, longer after each failure. */
void sandbox_retry(struct sandbox *, const struct err *why);

/* Makes the directory say what calls are told. */
void sandbox_publish(struct sandbox *);

/* sandbox_work.c: begins what the driver has to do. */
void sandbox_begin(struct sandbox *, enum phase_work);

/* Has been destroyed: removes it from everywhere and frees it. */
void sandbox_finish_delete(struct sandbox *);

/* Takes it out of the set, without freeing it. */
void sandboxes_forget(struct sandboxes *, struct sandbox *);

#endif
