/* A sync as its client sees it: the calls, and our end of each. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/random.h"
#include "proto/codec.h"
#include "proto/scope.h"
#include "towline/v1/files.pb-c.h"
#include "transfer/raw_path.h"
#include "transfer/sync/sync.h"
#include "transfer/sync/sync_flow.h"
#include "transfer/sync/sync_team.h"

#define METHOD      "/towline.v1.Files/SyncTree"
#define PROGRESS_MS 100
#define ID_SIZE     16

/* A call. The first compares and decides, the others have joined it. */
struct stream {
	struct sync *sync;
	struct framed *call;    /* NULL: over */
	struct sync_flow *flow; /* NULL: it has ended */
	bool answered;          /* the sandbox speaks our protocol */
};

struct sync {
	struct loop *loop;
	struct rpc_client *client;
	char *sandbox, *workspace, *local;
	bool download, dry_run;
	uint32_t oldest; /* protocol that will do */
	const struct sync_ops *ops;
	void *cookie;
	struct sync_team *team;
	uint8_t id[ID_SIZE];
	struct stream streams[SYNC_STREAMS_MAX];
	size_t count, wanted; /* streams there are, and may be */
	struct post more;     /* from the first's thread: these are of use */
	pthread_mutex_t lock; /* one change at a time is told of */
	bool agreed;          /* the first stream ended with a receipt */
	struct timer *progress;
	struct sync_result result;
	struct err err; /* the first thing that went wrong */
	struct post post;
};

static void sync_free(struct sync *s)
{
	for (size_t i = 0; i < s->count; i++)
		sync_flow_free(s->streams[i].flow);
	sync_team_release(s->team);
	timer_free(s->progress);
	pthread_mutex_destroy(&s->lock);
	free(s->sandbox);
	free(s->workspace);
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
	if (s->post.pending)
		return;
	for (size_t i = 0; i < s->count; i++)
		if (s->streams[i].call != NULL || s->streams[i].flow != NULL)
			return;
	s->post.run = run_done;
	loop_post(s->loop, &s->post);
}

/* Its flow is told, and ends by itself. */
static void cut(struct stream *t, const struct err *why)
{
	struct framed *call = t->call;

	t->call = NULL;
	if (call != NULL)
		framed_cancel(call, why);
	if (t->flow != NULL)
		sync_flow_stop(t->flow, why);
}

static void fail(struct sync *s, const struct err *why)
{
	if (s->err.code == GRPC_OK)
		s->err = *why;
	for (size_t i = 0; i < s->count; i++)
		cut(&s->streams[i], why);
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
	uint64_t moved = s->result.sent + s->result.received; /* of those that have ended */

	timer_start(s->progress, PROGRESS_MS);
	for (size_t i = 0; i < s->count; i++)
		if (s->streams[i].flow != NULL)
			moved += sync_flow_moved(s->streams[i].flow);
	s->ops->progress(s->cookie, moved);
}

static bool leads(const struct stream *t)
{
	return t == &t->sync->streams[0];
}

/* The flows. */

/* On the first's thread. */
static int open_root(void *cookie, struct err *err)
{
	struct sync *s = ((struct stream *)cookie)->sync;
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
	struct sync *s = ((struct stream *)cookie)->sync;

	if (s->ops->note != NULL)
		s->ops->note(s->cookie, text);
}

static void flow_item(void *cookie, enum sync_act act, const struct sync_entry *e)
{
	static const enum sync_change changes[] = { [SYNC_ACT_MAKE] = SYNC_CHANGE_MAKE,
		[SYNC_ACT_SEND] = SYNC_CHANGE_SEND,
		[SYNC_ACT_TOUCH] = SYNC_CHANGE_TOUCH,
		[SYNC_ACT_DELETE] = SYNC_CHANGE_DELETE };
	struct sync *s = ((struct stream *)cookie)->sync;

	if (s->ops->change == NULL)
		return;
	pthread_mutex_lock(&s->lock);
	s->ops->change(s->cookie, changes[act], e->path, e->kind == SYNC_KIND_DIRECTORY);
	pthread_mutex_unlock(&s->lock);
}

static void flow_spread(void *cookie)
{
	struct sync *s = ((struct stream *)cookie)->sync;

	if (s->wanted > 1 && !s->more.pending)
		loop_post(s->loop, &s->more);
}

static void take_result(struct sync_result *r, const struct sync_counts *c)
{
	r->files = c->files;
	r->bytes = c->bytes;
	r->literal = c->literal;
	r->made = c->directories + c->links;
	r->touched = c->touched;
	r->deleted = c->deleted;
	r->same = c->same;
	r->skipped = c->skipped;
	r->failed = c->failed;
}

