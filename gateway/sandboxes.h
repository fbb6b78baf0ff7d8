/*
 * gateway/sandboxes.h: all sandboxes of the gateway, and what can be asked of them.
 *
 * First loop only; other loops look things up in directory.h.
 */
#ifndef GATEWAY_SANDBOXES_H
#define GATEWAY_SANDBOXES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "drivers/driver.h"
#include "gateway/directory.h"
#include "gateway/events.h"
#include "gateway/names.h"
#include "gateway/phase.h"
#include "gateway/store.h"
#include "gateway/tokens.h"
#include "openshell/v1/openshell.pb-c.h"
#include "relay/tunnel.h"

#define SANDBOXES_MAX      10000  /* in all workspaces; each costs about 8 KiB of memory */
#define SANDBOXES_READY_MS 120000 /* for a supervisor to connect, unless configured */

struct sandbox;
struct sandboxes;
struct ssh_sessions;

struct sandboxes_options {
	struct loop *loop;
	struct store *store;
	struct directory *directory;
	struct tokens *tokens;
	struct ssh_sessions *ssh;         /* NULL: none */
	const char *host_key_fingerprint; /* of the SSH endpoints; NULL: there are none */
	uint64_t ready_ms;
};

struct sandboxes *sandboxes_create(const struct sandboxes_options *, struct err *);

/* Everything in memory; sandboxes themselves live on. */
void sandboxes_free(struct sandboxes *);

/* Reads the store. Before the driver and the tunnels know of anything. */
int sandboxes_load(struct sandboxes *, struct err *);

/* From now on there is a driver and there are tunnels: finds out what became of each
 * sandbox, goes on with what was under way, and destroys places that belong to none. */
void sandboxes_reconcile(
    struct sandboxes *, const struct driver_ops *, void *driver, struct tunnels *);

/* No operation of the driver is begun any more; listeners are told. */
void sandboxes_stop_work(struct sandboxes *);

/* Ends every tunnel; supervisors go on and will try to come back. */
void sandboxes_drop_sessions(struct sandboxes *, const struct err *why);

/* For struct driver_env and struct tunnel_events, with the sandboxes as the cookie. */
void sandboxes_driver_changed(void *cookie, const char *id, const struct driver_status *);
void sandboxes_session_up(
    void *cookie, const char *id, const char *instance_id, const char *version);
void sandboxes_session_down(void *cookie, const char *id, const struct err *why);

/* What a client may ask for. ${request} is its request id, or NULL. */

/* Takes what is needed from the request, which has been validated; an empty name is
 * replaced by a new one. The sandbox is PROVISIONING when this returns. */
struct sandbox *sandboxes_add(struct sandboxes *, const Openshell__V1__CreateSandboxRequest *,
    const char *workspace, const char *request_id, struct err *);

/* By name or id, as directory_resolve(). */
struct sandbox *sandboxes_find(
    struct sandboxes *, const char *name_or_id, const char *workspace, struct err *);
struct sandbox *sandboxes_find_id(struct sandboxes *, const char *id);

/* The first whose key comes behind ${key}, and the one behind that; NULL at the end. */
struct sandbox *sandboxes_after(struct sandboxes *, const char *key);
struct sandbox *sandboxes_next(const struct sandbox *);
size_t sandboxes_count(const struct sandboxes *);
size_t sandboxes_count_in(const struct sandboxes *, const char *workspace);

/* Already on the way there is success. FAILED_PRECONDITION names the phase that stands
 * in the way. */
int sandbox_stop(struct sandbox *, const struct store_request *, struct err *);
int sandbox_start(struct sandbox *, const struct store_request *, struct err *);

/* Gone is told to the listeners. */
int sandbox_delete(struct sandbox *, const struct store_request *, struct err *);

const char *sandbox_id(const struct sandbox *);
const char *sandbox_key(const struct sandbox *);
const char *sandbox_name(const struct sandbox *);
const char *sandbox_workspace(const struct sandbox *);
enum phase sandbox_phase(const struct sandbox *); /* as clients see it */
uint64_t sandbox_version(const struct sandbox *);
const struct events *sandbox_events(const struct sandbox *);
const Openshell__Datamodel__V1__ObjectMeta *sandbox_meta(const struct sandbox *);

/* Who wants to know; what is of no interest is NULL. ${changed}: its version has grown,
 * or an event came. ${gone}: it is deleted. ${ended}: the gateway is ending. After the
 * latter two the listener is off. None may do more than answer, take a note or post. */
struct sandbox_listener {
	struct sandbox_listener *next, **at;
	void (*changed)(struct sandbox_listener *);
	void (*gone)(struct sandbox_listener *);
	void (*ended)(struct sandbox_listener *);
};

void sandbox_listen(struct sandbox *, struct sandbox_listener *);
void sandbox_unlisten(struct sandbox_listener *); /* twice is harmless */

/* A sandbox as the API has it. The view points into the sandbox and into itself: good
 * until either changes or moves. */
#define SANDBOX_VIEW_CONDITIONS (DRIVER_CONDITIONS_MAX + 3)

struct sandbox_view {
	Openshell__V1__Sandbox sandbox;
	Openshell__Datamodel__V1__ObjectMeta meta;
	Openshell__V1__SandboxStatus status;
	Openshell__V1__SandboxCondition conditions[SANDBOX_VIEW_CONDITIONS];
	Openshell__V1__SandboxCondition *condition_list[SANDBOX_VIEW_CONDITIONS];
	Google__Protobuf__Timestamp times[SANDBOX_VIEW_CONDITIONS], deleted;
	char time_texts[SANDBOX_VIEW_CONDITIONS][24];
};

void sandbox_view(const struct sandbox *, struct sandbox_view *);

#endif
