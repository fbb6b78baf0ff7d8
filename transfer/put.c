/* The client's upload: a local file or tree onto an UploadFile call. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "transfer/client_transfer.h"

static void flow_ended(void *cookie, const struct err *err)
{
	struct transfer *t = cookie;
	struct flow_result r;
	struct err copy = *err;

	outflow_result(t->out, &r);
	outflow_free(t->out);
	t->out = NULL;
	t->result.bytes = r.bytes;
	t->result.wire_bytes = r.wire;
	t->result.entries = r.entries;
	t->result.files = t->recursive ? r.files : 1;
	t->result.skipped = r.skipped;
	t->result.ignored = r.ignored;
	t->result.failed = r.failed;
	memcpy(t->result.digest, r.digest, DIGEST_SIZE);
	if (copy.code != GRPC_OK && t->recursive)
		err_wrap(&copy, "%s", t->local);
	if (copy.code != GRPC_OK && !r.complete)
		transfer_fail(t, &copy);
	else if (t->call != NULL)
		framed_end(t->call);
	if (r.complete && t->err.code == GRPC_OK)
		t->err = copy; /* the rest goes on */
	transfer_check_done(t);
}

/* As many entries and bytes as were sent, but for those of which is said that they failed. */
static bool tree_is_whole(const struct transfer *t, const Openshell__V1__UploadFileResponse *r)
{
	if (r->tree != NULL && r->tree->failed > 0)
		return true;
	return r->bytes_written == t->result.bytes &&
	    (r->entries == 0 || r->entries == t->result.entries) &&
	    (r->tree == NULL || r->tree->files == t->result.files);
}

/* What the sandbox has stored is what we have sent, or the upload has failed. */
static void check_answer(struct transfer *t, const Openshell__V1__UploadFileResponse *r)
{
	struct err err;

	t->answered = true;
	transfer_take_report(t, r->tree);
	if (t->recursive && !tree_is_whole(t, r)) {
		/* said below */
	} else if (r->digest != NULL && r->digest->value.len == DIGEST_SIZE) {
		t->result.has_digest = true;
		if (memcmp(r->digest->value.data, t->result.digest, DIGEST_SIZE) == 0)
			return;
	} else if (r->bytes_written == t->result.bytes) {
		return; /* a server that gives no digest */
	}
	err_set(&err, GRPC_DATA_LOSS, "%s: what the sandbox has stored is not what was sent",
	    t->remote);
	transfer_fail(t, &err);
}

static void call_message(void *cookie, const uint8_t *message, size_t len)
{
	struct transfer *t = cookie;
	enum guard_result why;
	struct err err;
	Openshell__V1__UploadFileResponse *r =
	    codec_unpack(&openshell__v1__upload_file_response__descriptor, message, len, &why);

	if (r == NULL) {
		err_set(&err, GRPC_INTERNAL, "UploadFileResponse: %s", guard_text(why));
		transfer_fail(t, &err);
		return;
	}
	check_answer(t, r);
	codec_free(r);
}

static void call_end(void *cookie, const struct err *status)
{
	struct transfer *t = cookie;

	if (status != NULL && status->code != GRPC_OK && t->err.code == GRPC_OK)
		t->err = *status;
	else if (!t->answered && t->err.code == GRPC_OK)
		err_set(&t->err, GRPC_INTERNAL, "%s: the sandbox did not say that it has stored it",
		    t->remote);
	if (t->out != NULL)
		outflow_stop(t->out); /* it will not be read */
}

static void call_sent(void *cookie, size_t bytes)
{
	struct transfer *t = cookie;

	t->moved += bytes;
	if (t->out != NULL)
		outflow_sent(t->out, bytes);
}

static void call_closed(void *cookie, const struct err *why)
{
	struct transfer *t = cookie;

	t->call = NULL;
	if (why->code != GRPC_OK && t->err.code == GRPC_OK && !t->answered)
		t->err = *why;
	if (t->out != NULL)
		outflow_stop(t->out);
	transfer_check_done(t);
}

static const struct framed_ops call_ops = {
	.message = call_message,
	.end = call_end,
	.sent = call_sent,
	.closed = call_closed,
};

