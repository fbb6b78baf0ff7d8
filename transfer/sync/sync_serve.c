/* SyncTree, served: the first message says which end we are, a flow is it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "towline/v1/files.pb-c.h"
#include "transfer/raw_path.h"
#include "transfer/sync/sync_flow.h"
#include "transfer/sync/sync_team.h"
#include "transfer/transfers.h"

#define ID_SIZE 16

struct sync_serving {
	struct transfers *transfers;
	struct sync_serving *next; /* of transfers.syncs, when it has an id */
	struct sync_team *team;    /* NULL: it has joined another's */
	struct framed *call;       /* NULL: the client is gone */
	struct sync_flow *flow;    /* NULL: it has ended */
	Towline__V1__SyncTreeRequest *request;
	const char **exclude;
};

/* Those that more streams can join. */

static bool has_id(const struct sync_serving *s, const ProtobufCBinaryData *id)
{
	const ProtobufCBinaryData *own = &s->request->init->id;

	return own->len == id->len && memcmp(own->data, id->data, id->len) == 0;
}

static struct sync_serving *find(const struct transfers *t, const ProtobufCBinaryData *id)
{
	struct sync_serving *s = t->syncs;

	while (s != NULL && !has_id(s, id))
		s = s->next;
	return s;
}

static void enter(struct sync_serving *s)
{
	if (s->team == NULL || s->request->init->id.len == 0)
		return;
	s->next = s->transfers->syncs;
	s->transfers->syncs = s;
}

static void leave(struct sync_serving *s)
{
	struct sync_serving **at = &s->transfers->syncs;

	while (*at != NULL && *at != s)
		at = &(*at)->next;
	if (*at != NULL)
		*at = s->next;
}

static void serving_free(struct sync_serving *s)
{
	leave(s);
	sync_team_release(s->team);
	transfers_leave(s->transfers, true);
	sync_flow_free(s->flow);
	codec_free(s->request);
	free(s->exclude);
	free(s);
}

static bool is_source(const struct sync_serving *s)
{
	return s->request->init->direction == TOWLINE__V1__SYNC_DIRECTION__SYNC_DIRECTION_DOWNLOAD;
}

/* On the flow's thread. */
static int open_root(void *cookie, struct err *err)
{
	struct sync_serving *s = cookie;
	const Towline__V1__SyncTreeInit *init = s->request->init;
	int fd = transfers_open_directory(
	    s->transfers, init->path, !is_source(s) && !init->dry_run, err);

	if (fd < 0 && init->dry_run && !is_source(s) && err->code == GRPC_NOT_FOUND)
		err_clear(err);
	return fd;
}

/* The receipt has all of it; a status that is not OK is for those who do not read it. */
static void flow_ended(void *cookie, const struct sync_counts *counts, const struct err *err)
{
	struct sync_serving *s = cookie;
	struct err status = *err;

	if (s->call != NULL) {
		if (status.code == GRPC_OK && counts->failed > 0 && s->team != NULL)
			err_set(&status, GRPC_ABORTED,
			    "%" PRIu64 " entries could not be synced; the others are",
			    counts->failed);
		sync_flow_free(s->flow);
		s->flow = NULL;
		framed_finish(s->call, status.code == GRPC_OK ? NULL : &status);
	} else {
		serving_free(s);
	}
}

static void call_payload(void *cookie, struct slice data)
{
	struct sync_serving *s = cookie;
	size_t len = data.len;

	if (s->flow != NULL) {
		sync_flow_push(s->flow, data);
		return;
	}
	slice_release(&data);
	framed_credit(s->call, len);
}

static void call_end(void *cookie, const struct err *status)
{
	struct sync_serving *s = cookie;

	(void)status;
	if (s->flow != NULL)
		sync_flow_eof(s->flow);
}

static void call_sent(void *cookie, size_t bytes)
{
	struct sync_serving *s = cookie;

	if (s->flow != NULL)
		sync_flow_sent(s->flow, bytes);
}

static void call_closed(void *cookie, const struct err *why)
{
	struct sync_serving *s = cookie;
	struct err gone;

	(void)why;
	s->call = NULL;
	if (s->flow == NULL) {
		serving_free(s);
		return;
	}
	err_set(&gone, GRPC_CANCELLED, "the client is gone");
	sync_flow_stop(s->flow, &gone);
}

static const struct framed_ops call_ops = {
	.payload = call_payload,
	.end = call_end,
	.sent = call_sent,
	.closed = call_closed,
};

/* The beginning. */

/* That is spoken: the newest of those that both ends know. 0: there is none. */
static uint32_t protocol_of(const Towline__V1__SyncTreeInit *init)
{
	uint32_t newest = init->newest > init->protocol ? init->newest : init->protocol;

	if (init->protocol > SYNC_PROTOCOL || newest < SYNC_PROTOCOL_OLDEST)
		return 0;
	return newest < SYNC_PROTOCOL ? newest : SYNC_PROTOCOL;
}

