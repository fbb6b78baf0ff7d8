/*
 * cli/sandbox.h: sandboxes as the verbs need them: which one is meant, how it is, what it
 * looks like in print.
 */
#ifndef CLI_SANDBOX_H
#define CLI_SANDBOX_H

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/cmd.h"
#include "cli/session.h"
#include "openshell/v1/openshell.pb-c.h"

#define SANDBOX_WAIT_MS 120000 /* for one to start, stop or go */

/* The name the person gave, or the one used last; the caller frees it. */
char *sandbox_choose(struct session *, const char *given, struct err *);

/* It was used: it is meant when none is named the next time. */
void sandbox_remember(struct session *, const char *name);
void sandbox_forget(struct session *, const char *name);

/* As it is; freed with codec_free(). */
int sandbox_get(
    struct session *, const char *name, Openshell__V1__SandboxResponse **, struct err *);

enum sandbox_goal { SANDBOX_GOAL_READY, SANDBOX_GOAL_STOPPED, SANDBOX_GOAL_GONE };

/*
 * Watches until it is as wanted. -1: it got into ERROR, is gone (NOT_FOUND), or it took
 * longer than ${ms}; the error has the last thing the gateway said of it. ${last}, if not
 * NULL, gets the last that was seen (NULL: nothing), freed with codec_free(), also on -1.
 */
int sandbox_await(struct session *, const char *name, enum sandbox_goal, uint64_t ms,
    Openshell__V1__SandboxStreamEvent **last, struct err *);

/* "READY"; never NULL. */
const char *sandbox_phase_name(Openshell__V1__SandboxPhase);
const char *sandbox_phase(const Openshell__V1__Sandbox *);

/* When it was made, RFC 3339; "" if it is not known. */
void sandbox_created(const Openshell__V1__Sandbox *, char out[static 21]);

json_t *sandbox_json(const Openshell__V1__Sandbox *);

/* One sandbox on standard output: its lines, or its JSON. */
int sandbox_print(const struct cli *, const Openshell__V1__Sandbox *, struct err *);

#endif
