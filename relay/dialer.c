#include "relay/dialer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "openshell/v1/openshell.pb-c.h"
#include "relay/backoff.h"
#include "relay/lines.h"
#include "relay/served.h"
#include "relay/uplink.h"
#include "relay/wire.h"
#include "rpc/address.h"
#include "rpc/meta.h"

static const struct log_area area = { "relay" };

_Static_assert(LINES_MAX == DIALER_CONNECTIONS_MAX, "one limit under two names");

/* What every dialer can do; the application adds its own. */
static const char *const dialer_own_features[] = { WIRE_FEATURE_CALL, WIRE_FEATURE_LINES, NULL };

enum dialer_state {
	DIALER_WAITING,  /* for the next attempt */
	DIALER_DIALLING, /* connecting, or hello is not answered */
	DIALER_UP,
	DIALER_REJECTED, /* for good */
	DIALER_CLOSING
};

struct dialer {
	struct loop *loop;
	struct dialer_options options; /* strings and features are ours */
	char **features;
	struct address address; /* of the gateway, as of the last attempt */
	struct rpc_meta meta;   /* of every call */

	enum dialer_state state;
	struct uplink *uplink; /* NULL: none */
	struct lines *lines;   /* NULL: none wanted */
	unsigned lines_closing;
	struct served *served;
	struct backoff backoff;
	struct timer *retry;
	uint64_t epoch; /* of connections, see SupervisorHello */
	uint64_t sessions;

	void (*done)(void *cookie);
	void *done_cookie;
	struct post over;
};

static const char *dialer_state_name(enum dialer_state state)
{
	static const char *const names[] = { "waiting", "dialling", "up", "rejected", "closing" };

	return names[state];
}

/* Closing is final, and so is a rejection but for closing. */
static void dialer_set_state(struct dialer *d, enum dialer_state state)
{
	assert(d->state != DIALER_CLOSING);
	assert(d->state != DIALER_REJECTED || state == DIALER_CLOSING);
	log_debug(&area, "dialer_state", LOG_STR("from", dialer_state_name(d->state)),
	    LOG_STR("to", dialer_state_name(state)));
	d->state = state;
}

/* The end. */

static void dialer_free(struct dialer *d)
{
	served_free(d->served);
	timer_free(d->retry);
	rpc_meta_free(&d->meta);
	for (size_t i = 0; d->features != NULL && d->features[i] != NULL; i++)
		free(d->features[i]);
	free(d->features);
	free((char *)d->options.url);
	free((char *)d->options.sandbox_id);
	free((char *)d->options.instance_id);
	free(d);
}

static void dialer_run_over(struct post *post)
{
	struct dialer *d = (struct dialer *)((char *)post - offsetof(struct dialer, over));
	void (*done)(void *cookie) = d->done;
	void *cookie = d->done_cookie;

	dialer_free(d);
	done(cookie);
}

static void dialer_check_over(struct dialer *d)
{
	if (d->state == DIALER_CLOSING && d->uplink == NULL && d->lines_closing == 0)
		loop_post(d->loop, &d->over);
}

static void dialer_lines_closed(void *cookie)
{
	struct dialer *d = cookie;

	d->lines_closing--;
	dialer_check_over(d);
}

static void dialer_close_lines(struct dialer *d)
{
	if (d->lines == NULL)
		return;
	d->lines_closing++;
	lines_close(d->lines, dialer_lines_closed, d);
	d->lines = NULL;
}

/* A session. */

static void dialer_accepted(void *cookie, const struct uplink_terms *terms)
{
	struct dialer *d = cookie;
	struct err e;

	dialer_set_state(d, DIALER_UP);
	backoff_reset(&d->backoff);
	d->sessions++;
	log_info(&area, "connected", LOG_STR("sandbox", d->options.sandbox_id),
	    LOG_STR("session", terms->session_id), LOG_U64("lines", terms->data_connections));
	if (served_set_session(d->served, terms->session_id, &e) != 0) {
		uplink_close(d->uplink, &e);
		return;
	}
	if (terms->data_connections > 0) {
		d->lines = lines_create(d->loop,
		    &(struct lines_options){
			.address = &d->address,
			.tls = d->options.tls,
			.meta = &d->meta,
			.count = terms->data_connections,
		    },
		    &e);
		if (d->lines == NULL)
			log_warn(&area, "no_lines", LOG_ERR(&e));
	}
	if (d->options.connected != NULL)
		d->options.connected(d->options.app);
}

