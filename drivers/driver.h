/*
 * drivers/driver.h: what a compute driver is: it makes the place a sandbox lives in,
 * starts a supervisor there, and takes both away again.
 *
 * A driver is one constant table of functions. All are called on the gateway's first
 * loop and must not block it. An operation starts with a call that returns at once,
 * and ends with its ${done}, which runs exactly once from the loop; cancelling means
 * it never runs, not that nothing happened.
 */
#ifndef DRIVERS_DRIVER_H
#define DRIVERS_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/worker.h"

/* How a sandbox's place came to be as it is, for GetSandbox: (type, status
 * "True"/"False"/"Unknown", reason, message), as Kubernetes' conditions. */
struct driver_condition {
	char type[32];
	char status[8];
	char reason[48];
	char message[200];
};

#define DRIVER_CONDITIONS_MAX 8

enum driver_state {
	DRIVER_STATE_ABSENT,  /* nothing is there */
	DRIVER_STATE_STOPPED, /* the files are there, no process */
	DRIVER_STATE_RUNNING, /* the supervisor's process runs */
	DRIVER_STATE_FAILED   /* it ended by itself, or could not start */
};

struct driver_status {
	enum driver_state state;
	int exit_code;        /* of the supervisor, when FAILED */
	char instance_id[64]; /* which start this is */
	struct driver_condition conditions[DRIVER_CONDITIONS_MAX];
	size_t condition_count;
};

struct driver_pair {
	const char *key;
	const char *value;
};

/* Decoded and validated by the gateway; lent for the call. */
struct sandbox_spec {
	const char *id; /* UUID text: safe as a file name */
	const char *name;
	const char *workspace;
	const char *image; /* "" when none was asked for */
	const char *log_level;
	const struct driver_pair *environment;
	size_t environment_count;
	const char *token; /* the supervisor's; only ever into a file of mode 0600 */
};

/* Lent by the gateway for as long as the driver is open. */
struct driver_env {
	struct loop *loop;
	struct workers *workers;
	const char *state_dir; /* absolute; the driver's own, mode 0700 */
	const char
	    *private_dir; /* absolute; hidden from sandboxes where that is possible; may be NULL */
	const char *supervisor_path; /* absolute */
	const char *gateway_url;     /* what supervisors dial */
	const char *log_level;

	/* The place changed by itself (the supervisor died...). From the loop. */
	void (*changed)(void *cookie, const char *sandbox_id, const struct driver_status *);
	void *cookie;
};

struct driver_op;

/* ${status} is what is there now, valid during the call only; NULL on failure. */
typedef void driver_done(void *cookie, const struct driver_status *status, const struct err *);

struct driver_ops {
	const char *name;
	int (*open)(void **self, const struct driver_env *, struct err *);
	/* Sandboxes live on; operations still waiting end without their done. Called
	 * when the workers have been freed and the loop has run what they posted. */
	void (*close)(void *self);
	/* Makes the place and starts the supervisor. Repeating it is harmless. */
	struct driver_op *(*create)(
	    void *self, const struct sandbox_spec *, driver_done *, void *cookie, struct err *);
	/* Ends every process, keeps the files; start runs the supervisor again. */
	struct driver_op *(*stop)(
	    void *self, const char *sandbox_id, driver_done *, void *cookie, struct err *);
	struct driver_op *(*start)(
	    void *self, const struct sandbox_spec *, driver_done *, void *cookie, struct err *);
	/* No process and no file remains. A missing sandbox is success. */
	struct driver_op *(*destroy)(
	    void *self, const char *sandbox_id, driver_done *, void *cookie, struct err *);
	/* What is there; after the gateway's restart this also takes a living sandbox
	 * under watch again. */
	struct driver_op *(*inspect)(
	    void *self, const char *sandbox_id, driver_done *, void *cookie, struct err *);
	/* The ids of all places that exist, so that leftovers can be found. */
	int (*list)(void *self, void (*each)(void *cookie, const char *sandbox_id), void *cookie,
	    struct err *);
	void (*cancel)(void *self, struct driver_op *);
};

/* By name, NULL if there is none. driver_names() is "local" and so on, for help. */
const struct driver_ops *driver_find(const char *name);
const char *driver_names(void);

#endif
