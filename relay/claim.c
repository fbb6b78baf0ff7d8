#include "relay/claim.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openshell/v1/openshell.pb-c.h"
#include "relay/channel.h"
#include "relay/leg.h"
#include "relay/wire.h"
#include "rpc/limits.h"
#include "rpc/reader.h"

struct claim {
	struct tunnels *tunnels;
	struct loop *loop;
	struct rpc_call *call; /* until there is a leg */
	struct rpc_reader reader;
	struct timer *timer;
	bool over; /* finished; closed() is awaited */
	struct leg *leg;

	char *sandbox_id;
	char *session_id; /* NULL: the caller does not say */
	char channel_id[37];

	struct post ask;    /* to the first loop */
	struct post answer; /* and back */
	struct channel *channel;
	struct err why;
};

#define CLAIM_OF(post, member) ((struct claim *)((char *)(post)-offsetof(struct claim, member)))

static void claim_free(struct claim *claim)
{
	timer_free(claim->timer);
	rpc_reader_free(&claim->reader);
	free(claim->sandbox_id);
	free(claim->session_id);
	free(claim);
}

static void claim_run_answer(struct post *post)
{
	struct claim *claim = CLAIM_OF(post, answer);

	if (claim->channel != NULL)
		channel_join(claim->channel, claim->leg);
	else
		leg_refuse(claim->leg, &claim->why);
	claim_free(claim);
}

static void claim_run_ask(struct post *post)
{
	struct claim *claim = CLAIM_OF(post, ask);

	claim->channel = channel_claim(
	    claim->tunnels, claim->channel_id, claim->sandbox_id, claim->session_id, &claim->why);
	registry_run_on(claim->loop, &claim->answer);
}

/* The stream may end while the registry is asked: joining or refusing finds out. */
static void claim_leg_gone(void *cookie, const struct err *why)
{
	(void)cookie;
	(void)why;
}

static void claim_finish(struct claim *claim, const struct err *status)
{
	claim->over = true;
	timer_stop(claim->timer);
	rpc_call_finish(claim->call, status);
}

/* The rest of the stream is the channel's. */
static void claim_proceed(struct claim *claim)
{
	struct bufq rest;
	struct err e;

	bufq_init(&rest, LEG_EARLY_SLICES, LEG_EARLY_BYTES);
	if (rpc_reader_rest(&claim->reader, &rest) != 0) {
		err_set(&e, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
		claim_finish(claim, &e);
		return;
	}
	claim->leg = leg_create(LEG_TUNNEL, claim->call, &rest, claim_leg_gone, NULL);
	bufq_free(&rest);
	if (claim->leg == NULL)
		claim_free(claim);
	else
		registry_run(claim->tunnels, &claim->ask);
}

/* No channel: the supervisor wants to know which loop serves this connection. */
static void claim_answer_probe(struct claim *claim)
{
	struct rpc_meta meta;
	char loop[16];

	snprintf(loop, sizeof(loop), "%u", loop_index(claim->loop) + 1);
	rpc_meta_init(&meta);
	if (rpc_meta_add_text(&meta, WIRE_META_LOOP, loop, NULL) == 0)
		(void)rpc_call_headers(claim->call, &meta, NULL);
	rpc_meta_free(&meta);
	rpc_conn_allow_streams(rpc_call_conn(claim->call), RPC_MAX_TUNNEL_STREAMS);
	claim_finish(claim, NULL);
}

static int claim_read_init(struct claim *claim, const uint8_t *message, size_t len, struct err *e)
{
	Openshell__V1__RelayFrame *frame =
	    wire_unpack(&openshell__v1__relay_frame__descriptor, message, len, e);
	size_t id_len;

	if (frame == NULL)
		return -1;
	if (frame->payload_case != OPENSHELL__V1__RELAY_FRAME__PAYLOAD_INIT) {
		codec_free(frame);
		return err_set(
		    e, GRPC_INVALID_ARGUMENT, "RelayStream: the first message must be init");
	}
	id_len = strlen(frame->init->channel_id);
	if (id_len < sizeof(claim->channel_id))
		memcpy(claim->channel_id, frame->init->channel_id, id_len + 1);
	codec_free(frame);
	if (id_len >= sizeof(claim->channel_id))
		return err_set(e, GRPC_NOT_FOUND, "RelayStream: there is no channel of that id");
	return 0;
}

static void claim_take(struct claim *claim, const uint8_t *message, size_t len)
{
	struct err e;

	rpc_call_credit(claim->call, RPC_PREFIX_SIZE + len);
	if (claim_read_init(claim, message, len, &e) != 0)
		claim_finish(claim, &e);
	else if (claim->channel_id[0] == '\0')
		claim_answer_probe(claim);
	else
		claim_proceed(claim);
}

static void claim_data(void *cookie, struct slice bytes)
{
	struct claim *claim = cookie;
	const uint8_t *message = NULL;
	struct err e;
	size_t len = 0;
	int got;

	if (claim->over) {
		slice_release(&bytes);
		return;
	}
	got = rpc_reader_push(&claim->reader, bytes, &e);
	if (got == 0)
		got = rpc_reader_next(&claim->reader, &message, &len, &e);
	if (got < 0)
		claim_finish(claim, &e);
	else if (got > 0)
		claim_take(claim, message, len);
}

static void claim_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	struct claim *claim = cookie;
	struct err e;

	(void)status;
	(void)trailers;
	if (claim->over)
		return;
	err_set(&e, GRPC_INVALID_ARGUMENT, "RelayStream: ended before its init");
	claim_finish(claim, &e);
}

static void claim_closed(void *cookie, const struct err *why)
{
	(void)why;
	claim_free(cookie);
}

static const struct rpc_call_ops claim_ops = {
	.data = claim_data,
	.end = claim_end,
	.closed = claim_closed,
};

static void claim_late(void *cookie)
{
	struct claim *claim = cookie;
	struct err e;

	err_set(&e, GRPC_DEADLINE_EXCEEDED, "RelayStream: no init within %u ms",
	    claim->tunnels->claim_ms);
	claim_finish(claim, &e);
}

static int claim_copy_names(struct claim *claim, const char *sandbox_id)
{
	const char *session_id = rpc_meta_get(rpc_call_meta(claim->call), WIRE_META_SESSION);

	claim->sandbox_id = strdup(sandbox_id);
	if (session_id != NULL)
		claim->session_id = strdup(session_id);
	if (claim->sandbox_id == NULL || (session_id != NULL && claim->session_id == NULL))
		return -1;
	return 0;
}

static struct claim *claim_create(struct tunnels *t, struct rpc_call *call, const char *sandbox_id)
{
	struct claim *claim = calloc(1, sizeof(*claim));

	if (claim == NULL)
		return NULL;
	claim->tunnels = t;
	claim->loop = rpc_call_loop(call);
	claim->call = call;
	claim->ask.run = claim_run_ask;
	claim->answer.run = claim_run_answer;
	rpc_reader_init(&claim->reader, CLAIM_INIT_MAX);
	claim->timer = timer_create_on(claim->loop, claim_late, claim);
	if (claim->timer == NULL || claim_copy_names(claim, sandbox_id) != 0) {
		claim_free(claim);
		return NULL;
	}
	return claim;
}

void claim_serve(struct tunnels *t, struct rpc_call *call, const char *sandbox_id)
{
	struct claim *claim = claim_create(t, call, sandbox_id);
	struct err e;

	if (claim == NULL) {
		err_set(&e, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
		wire_refuse(call, &e);
		return;
	}
	rpc_call_bind(call, &claim_ops, claim);
	timer_start(claim->timer, t->claim_ms);
}