/* Channels that come before the lines are there share the control connection.
 */
static void dialer_open(void *cookie, const Openshell__V1__RelayOpen *open)
{
	struct dialer *d = cookie;
	struct rpc_client *client = d->lines != NULL ? lines_pick(d->lines, open->loop) : NULL;

	served_open(d->served, d->uplink, client != NULL ? client : uplink_client(d->uplink), open);
}

static void dialer_close_channel(void *cookie, const char *channel_id, const char *reason)
{
	struct dialer *d = cookie;

	served_close(d->served, channel_id, reason);
}

/* Whether the gateway would only say the same again. */
static bool dialer_is_final(const struct err *why)
{
	switch (why->code) {
	case GRPC_UNAUTHENTICATED:
	case GRPC_PERMISSION_DENIED:
	case GRPC_NOT_FOUND:
	case GRPC_ABORTED: /* superseded: another one serves the sandbox now */
		return true;
	default:
		return false;
	}
}

static void dialer_reject(struct dialer *d, const struct err *why)
{
	dialer_set_state(d, DIALER_REJECTED);
	log_fail(&area, "rejected", LOG_STR("sandbox", d->options.sandbox_id), LOG_ERR(why));
	if (d->options.rejected != NULL)
		d->options.rejected(d->options.app, why);
}

static void dialer_wait(struct dialer *d, const struct err *why)
{
	uint32_t wait_ms = backoff_next(&d->backoff);

	dialer_set_state(d, DIALER_WAITING);
	timer_start(d->retry, wait_ms);
	log_warn(&area, "disconnected", LOG_STR("sandbox", d->options.sandbox_id),
	    LOG_U64("retry_ms", wait_ms), LOG_ERR(why));
}

static void dialer_ended(void *cookie, const struct err *why)
{
	struct dialer *d = cookie;
	bool was_up = d->state == DIALER_UP;

	d->uplink = NULL;
	dialer_close_lines(d);
	if (d->state == DIALER_CLOSING) {
		dialer_check_over(d);
	} else if (dialer_is_final(why)) {
		dialer_reject(d, why);
	} else {
		dialer_wait(d, why);
		if (was_up && d->options.disconnected != NULL)
			d->options.disconnected(d->options.app, why);
	}
}

/* Once an attempt: data connections that are dialled anew go where the session is, and no
 * resolver that is slow can hold the session up. */
static int dialer_look_up(struct dialer *d, struct err *e)
{
	if (address_parse(d->options.url, &d->address, e) != 0)
		return -1;
	return address_resolve(&d->address, e);
}

static void dialer_dial(void *cookie)
{
	Openshell__V1__SupervisorHello hello = OPENSHELL__V1__SUPERVISOR_HELLO__INIT;
	struct dialer *d = cookie;
	struct err e;

	hello.sandbox_id = (char *)d->options.sandbox_id;
	hello.instance_id = (char *)d->options.instance_id;
	hello.connection_epoch = ++d->epoch;
	hello.features = d->features;
	while (d->features[hello.n_features] != NULL)
		hello.n_features++;
	if (dialer_look_up(d, &e) != 0) {
		dialer_wait(d, &e);
		return;
	}
	d->uplink = uplink_create(d->loop,
	    &(struct uplink_options){
		.address = &d->address,
		.tls = d->options.tls,
		.meta = &d->meta,
		.hello = &hello,
		.answer_ms = d->options.answer_ms,
		.accepted = dialer_accepted,
		.open = dialer_open,
		.close = dialer_close_channel,
		.ended = dialer_ended,
		.cookie = d,
	    },
	    &e);
	if (d->uplink == NULL)
		dialer_wait(d, &e);
	else
		dialer_set_state(d, DIALER_DIALLING);
}

