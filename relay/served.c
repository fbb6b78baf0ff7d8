#include "relay/served.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/log.h"
#include "relay/framed_role.h"
#include "relay/wire.h"

#define SERVED_FAR_SECONDS INT32_MAX /* what is later is never: 68 years */

static const struct log_area area = { "relay" };

/* A channel that is open. It is known by its framed call, whose end ends it. */
struct served_channel {
	struct served *served;
	TAILQ_ENTRY(served_channel) link;
	char id[SERVED_ID_MAX + 1];
	struct framed *framed;
	struct timer *deadline; /* NULL: none */
};

TAILQ_HEAD(served_channels, served_channel);

struct served {
	struct loop *loop;
	const struct channel_method *methods;
	void *app;
	const char *authorization;
	uint32_t grace_ms;
	struct rpc_meta meta; /* of RelayStream, in this session */
	struct served_channels channels;
	uint32_t count;
	uint64_t opened;
};

/* What is asked for, from either kind of target. */
struct served_job {
	const char *channel_id;
	struct channel_request request;
};

struct served *served_create(
    struct loop *loop, const struct dialer_options *options, const struct rpc_meta *meta)
{
	struct served *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->loop = loop;
	s->methods = options->methods;
	s->app = options->app;
	s->grace_ms = options->grace_ms != 0 ? options->grace_ms : SERVED_GRACE_MS;
	s->authorization = rpc_meta_get(meta, "authorization");
	TAILQ_INIT(&s->channels);
	rpc_meta_init(&s->meta);
	return s;
}

void served_free(struct served *s)
{
	if (s == NULL)
		return;
	assert(TAILQ_EMPTY(&s->channels));
	rpc_meta_free(&s->meta);
	free(s);
}

int served_set_session(struct served *s, const char *session_id, struct err *e)
{
	rpc_meta_free(&s->meta);
	rpc_meta_init(&s->meta);
	if (rpc_meta_add_text(&s->meta, "authorization", s->authorization, e) != 0)
		return -1;
	return rpc_meta_add_text(&s->meta, WIRE_META_SESSION, session_id, e);
}

uint32_t served_count(const struct served *s)
{
	return s->count;
}

uint64_t served_opened(const struct served *s)
{
	return s->opened;
}

/* The life of a channel. */

static void served_channel_over(void *cookie)
{
	struct served_channel *c = cookie;

	TAILQ_REMOVE(&c->served->channels, c, link);
	c->served->count--;
	timer_free(c->deadline);
	free(c);
}

static void served_channel_late(void *cookie)
{
	const struct err late = { .code = GRPC_DEADLINE_EXCEEDED,
		.text = "the call's deadline has passed" };
	struct served_channel *c = cookie;

	framed_finish(c->framed, &late);
}

static int served_send_init(struct framed *framed, const char *channel_id)
{
	Openshell__V1__RelayInit init = OPENSHELL__V1__RELAY_INIT__INIT;
	Openshell__V1__RelayFrame frame = OPENSHELL__V1__RELAY_FRAME__INIT;
	size_t len;
	uint8_t *packed;
	int result;

	init.channel_id = (char *)channel_id;
	frame.payload_case = OPENSHELL__V1__RELAY_FRAME__PAYLOAD_INIT;
	frame.init = &init;
	packed = codec_pack_new(&frame.base, &len);
	if (packed == NULL)
		return -1;
	result = framed_send(framed, packed, len);
	free(packed);
	return result;
}

/* What an ended channel is bound to until its stream is over. */

static void served_ignore_closed(void *cookie, const struct err *why)
{
	(void)cookie;
	(void)why;
}

static const struct framed_ops served_ignoring_ops = { .closed = served_ignore_closed };

static const struct channel_method *served_find(const struct served *s, const char *path)
{
	const struct channel_method *method = s->methods;

	while (method->path != NULL && strcmp(method->path, path) != 0)
		method++;
	return method->path != NULL ? method : NULL;
}

