/* A sync as its client sees it: the call, and our end of it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/codec.h"
#include "towline/v1/files.pb-c.h"
#include "transfer/raw_path.h"
#include "transfer/sync.h"
#include "transfer/sync_flow.h"

#define PROGRESS_MS 100

struct sync {
	struct loop *loop;
	char *local;
	bool download, dry_run;
	const struct sync_ops *ops;
	void *cookie;
	struct framed *call;    /* NULL: over */
	struct sync_flow *flow; /* NULL: it has ended */
	bool answered;          /* the sandbox speaks our protocol */
	bool agreed;            /* the flow ended with a receipt */
	struct timer *progress;
	struct sync_result result;
	struct err err; /* the first thing that went wrong */
	struct post post;
};

static void sync_free(struct sync *s)
{
	sync_flow_free(s->flow);
	timer_free(s->progress);
	free(s->local);
	free(s);
}

static void run_done(struct post *post)
{
	struct sync *s = (struct sync *)((char *)post - offsetof(struct sync, post));
	const struct sync_ops *ops = s->ops;
	void *cookie = s->cookie;
	struct sync_result result = s->result;
	struct err err = s->err;

	sync_free(s);
	ops->done(cookie, &result, &err);
}

static void check_done(struct sync *s)
{
	if (s->call != NULL || s->flow != NULL || s->post.pending)
		return;
	s->post.run = run_done;
	loop_post(s->loop, &s->post);
}

static void fail(struct sync *s, const struct err *why)
{
	struct framed *call = s->call;

	if (s->err.code == GRPC_OK)
		s->err = *why;
	s->call = NULL;
	if (call != NULL)
		framed_cancel(call, why);
	if (s->flow != NULL)
		sync_flow_stop(s->flow, why);
	check_done(s);
}

void sync_cancel(struct sync *s)
{
	struct err err;

	err_set(&err, GRPC_CANCELLED, "stopped");
	fail(s, &err);
}

static void on_progress(void *cookie)
{
	struct sync *s = cookie;

	timer_start(s->progress, PROGRESS_MS);
	if (s->flow != NULL)
		s->ops->progress(s->cookie, sync_flow_moved(s->flow));
}

/* The flow. */

/* On its thread. */
static int open_root(void *cookie, struct err *err)
{
	struct sync *s = cookie;
	int fd = open(s->local, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0 || (errno == ENOENT && s->dry_run && s->download))
		return fd;
	if (errno == ENOTDIR)
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s is no directory; copy a single file with upload or download", s->local);
	return err_sys(err, errno, "%s", s->local);
}

static void flow_note(void *cookie, const char *text)
{
	struct sync *s = cookie;

	if (s->ops->note != NULL)
		s->ops->note(s->cookie, text);
}

static void flow_item(void *cookie, enum sync_act act, const struct sync_entry *e)
{
	static const enum sync_change changes[] = { [SYNC_ACT_MAKE] = SYNC_CHANGE_MAKE,
		[SYNC_ACT_SEND] = SYNC_CHANGE_SEND,
		[SYNC_ACT_TOUCH] = SYNC_CHANGE_TOUCH,
		[SYNC_ACT_DELETE] = SYNC_CHANGE_DELETE };
	struct sync *s = cookie;

	if (s->ops->change != NULL)
		s->ops->change(s->cookie, changes[act], e->path, e->kind == SYNC_KIND_DIRECTORY);
}

static void flow_ended(void *cookie, const struct sync_counts *c, const struct err *err)
{
	struct sync *s = cookie;
	struct err copy = *err;

	s->result = (struct sync_result){ .files = c->files,
		.bytes = c->bytes,
		.literal = c->literal,
		.made = c->directories + c->links,
		.touched = c->touched,
		.deleted = c->deleted,
		.same = c->same,
		.skipped = c->skipped,
		.failed = c->failed,
		.sent = c->sent,
		.received = c->received };
	sync_flow_free(s->flow);
	s->flow = NULL;
	s->agreed = copy.code == GRPC_OK;
	if (!s->agreed)
		fail(s, &copy);
	else if (s->call != NULL)
		framed_end(s->call);
	check_done(s);
}

/* The call. */

static void refuse_protocol(struct sync *s, uint32_t theirs)
{
	struct err err;

	err_set(&err, GRPC_FAILED_PRECONDITION,
	    "the sandbox syncs by protocol %" PRIu32
	    ", and this program by %d; use programs of one version",
	    theirs, SYNC_PROTOCOL);
	fail(s, &err);
}

/* The answer to init. A source of ours has sent nothing before, since a target speaks first. */
static void call_message(void *cookie, const uint8_t *message, size_t len)
{
	struct sync *s = cookie;
	enum guard_result why;
	Towline__V1__SyncTreeResponse *response =
	    codec_unpack(&towline__v1__sync_tree_response__descriptor, message, len, &why);
	uint32_t theirs = response != NULL ? response->protocol : 0;

	codec_free(response);
	s->answered = theirs == SYNC_PROTOCOL;
	if (!s->answered)
		refuse_protocol(s, theirs);
}

static void call_payload(void *cookie, struct slice data)
{
	struct sync *s = cookie;
	size_t len = data.len;

	if (!s->answered) {
		slice_release(&data);
		refuse_protocol(s, 0);
		return;
	}
	if (s->flow != NULL) {
		sync_flow_push(s->flow, data);
		return;
	}
	slice_release(&data);
	framed_credit(s->call, len);
}