/* Making one. */

static size_t dialer_count(const char *const *list)
{
	size_t n = 0;

	while (list != NULL && list[n] != NULL)
		n++;
	return n;
}

static int dialer_copy_features(struct dialer *d, const char *const *more)
{
	size_t own = dialer_count(dialer_own_features), n = dialer_count(more);

	d->features = calloc(own + n + 1, sizeof(*d->features));
	if (d->features == NULL)
		return -1;
	for (size_t i = 0; i < own + n; i++) {
		d->features[i] = strdup(i < own ? dialer_own_features[i] : more[i - own]);
		if (d->features[i] == NULL)
			return -1;
	}
	return 0;
}

static int dialer_make_meta(struct dialer *d, const char *token, struct err *e)
{
	size_t size = strlen(token) + sizeof("Bearer ");
	char *value = malloc(size);
	int result;

	if (value == NULL)
		return err_set(e, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	memcpy(value, "Bearer ", sizeof("Bearer "));
	memcpy(value + sizeof("Bearer ") - 1, token, strlen(token) + 1);
	result = rpc_meta_add_text(&d->meta, "authorization", value, e);
	explicit_bzero(value, size);
	free(value);
	return result;
}

static int dialer_copy_options(
    struct dialer *d, const struct dialer_options *options, struct err *e)
{
	d->options = *options;
	d->options.token = NULL;
	d->options.features = NULL;
	d->options.url = strdup(options->url);
	d->options.sandbox_id = strdup(options->sandbox_id);
	d->options.instance_id = strdup(options->instance_id);
	if (d->options.url == NULL || d->options.sandbox_id == NULL ||
	    d->options.instance_id == NULL || dialer_copy_features(d, options->features) != 0)
		return err_set(e, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	return dialer_make_meta(d, options->token, e);
}

static uint64_t dialer_first_epoch(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

struct dialer *dialer_create(struct loop *loop, const struct dialer_options *options, struct err *e)
{
	struct dialer *d = calloc(1, sizeof(*d));

	if (d == NULL) {
		err_set(e, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	d->loop = loop;
	d->epoch = dialer_first_epoch();
	d->backoff = (struct backoff){ DIALER_BACKOFF_MIN_MS, DIALER_BACKOFF_MAX_MS, 0 };
	d->over.run = dialer_run_over;
	rpc_meta_init(&d->meta);
	if (dialer_copy_options(d, options, e) != 0) {
		dialer_free(d);
		return NULL;
	}
	d->retry = timer_create_on(loop, dialer_dial, d);
	d->served = served_create(loop, &d->options, &d->meta);
	if (d->retry == NULL || d->served == NULL) {
		err_set(e, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		dialer_free(d);
		return NULL;
	}
	timer_start(d->retry, 0);
	return d;
}

void dialer_close(struct dialer *d, void (*done)(void *cookie), void *cookie)
{
	const struct err why = { .code = GRPC_CANCELLED, .text = "the supervisor is ending" };

	dialer_set_state(d, DIALER_CLOSING);
	d->done = done;
	d->done_cookie = cookie;
	timer_stop(d->retry);
	if (d->uplink != NULL)
		uplink_close(d->uplink, &why);
	dialer_close_lines(d);
	dialer_check_over(d);
}

void dialer_stats(const struct dialer *d, struct dialer_stats *stats)
{
	*stats = (struct dialer_stats){
		.connected = d->state == DIALER_UP,
		.channels = served_count(d->served),
		.connections = (d->uplink != NULL) + (d->lines != NULL ? lines_ready(d->lines) : 0),
		.heartbeat_ms = d->state == DIALER_UP ? uplink_period_ms(d->uplink) : 0,
		.opened = served_opened(d->served),
		.reconnects = d->sessions > 0 ? d->sessions - 1 : 0,
	};
}
