/*
 * gateway/gateway.h: the parts of a running gateway, put together and taken apart.
 *
 * One process has one. The parts know each other through this struct; it is made
 * before the threads start and not changed until they have ended.
 */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/worker.h"
#include "drivers/driver.h"
#include "gateway/options.h"
#include "gateway/sandboxes.h"
#include "gateway/ssh.h"
#include "relay/tunnel.h"
#include "rpc/address.h"
#include "rpc/server.h"

#define GATEWAY_VERSION       TOWLINE_VERSION /* of this program; the build says */
#define GATEWAY_API_VERSION   "0.1.5" /* of the API served, which clients compare with theirs */
#define GATEWAY_DRAIN_MS      4000    /* for calls to end when the gateway is told to */
#define GATEWAY_LOCAL_SUBJECT "local" /* who calls, as long as nobody authenticates */

struct health;
struct watches;
struct workspaces;

struct gateway {
	const struct options *options;
	struct loop **loops; /* [0] runs on the thread that calls gateway_run() */
	size_t loop_count;

	struct store *store;
	struct tokens *tokens;
	struct directory *directory;
	struct workspaces *workspaces;
	struct sandboxes *sandboxes;
	struct ssh ssh;
	struct watches *watches;
	struct health *health;
	struct tunnels *tunnels;
	struct rpc_server *server;
	struct workers *workers;
	const struct driver_ops *driver;
	void *driver_self;

	struct timer *idle_check; /* while it is ending */

	char endpoint[ADDRESS_TEXT_MAX + 8]; /* of the first listener: "http://127.0.0.1:8080" */
	char private_dir[4096];              /* the data directory's absolute path */
	char state_dir[4200];                /* the driver's */
};

/* Everything but the threads: opens the store in the data directory, listens, opens the
 * driver. ${data_dir} is absolute. */
struct gateway *gateway_create(const struct options *, const char *data_dir, struct err *);

/* Serves until gateway_stop(). ${ready} runs once, when it does. */
int gateway_run(struct gateway *, void (*ready)(void *cookie), void *cookie, struct err *);

/* From the first loop: lets calls end for a while, leaves sandboxes as they are, ends
 * gateway_run(). Twice is harmless. */
void gateway_stop(struct gateway *);

/* What has happened so far, as one line of the log. Any thread. */
void gateway_log_counters(struct gateway *);

void gateway_free(struct gateway *);

#endif