static int check_init(const Towline__V1__SyncTreeInit *init, struct err *err)
{
	if (protocol_of(init) == 0)
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "protocol: %" PRIu32 "; this supervisor syncs by protocols %d to %d, so client "
		    "and supervisor must be of one version",
		    init->protocol, SYNC_PROTOCOL_OLDEST, SYNC_PROTOCOL);
	if (init->joins.len > 0)
		return 0;
	if (init->id.len != 0 && init->id.len != ID_SIZE)
		return err_set(err, GRPC_INVALID_ARGUMENT, "id: %zu bytes; it has %d or none",
		    init->id.len, ID_SIZE);
	if (init->path[0] == '\0')
		return err_set(err, GRPC_INVALID_ARGUMENT, "path: empty; name a directory");
	if (init->direction != TOWLINE__V1__SYNC_DIRECTION__SYNC_DIRECTION_UPLOAD &&
	    init->direction != TOWLINE__V1__SYNC_DIRECTION__SYNC_DIRECTION_DOWNLOAD)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "direction: %d; UPLOAD and DOWNLOAD are known", (int)init->direction);
	return 0;
}

static int send_protocol(struct framed *call, uint32_t protocol, struct err *err)
{
	size_t len;
	Towline__V1__SyncTreeResponse response = TOWLINE__V1__SYNC_TREE_RESPONSE__INIT;

	response.protocol = protocol;
	uint8_t *packed = codec_pack_new(&response.base, &len);
	int result = packed != NULL && framed_send(call, packed, len) == 0
	    ? 0
	    : err_set(err, GRPC_RESOURCE_EXHAUSTED, "the answer could not be sent");
	free(packed);
	return result;
}

/* The end it is at is that of the one it joins. */
static struct sync_flow *start_stream(struct sync_serving *s, struct err *err)
{
	const struct sync_serving *leader = find(s->transfers, &s->request->init->joins);

	if (leader == NULL) {
		err_set(err, GRPC_NOT_FOUND, "joins: there is no such sync, or no more");
		return NULL;
	}
	struct sync_flow_env env = { .loop = s->transfers->loop,
		.call = s->call,
		.source = is_source(leader),
		.team = leader->team,
		.joins = true,
		.ended = flow_ended,
		.cookie = s };
	return sync_flow_start(&env, err);
}

static struct sync_flow *start_flow(struct sync_serving *s, struct err *err)
{
	const Towline__V1__SyncTreeInit *init = s->request->init;

	if (init->joins.len > 0)
		return start_stream(s, err);
	if (init->id.len > 0 && find(s->transfers, &init->id) != NULL) {
		err_set(err, GRPC_ALREADY_EXISTS, "id: another sync has it");
		return NULL;
	}
	if ((s->team = sync_team_create(err)) == NULL)
		return NULL;
	struct sync_flow_env env = { .loop = s->transfers->loop,
		.call = s->call,
		.source = is_source(s),
		.team = s->team,
		.options = { .prune = init->delete_extra,
		    .dry_run = init->dry_run,
		    .checksum = init->checksum },
		.exclude = s->exclude,
		.open = open_root,
		.ended = flow_ended,
		.cookie = s };

	for (size_t i = 0; i < init->n_exclude; i++)
		s->exclude[i] = init->exclude[i];
	if (init->id.len > 0 && protocol_of(init) >= SYNC_PROTOCOL_RANGES)
		sync_team_allow_ranges(s->team);
	return sync_flow_start(&env, err);
}

/* Takes ${request} on success. */
static int serve(struct transfers *t, struct framed *call, Towline__V1__SyncTreeRequest *request,
    bool half_closed, struct err *err)
{
	struct sync_serving *s;

	if (check_init(request->init, err) != 0 || transfers_enter(t, true, err) != 0)
		return -1;
	if ((s = calloc(1, sizeof(*s))) == NULL) {
		transfers_leave(t, true);
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	}
	*s = (struct sync_serving){ .transfers = t, .call = call, .request = request };
	s->exclude = calloc(request->init->n_exclude + 1, sizeof(*s->exclude));
	if (s->exclude == NULL)
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	/* What is sent before framed_bind() is not told of by call_sent(). */
	if (s->exclude == NULL || send_protocol(call, protocol_of(request->init), err) != 0 ||
	    (s->flow = start_flow(s, err)) == NULL) {
		s->request = NULL;
		serving_free(s);
		return -1;
	}
	enter(s);
	framed_bind(call, &call_ops, s);
	if (half_closed)
		sync_flow_eof(s->flow);
	return 0;
}

void transfer_serve_sync(struct transfers *t, struct framed *call, const struct channel_request *r)
{
	enum guard_result why;
	struct err err = { 0 };
	Towline__V1__SyncTreeRequest *first = codec_unpack(
	    &towline__v1__sync_tree_request__descriptor, r->first_message, r->first_len, &why);

	if (first == NULL)
		err_set(&err, (enum grpc_code)guard_status(why), "SyncTreeRequest: %s",
		    guard_text(why));
	else if (first->payload_case != TOWLINE__V1__SYNC_TREE_REQUEST__PAYLOAD_INIT)
		err_set(&err, GRPC_INVALID_ARGUMENT, "the first message of SyncTree must be init");
	else if (raw_path_take(first->init, &err) == 0 &&
	    serve(t, call, first, r->half_closed, &err) == 0)
		return;
	codec_free(first);
	framed_finish(call, &err);
}