/* The first has counted what the others did. If one of them was missed, it says so. */
static void flow_ended(void *cookie, const struct sync_counts *c, const struct err *err)
{
	struct stream *t = cookie;
	struct sync *s = t->sync;
	struct err copy = *err;

	s->result.sent += c->sent;
	s->result.received += c->received;
	if (leads(t)) {
		take_result(&s->result, c);
		s->agreed = copy.code == GRPC_OK;
	}
	sync_flow_free(t->flow);
	t->flow = NULL;
	if (copy.code == GRPC_OK && t->call != NULL)
		framed_end(t->call);
	else if (copy.code != GRPC_OK && leads(t))
		fail(s, &copy);
	else
		cut(t, &copy);
	check_done(s);
}

/* The calls. */

static void refuse_protocol(struct sync *s, uint32_t theirs)
{
	struct err err;

	err_set(&err, GRPC_FAILED_PRECONDITION,
	    "the sandbox syncs by protocol %" PRIu32 ", and this program by %" PRIu32
	    " to %d; use programs of one version",
	    theirs, s->oldest, SYNC_PROTOCOL);
	fail(s, &err);
}

/* The answer to init. A source of ours has sent nothing before, since a target speaks first. */
static void call_message(void *cookie, const uint8_t *message, size_t len)
{
	struct stream *t = cookie;
	enum guard_result why;
	Towline__V1__SyncTreeResponse *response =
	    codec_unpack(&towline__v1__sync_tree_response__descriptor, message, len, &why);
	uint32_t theirs = response != NULL ? response->protocol : 0;

	codec_free(response);
	t->answered = theirs >= t->sync->oldest && theirs <= SYNC_PROTOCOL;
	if (!t->answered)
		refuse_protocol(t->sync, theirs);
	else if (theirs >= SYNC_PROTOCOL_RANGES && t->sync->wanted > 1)
		sync_team_allow_ranges(t->sync->team);
}

static void call_payload(void *cookie, struct slice data)
{
	struct stream *t = cookie;
	size_t len = data.len;

	if (!t->answered) {
		slice_release(&data);
		refuse_protocol(t->sync, 0);
		return;
	}
	if (t->flow != NULL) {
		sync_flow_push(t->flow, data);
		return;
	}
	slice_release(&data);
	framed_credit(t->call, len);
}

/* What the sandbox says of entries that failed is in the receipt too, and that is what
 * counts; another status means that it is not content with how the sync went. */
static void call_end(void *cookie, const struct err *status)
{
	struct stream *t = cookie;
	struct sync *s = t->sync;
	bool content = status == NULL || status->code == GRPC_OK || status->code == GRPC_ABORTED;

	if (!content && leads(t) && s->err.code == GRPC_OK)
		s->err = *status;
	if (t->flow == NULL)
		return;
	if (!content && !leads(t))
		sync_flow_abort(t->flow, status);
	sync_flow_eof(t->flow);
}

static void call_sent(void *cookie, size_t bytes)
{
	struct stream *t = cookie;

	if (t->flow != NULL)
		sync_flow_sent(t->flow, bytes);
}

