/*
 * gateway/directory.h: where calls for a sandbox may go, for all loops to look up.
 *
 * The first loop writes down what it knows of each sandbox: its names, and whether it
 * takes calls now. Routed calls read it where they are, without asking that loop.
 * Any thread.
 */
#ifndef GATEWAY_DIRECTORY_H
#define GATEWAY_DIRECTORY_H

#include "base/err.h"
#include "gateway/names.h"

struct directory;

struct directory *directory_create(struct err *);
void directory_free(struct directory *);

/* Adds the sandbox, or changes what is known of it. ${refusal} is what callers get to
 * hear; its code is GRPC_OK when they are let through. Names never change. */
int directory_put(struct directory *, const char *id, const char *workspace, const char *name,
    const struct err *refusal, struct err *);
void directory_remove(struct directory *, const char *id);

/*
 * The id of the sandbox that a request means by ${sandbox}: a name in ${workspace}, or
 * an id. An id is good in every workspace when ${workspace} is NULL, which then is
 * "default" for names. NOT_FOUND; INVALID_ARGUMENT when ${sandbox} is empty.
 */
int directory_resolve(struct directory *, const char *sandbox, const char *workspace,
    char id[static NAMES_ID_MAX + 1], struct err *);

/* The same, and it takes calls; else -1 and the refusal. */
int directory_admit(struct directory *, const char *sandbox, const char *workspace,
    char id[static NAMES_ID_MAX + 1], struct err *);

#endif