/* What the sandbox says of entries that failed is in the receipt too, and that is what
 * counts; another status means that it is not content with how the sync went. */
static void call_end(void *cookie, const struct err *status)
{
	struct sync *s = cookie;
	bool entries = status != NULL && status->code == GRPC_ABORTED;

	if (status != NULL && status->code != GRPC_OK && !entries && s->err.code == GRPC_OK)
		s->err = *status;
	if (s->flow != NULL)
		sync_flow_eof(s->flow);
}

static void call_sent(void *cookie, size_t bytes)
{
	struct sync *s = cookie;

	if (s->flow != NULL)
		sync_flow_sent(s->flow, bytes);
}

static void call_closed(void *cookie, const struct err *why)
{
	struct sync *s = cookie;

	s->call = NULL;
	if (s->flow != NULL)
		sync_flow_stop(s->flow, why);
	else if (!s->agreed && why->code != GRPC_OK && s->err.code == GRPC_OK)
		s->err = *why;
	check_done(s);
}

static const struct framed_ops call_ops = {
	.payload = call_payload,
	.message = call_message,
	.end = call_end,
	.sent = call_sent,
	.closed = call_closed,
};

/* The beginning. */

static size_t count_of(const char *const *list)
{
	size_t n = 0;

	while (list != NULL && list[n] != NULL)
		n++;
	return n;
}

/* ${len} gets the bytes of the message. */
static int send_init(struct sync *s, const struct sync_request *r, size_t *len, struct err *err)
{
	Towline__V1__SyncTreeRequest request = TOWLINE__V1__SYNC_TREE_REQUEST__INIT;
	Towline__V1__SyncTreeInit init = TOWLINE__V1__SYNC_TREE_INIT__INIT;
	Openshell__Datamodel__V1__WorkspaceSelector scope =
	    OPENSHELL__DATAMODEL__V1__WORKSPACE_SELECTOR__INIT;

	scope.selection_case = OPENSHELL__DATAMODEL__V1__WORKSPACE_SELECTOR__SELECTION_WORKSPACE;
	scope.workspace = (char *)r->workspace;
	init.sandbox = (char *)r->sandbox;
	init.path = (char *)r->remote;
	if (r->workspace != NULL && r->workspace[0] != '\0')
		init.workspace_scope = &scope;
	init.direction = r->download ? TOWLINE__V1__SYNC_DIRECTION__SYNC_DIRECTION_DOWNLOAD
				     : TOWLINE__V1__SYNC_DIRECTION__SYNC_DIRECTION_UPLOAD;
	init.delete_extra = r->prune;
	init.dry_run = r->dry_run;
	init.checksum = r->checksum;
	init.protocol = SYNC_PROTOCOL;
	init.n_exclude = count_of(r->exclude);
	init.exclude = (char **)r->exclude;
	request.payload_case = TOWLINE__V1__SYNC_TREE_REQUEST__PAYLOAD_INIT;
	request.init = &init;
	raw_path_give(&init);
	uint8_t *packed = codec_pack_new(&request.base, len);
	int result = packed != NULL && framed_send(s->call, packed, *len) == 0
	    ? 0
	    : err_set(err, GRPC_RESOURCE_EXHAUSTED, "the request could not be sent");
	free(packed);
	return result;
}

static int start_flow(struct sync *s, const struct sync_request *r, size_t preface, struct err *err)
{
	struct sync_flow_env env = { .loop = s->loop,
		.call = s->call,
		.source = !r->download,
		.options = { .prune = r->prune,
		    .dry_run = r->dry_run,
		    .checksum = r->checksum,
		    .safe_links = true },
		.exclude = r->exclude,
		.preface = preface,
		.open = open_root,
		.note = flow_note,
		.item = flow_item,
		.ended = flow_ended,
		.cookie = s };

	s->flow = sync_flow_start(&env, err);
	return s->flow != NULL ? 0 : -1;
}

static int check_request(const struct sync_request *r, struct err *err)
{
	if (r->local[0] == '\0' || r->remote[0] == '\0')
		return err_set(err, GRPC_INVALID_ARGUMENT, "an empty path; \".\" is a directory");
	for (size_t i = 0; i < count_of(r->exclude); i++)
		if (!guard_is_text(r->exclude[i], strlen(r->exclude[i])))
			return err_set(err, GRPC_INVALID_ARGUMENT, "the pattern %s is not UTF-8",
			    r->exclude[i]);
	return 0;
}

struct sync *sync_start(struct loop *loop, const struct sync_request *r, struct err *err)
{
	struct rpc_client_call call = { .path = "/towline.v1.Files/SyncTree" };
	struct sync *s = calloc(1, sizeof(*s));
	size_t preface;

	if (s == NULL || (s->local = strdup(r->local)) == NULL ||
	    (s->progress = timer_create_on(loop, on_progress, s)) == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		if (s != NULL)
			sync_free(s);
		return NULL;
	}
	s->loop = loop;
	s->download = r->download;
	s->dry_run = r->dry_run;
	s->ops = r->ops;
	s->cookie = r->cookie;
	if (check_request(r, err) != 0 ||
	    (s->call = framed_call(r->client, &call, NULL, &call_ops, s, err)) == NULL) {
		sync_free(s);
		return NULL;
	}
	if (send_init(s, r, &preface, err) != 0 || start_flow(s, r, preface, err) != 0) {
		framed_cancel(s->call, err);
		sync_free(s);
		return NULL;
	}
	if (s->ops->progress != NULL)
		timer_start(s->progress, PROGRESS_MS);
	return s;
}