static int send_metadata(struct transfer *t, const struct stat *st, struct err *err)
{
	Openshell__V1__UploadFileRequest request = OPENSHELL__V1__UPLOAD_FILE_REQUEST__INIT;
	Openshell__V1__UploadFileMetadata m = OPENSHELL__V1__UPLOAD_FILE_METADATA__INIT;
	Openshell__Datamodel__V1__WorkspaceSelector scope =
	    OPENSHELL__DATAMODEL__V1__WORKSPACE_SELECTOR__INIT;
	Google__Protobuf__Timestamp mtime = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	size_t len;

	scope.selection_case = OPENSHELL__DATAMODEL__V1__WORKSPACE_SELECTOR__SELECTION_WORKSPACE;
	scope.workspace = t->workspace;
	mtime.seconds = st->st_mtim.tv_sec;
	mtime.nanos = (int32_t)st->st_mtim.tv_nsec;
	m.sandbox = t->sandbox;
	m.remote_path = t->remote;
	m.is_archive = t->recursive;
	m.mode = t->mode != 0 ? t->mode : S_ISREG(st->st_mode) ? st->st_mode & 0777 : 0;
	if (S_ISREG(st->st_mode)) {
		m.size_bytes = (uint64_t)st->st_size;
		m.modified_time = &mtime;
	} else {
		m.size_unknown = true;
	}
	if (t->workspace[0] != '\0')
		m.workspace_scope = &scope;
	request.payload_case = OPENSHELL__V1__UPLOAD_FILE_REQUEST__PAYLOAD_METADATA;
	request.metadata = &m;
	uint8_t *packed = codec_pack_new(&request.base, &len);
	if (packed == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	int r = framed_send(t->call, packed, len);
	free(packed);
	return r == 0 ? 0 : err_set(err, GRPC_UNAVAILABLE, "the call takes no metadata");
}

static struct outflow *start_tree(struct transfer *t, const struct flow_env *env, struct err *err)
{
	struct outflow_tree tree = { .name = ".",
		.compression = t->compress ? TREE_COMPRESSION_ZSTD : TREE_COMPRESSION_NONE,
		.exclude = t->exclude,
		.git_ignore = t->git_ignore,
		.follow_links = t->follow_links };

	t->exclude = NULL; /* taken */
	return outflow_tree(env, t->call, t->fd, &tree, err);
}

static int start_flow(struct transfer *t, const struct stat *st, struct err *err)
{
	struct flow_env env = { .loop = t->loop,
		.workers = t->workers,
		.ended = flow_ended,
		.note = transfer_note,
		.cookie = t };

	if (transfer_call(t, "/openshell.v1.OpenShell/UploadFile", &call_ops, err) != 0 ||
	    send_metadata(t, st, err) != 0)
		return -1;
	t->total = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
	t->out = t->recursive ? start_tree(t, &env, err)
			      : outflow_file(&env, t->call, t->fd,
				    S_ISREG(st->st_mode) ? t->total : UINT64_MAX, t->local, err);
	if (t->out != NULL)
		t->fd = -1;
	return t->out != NULL ? 0 : -1;
}

/* On a worker: a network file system may take its time. */
static void run_open(struct job *job)
{
	struct transfer *t = (struct transfer *)job;

	if (t->user_fd >= 0)
		t->fd = fcntl(t->user_fd, F_DUPFD_CLOEXEC, 3);
	else
		t->fd = open(t->local, O_RDONLY | O_CLOEXEC | (t->recursive ? O_DIRECTORY : 0));
	if (t->fd < 0)
		err_sys(&t->err, errno, "%s", t->local);
}

static void after_open(struct job *job)
{
	struct transfer *t = (struct transfer *)job;
	struct stat st;
	struct err err = { 0 };

	t->working = false;
	if (t->err.code == GRPC_OK) {
		if (fstat(t->fd, &st) != 0)
			err_sys(&err, errno, "%s", t->local);
		else if (S_ISDIR(st.st_mode) && !t->recursive)
			err_sys(&err, EISDIR, "%s", t->local);
		else
			start_flow(t, &st, &err);
	}
	if (err.code != GRPC_OK)
		transfer_fail(t, &err);
	else
		transfer_check_done(t);
}

struct transfer *transfer_upload(
    struct loop *loop, const struct transfer_request *r, struct err *err)
{
	struct transfer *t = transfer_create(loop, r, err);

	if (t == NULL)
		return NULL;
	if (r->exclude != NULL && (t->exclude = ignore_list(r->exclude, err)) == NULL) {
		transfer_free_unstarted(t);
		return NULL;
	}
	t->job.run = run_open;
	t->job.done = after_open;
	t->working = true;
	if (workers_submit(t->workers, loop, &t->job) != 0) {
		transfer_free_unstarted(t);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "too many file operations are waiting");
		return NULL;
	}
	return t;
}