/* At the deadline the gateway is told so; a stream that cannot even carry that is reset
 * a little later. */
static uint64_t served_hard_end_ms(const struct served *s, uint64_t timeout_ms)
{
	return timeout_ms == RPC_DEADLINE_NONE ? 0 : timeout_ms + s->grace_ms;
}

static struct served_channel *served_channel_create(struct served *s, struct rpc_client *client,
    const struct channel_method *method, const struct served_job *job, struct err *e)
{
	const struct framed_options options = { .whole = method != NULL && method->whole };
	struct served_channel *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		err_set(e, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	c->served = s;
	memccpy(c->id, job->channel_id, '\0', sizeof(c->id) - 1);
	if (job->request.timeout_ms != RPC_DEADLINE_NONE) {
		c->deadline = timer_create_on(s->loop, served_channel_late, c);
		if (c->deadline == NULL) {
			free(c);
			err_set(e, GRPC_RESOURCE_EXHAUSTED, "out of memory");
			return NULL;
		}
		timer_start(c->deadline, job->request.timeout_ms);
	}
	c->framed = framed_channel(client,
	    &(struct rpc_client_call){
		.path = WIRE_RELAY,
		.meta = &s->meta,
		.timeout_ms = served_hard_end_ms(s, job->request.timeout_ms),
	    },
	    &options, e);
	if (c->framed == NULL) {
		timer_free(c->deadline);
		free(c);
		return NULL;
	}
	framed_bind(c->framed, &served_ignoring_ops, NULL);
	framed_watch(c->framed, served_channel_over, c);
	if (job->request.half_closed)
		framed_forgo_end(c->framed);
	TAILQ_INSERT_TAIL(&s->channels, c, link);
	s->count++;
	s->opened++;
	return c;
}

static void served_refuse(struct uplink *uplink, const char *channel_id, const char *text)
{
	Openshell__V1__RelayOpenResult result = OPENSHELL__V1__RELAY_OPEN_RESULT__INIT;
	Openshell__V1__SupervisorMessage message = OPENSHELL__V1__SUPERVISOR_MESSAGE__INIT;

	result.channel_id = (char *)channel_id;
	result.error = (char *)text;
	message.payload_case = OPENSHELL__V1__SUPERVISOR_MESSAGE__PAYLOAD_RELAY_OPEN_RESULT;
	message.relay_open_result = &result;
	log_info(&area, "channel_refused", LOG_STR("relay", channel_id), LOG_STR("reason", text));
	uplink_send(uplink, &message.base);
}

/* A status is a stream, which the gateway may not let us open: so many may wait. */
static bool served_is_full(const struct served *s)
{
	return s->count >= DIALER_CHANNELS_MAX + DIALER_REFUSALS_MAX;
}

static void served_say_full(struct err *e)
{
	err_set(e, GRPC_RESOURCE_EXHAUSTED, "%d calls are open in this sandbox; end some",
	    DIALER_CHANNELS_MAX);
}

/* Opens the stream and hands it to its handler, or answers why there is none. */
static void served_start(struct served *s, struct uplink *uplink, struct rpc_client *client,
    const struct served_job *job)
{
	const struct channel_method *method = served_find(s, job->request.method);
	struct served_channel *c = NULL;
	struct err e;

	if (served_is_full(s))
		served_say_full(&e);
	else
		c = served_channel_create(s, client, method, job, &e);
	if (c == NULL) {
		served_refuse(uplink, job->channel_id, e.text);
		return;
	}
	if (served_send_init(c->framed, job->channel_id) != 0) {
		err_set(&e, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		framed_cancel(c->framed, &e);
	} else if (s->count > DIALER_CHANNELS_MAX) {
		served_say_full(&e);
		framed_finish(c->framed, &e);
	} else if (method == NULL) {
		err_set(&e, GRPC_UNIMPLEMENTED, "this supervisor does not serve %s",
		    job->request.method);
		framed_finish(c->framed, &e);
	} else {
		log_debug(&area, "channel_open", LOG_STR("relay", job->channel_id),
		    LOG_STR("method", job->request.method),
		    LOG_STR("subject", job->request.subject));
		method->open(c->framed, &job->request, s->app);
	}
}

/* What a RelayOpen asks for. */

static uint64_t served_timeout_ms(const Google__Protobuf__Duration *left)
{
	if (left == NULL || left->seconds >= SERVED_FAR_SECONDS)
		return RPC_DEADLINE_NONE;
	if (left->seconds < 0 || left->nanos < 0)
		return 0;
	return (uint64_t)left->seconds * 1000 + (uint64_t)left->nanos / 1000000;
}

static void served_open_call(struct served *s, struct uplink *uplink, struct rpc_client *client,
    const Openshell__V1__RelayOpen *open)
{
	const Towline__V1__CallTarget *call = open->call;

	served_start(s, uplink, client,
	    &(struct served_job){
		.channel_id = open->channel_id,
		.request = {
			.method = call->method,
			.first_message = call->first_message.data,
			.first_len = call->first_message.len,
			.half_closed = call->half_closed,
			.timeout_ms = served_timeout_ms(call->deadline),
			.subject = call->subject,
		},
	    });
}

/* From a gateway that knows of no calls: the frames of ForwardTcp and of RelayStream
 * are the same, so that its first message is all that is missing. */
static void served_open_tcp(struct served *s, struct uplink *uplink, struct rpc_client *client,
    const Openshell__V1__RelayOpen *open)
{
	Openshell__V1__TcpForwardInit init = OPENSHELL__V1__TCP_FORWARD_INIT__INIT;
	Openshell__V1__TcpForwardFrame frame = OPENSHELL__V1__TCP_FORWARD_FRAME__INIT;
	uint8_t *packed;
	size_t len;

	init.target_case = OPENSHELL__V1__TCP_FORWARD_INIT__TARGET_TCP;
	init.tcp = open->tcp;
	init.service_id = open->service_id;
	frame.payload_case = OPENSHELL__V1__TCP_FORWARD_FRAME__PAYLOAD_INIT;
	frame.init = &init;
	packed = codec_pack_new(&frame.base, &len);
	if (packed == NULL) {
		served_refuse(uplink, open->channel_id, "out of memory");
		return;
	}
	served_start(s, uplink, client,
	    &(struct served_job){
		.channel_id = open->channel_id,
		.request = {
			.method = WIRE_FORWARD,
			.first_message = packed,
			.first_len = len,
			.timeout_ms = RPC_DEADLINE_NONE,
			.subject = "",
		},
	    });
	free(packed);
}

void served_open(struct served *s, struct uplink *uplink, struct rpc_client *client,
    const Openshell__V1__RelayOpen *open)
{
	if (strlen(open->channel_id) > SERVED_ID_MAX) {
		served_refuse(
		    uplink, open->channel_id, "RelayOpen has a channel_id that is too long");
		return;
	}
	switch (open->target_case) {
	case OPENSHELL__V1__RELAY_OPEN__TARGET_CALL:
		served_open_call(s, uplink, client, open);
		break;
	case OPENSHELL__V1__RELAY_OPEN__TARGET_TCP:
		served_open_tcp(s, uplink, client, open);
		break;
	case OPENSHELL__V1__RELAY_OPEN__TARGET_SSH:
		served_refuse(uplink, open->channel_id,
		    "this supervisor has no SSH endpoint; use the gateway's");
		break;
	default:
		served_refuse(
		    uplink, open->channel_id, "RelayOpen has no target that is known here");
		break;
	}
}

void served_close(struct served *s, const char *channel_id, const char *reason)
{
	struct served_channel *c;
	struct err e;

	TAILQ_FOREACH(c, &s->channels, link)
	{
		if (strcmp(c->id, channel_id) != 0)
			continue;
		err_set(&e, GRPC_CANCELLED, "the gateway gave the call up: %s", reason);
		framed_leave(c->framed, &e); /* a status would wait for what is queued */
		return;
	}
}