static void call_closed(void *cookie, const struct err *why)
{
	struct stream *t = cookie;
	struct sync *s = t->sync;

	t->call = NULL;
	if (t->flow != NULL)
		sync_flow_stop(t->flow, why);
	else if (leads(t) && !s->agreed && why->code != GRPC_OK && s->err.code == GRPC_OK)
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

/* Sends ${init}, which lacks only what all of them have; ${len} gets the message's bytes. */
static int send_init(
    struct stream *t, Towline__V1__SyncTreeInit *init, size_t *len, struct err *err)
{
	Towline__V1__SyncTreeRequest request = TOWLINE__V1__SYNC_TREE_REQUEST__INIT;
	Openshell__Datamodel__V1__WorkspaceSelector scope;

	init->sandbox = t->sync->sandbox;
	init->newest = SYNC_PROTOCOL;
	init->workspace_scope = scope_of_workspace(&scope, t->sync->workspace);
	request.payload_case = TOWLINE__V1__SYNC_TREE_REQUEST__PAYLOAD_INIT;
	request.init = init;
	/* Who does not know of them would not leave out what they name. */
	if (raw_path_has_lists(init))
		t->sync->oldest = SYNC_PROTOCOL_RAW_EXCLUDE;
	init->protocol = t->sync->oldest;
	uint8_t *packed = raw_path_pack(&request, init, len);
	int result = packed != NULL && framed_send(t->call, packed, *len) == 0
	    ? 0
	    : err_set(err, GRPC_RESOURCE_EXHAUSTED, "the request could not be sent");
	free(packed);
	return result;
}

/* Makes the call and starts our end of it. */
static int start_stream(struct stream *t, struct rpc_client *client,
    Towline__V1__SyncTreeInit *init, struct sync_flow_env *env, struct err *err)
{
	struct rpc_client_call call = { .path = METHOD };

	if (client == NULL ||
	    (t->call = framed_call(client, &call, NULL, &call_ops, t, err)) == NULL)
		return -1;
	env->loop = t->sync->loop;
	env->call = t->call;
	env->source = !t->sync->download;
	env->team = t->sync->team;
	env->ended = flow_ended;
	env->cookie = t;
	if (send_init(t, init, &env->preface, err) == 0 &&
	    (t->flow = sync_flow_start(env, err)) != NULL)
		return 0;
	framed_cancel(t->call, err);
	t->call = NULL;
	return -1;
}

static int start_first(struct sync *s, const struct sync_request *r, struct err *err)
{
	Towline__V1__SyncTreeInit init = TOWLINE__V1__SYNC_TREE_INIT__INIT;
	struct sync_flow_env env = { .options = { .prune = r->prune,
					 .dry_run = r->dry_run,
					 .checksum = r->checksum,
					 .safe_links = true },
		.exclude = r->exclude,
		.open = open_root,
		.note = flow_note,
		.item = flow_item,
		.spread = flow_spread };

	init.path = (char *)r->remote;
	init.direction = r->download ? TOWLINE__V1__SYNC_DIRECTION__SYNC_DIRECTION_DOWNLOAD
				     : TOWLINE__V1__SYNC_DIRECTION__SYNC_DIRECTION_UPLOAD;
	init.delete_extra = r->prune;
	init.dry_run = r->dry_run;
	init.checksum = r->checksum;
	init.n_exclude = count_of(r->exclude);
	init.exclude = (char **)r->exclude;
	if (s->wanted > 1)
		init.id = (ProtobufCBinaryData){ .len = ID_SIZE, .data = s->id };
	s->count = 1;
	s->streams[0].sync = s;
	return start_stream(&s->streams[0], r->client, &init, &env, err);
}

/* Each has a connection of its own, if the caller has any to give. */
static struct rpc_client *client_of(struct sync *s, size_t number, struct err *err)
{
	return s->ops->another != NULL ? s->ops->another(s->cookie, number, err) : s->client;
}

/* On the loop. One that cannot be had is not missed. */
static void start_others(struct post *post)
{
	struct sync *s = (struct sync *)((char *)post - offsetof(struct sync, more));
	struct err err;

	while (s->streams[0].flow != NULL && s->count < s->wanted) {
		Towline__V1__SyncTreeInit init = TOWLINE__V1__SYNC_TREE_INIT__INIT;
		struct sync_flow_env env = { .joins = true };
		struct stream *t = &s->streams[s->count];
		init.joins = (ProtobufCBinaryData){ .len = ID_SIZE, .data = s->id };
		t->sync = s;
		if (start_stream(t, client_of(s, s->count, &err), &init, &env, &err) != 0)
			return;
		s->count++;
	}
}

static int check_request(const struct sync_request *r, struct err *err)
{
	if (r->local[0] == '\0' || r->remote[0] == '\0')
		return err_set(err, GRPC_INVALID_ARGUMENT, "an empty path; \".\" is a directory");
	return 0;
}

static struct sync *create(struct loop *loop, const struct sync_request *r, struct err *err)
{
	struct sync *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	s->loop = loop;
	s->client = r->client;
	s->download = r->download;
	s->dry_run = r->dry_run;
	s->oldest = SYNC_PROTOCOL_OLDEST;
	s->ops = r->ops;
	s->cookie = r->cookie;
	s->wanted = r->streams < SYNC_STREAMS_MAX ? r->streams : SYNC_STREAMS_MAX;
	s->more.run = start_others;
	random_bytes(s->id, sizeof(s->id));
	if ((s->sandbox = strdup(r->sandbox)) != NULL &&
	    (s->workspace = strdup(r->workspace != NULL ? r->workspace : "")) != NULL &&
	    (s->local = strdup(r->local)) != NULL &&
	    (s->progress = timer_create_on(loop, on_progress, s)) != NULL &&
	    (s->team = sync_team_create(err)) != NULL)
		return s;
	err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	sync_free(s);
	return NULL;
}

struct sync *sync_start(struct loop *loop, const struct sync_request *r, struct err *err)
{
	struct sync *s;

	if (check_request(r, err) != 0 || (s = create(loop, r, err)) == NULL)
		return NULL;
	if (start_first(s, r, err) != 0) {
		sync_free(s);
		return NULL;
	}
	if (s->ops->progress != NULL)
		timer_start(s->progress, PROGRESS_MS);
	return s;
}
