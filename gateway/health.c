#include "gateway/health.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/gateway.h"
#include "gateway/message.h"
#include "gateway/service.h"
#include "grpc/health/v1/health.pb-c.h"
#include "proto/codec.h"

/* Watchers live on the loop of their call; each loop has its own list. */
struct watching {
	struct watching *next, **at;
	struct rpc_call *call;
};

struct health_loop {
	struct post end; /* health_end() on its way */
	struct watching *list;
};

struct health {
	atomic_bool ended;
	struct loop **loops;
	size_t count;
	struct health_loop per_loop[];
};

struct health *health_create(struct loop **loops, size_t count, struct err *err)
{
	struct health *h = calloc(1, sizeof(*h) + count * sizeof(h->per_loop[0]));

	if (h == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	h->loops = loops;
	h->count = count;
	return h;
}

void health_free(struct health *h)
{
	for (size_t i = 0; h != NULL && i < h->count; i++)
		assert(h->per_loop[i].list == NULL);
	free(h);
}

static Grpc__Health__V1__HealthCheckResponse__ServingStatus status_of(
    struct health *h, const char *service)
{
	if (service[0] != '\0' && !service_is_service(service))
		return GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN;
	return atomic_load(&h->ended)
	    ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
	    : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
}

static void send_status(
    struct rpc_call *call, Grpc__Health__V1__HealthCheckResponse__ServingStatus status)
{
	Grpc__Health__V1__HealthCheckResponse reply = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
	uint8_t packed[16];

	reply.status = status;
	assert(codec_size(&reply.base) <= sizeof(packed));
	rpc_call_send(call, packed, codec_pack(&reply.base, packed));
}

void health_check(struct rpc_call *call, void *gateway, const uint8_t *message, size_t len)
{
	struct gateway *g = gateway;
	Grpc__Health__V1__HealthCheckRequest *r;
	Grpc__Health__V1__HealthCheckResponse__ServingStatus status;
	struct err err = { 0 };

	r = message_unpack(&grpc__health__v1__health_check_request__descriptor, message, len, &err);
	if (r != NULL) {
		status = status_of(g->health, r->service);
		if (status ==
		    GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN)
			err_set(&err, GRPC_NOT_FOUND, "there is no service \"%.128s\"", r->service);
		else
			send_status(call, status);
	}
	codec_free(r);
	rpc_call_finish(call, err.code != GRPC_OK ? &err : NULL);
}

/* Watch. */

static void on_data(void *cookie, struct slice slice)
{
	struct watching *w = cookie;

	rpc_call_credit(w->call, slice.len);
	slice_release(&slice);
}

static void on_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	(void)cookie;
	(void)status;
	(void)trailers;
}

static void on_closed(void *cookie, const struct err *why)
{
	struct watching *w = cookie;

	(void)why;
	*w->at = w->next;
	if (w->next != NULL)
		w->next->at = w->at;
	free(w);
}

static const struct rpc_call_ops watching_ops = {
	.data = on_data,
	.end = on_end,
	.closed = on_closed,
};

static void enlist(struct health_loop *l, struct watching *w)
{
	w->next = l->list;
	w->at = &l->list;
	if (w->next != NULL)
		w->next->at = &w->next;
	l->list = w;
}

void health_watch(struct rpc_call *call, void *gateway, const uint8_t *message, size_t len)
{
	struct gateway *g = gateway;
	struct health *h = g->health;
	Grpc__Health__V1__HealthCheckRequest *r;
	struct watching *w;
	struct err err;

	r = message_unpack(&grpc__health__v1__health_check_request__descriptor, message, len, &err);
	if (r == NULL) {
		rpc_call_finish(call, &err);
		return;
	}
	if ((w = calloc(1, sizeof(*w))) == NULL) {
		err_set(&err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		rpc_call_finish(call, &err);
	} else {
		w->call = call;
		enlist(&h->per_loop[loop_index(rpc_call_loop(call))], w);
		rpc_call_bind(call, &watching_ops, w);
		send_status(call, status_of(h, r->service));
	}
	codec_free(r);
}

static void end_loop(struct post *post)
{
	struct health_loop *l =
	    (struct health_loop *)((char *)post - offsetof(struct health_loop, end));
	const struct err why = { .code = GRPC_UNAVAILABLE, .text = "the gateway is shutting down" };

	for (struct watching *w = l->list; w != NULL; w = w->next) {
		send_status(
		    w->call, GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING);
		rpc_call_finish(w->call, &why);
	}
}

void health_end(struct health *h)
{
	if (atomic_exchange(&h->ended, true))
		return;
	for (size_t i = 0; i < h->count; i++) {
		h->per_loop[i].end.run = end_loop;
		loop_post(h->loops[i], &h->per_loop[i].end);
	}
}
