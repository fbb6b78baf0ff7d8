/* The client's download: a DownloadFile call onto a local file, a descriptor or a tree. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "proto/scope.h"
#include "transfer/ask.h"
#include "transfer/client_transfer.h"

static void flow_used(void *cookie, size_t bytes)
{
	struct transfer *t = cookie;

	t->moved += bytes;
	if (t->call != NULL)
		framed_credit(t->call, bytes);
}

/* What came is what was sent. */
static int check_tree(const struct transfer *t, const struct flow_result *r, struct err *err)
{
	if (r->entries != t->result.entries)
		return err_set(err, GRPC_DATA_LOSS,
		    "%s: %" PRIu64 " entries came of the %" PRIu64 " that were sent", t->remote,
		    r->entries, t->result.entries);
	if (r->wire != t->sent)
		return err_set(err, GRPC_DATA_LOSS,
		    "%s: %" PRIu64 " bytes came of the %" PRIu64 " that were sent", t->remote,
		    r->wire, t->sent);
	return 0;
}

static void flow_ended(void *cookie, const struct err *err)
{
	struct transfer *t = cookie;
	struct flow_result r;
	struct err copy = *err;

	inflow_result(t->in, &r);
	inflow_free(t->in);
	t->in = NULL;
	t->result.bytes = r.bytes;
	t->result.wire_bytes = r.wire;
	t->result.files = t->recursive ? r.files : 1;
	t->result.skipped += r.skipped;
	t->result.failed += r.failed;
	memcpy(t->result.digest, r.digest, DIGEST_SIZE);
	if (copy.code == GRPC_OK && t->recursive && t->user_fd < 0)
		check_tree(t, &r, &copy);
	if (copy.code != GRPC_OK)
		transfer_fail(t, &copy);
	transfer_check_done(t);
}

/* The directory to unpack into is made if it is missing. On the flow's thread. */
static int open_root(void *arg, struct err *err)
{
	struct transfer *t = arg;

	if (mkdir(t->local, 0777) != 0 && errno != EEXIST)
		return err_sys(err, errno, "%s", t->local);
	int fd = open(t->local, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd >= 0 ? fd : err_sys(err, errno, "%s", t->local);
}

static int start_flow(
    struct transfer *t, const Openshell__V1__DownloadFileHeader *h, struct err *err)
{
	struct inflow_env env = { .flow = { .loop = t->loop,
				      .workers = t->workers,
				      .ended = flow_ended,
				      .note = transfer_note,
				      .cookie = t },
		.used = flow_used };
	struct place_options o = {
		.workdir = AT_FDCWD,
		.path = t->local,
		.slash = t->fd,
		.size_known = true,
		.size = h->size_bytes,
		.mode = h->mode & 0777,
	};

	t->total = h->size_bytes;
	if (t->user_fd >= 0)
		t->in = inflow_fd(&env, t->user_fd, err);
	else if (t->recursive)
		t->in = inflow_tree(&env, open_root, t, err);
	else {
		if (h->modified_time != NULL) {
			o.has_mtime = true;
			o.mtime = (struct timespec){ .tv_sec = h->modified_time->seconds,
				.tv_nsec = h->modified_time->nanos };
		}
		t->in = inflow_file(&env, &o, err);
	}
	return t->in != NULL ? 0 : -1;
}

/* Only the trailer makes a download complete; its digest is checked by the flow. */
static int take_trailer(
    struct transfer *t, const Openshell__V1__DownloadFileTrailer *trailer, struct err *err)
{
	bool has = trailer->digest != NULL && trailer->digest->value.len == DIGEST_SIZE &&
	    trailer->digest->algorithm == TOWLINE__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_XXH3_128;

	if (t->in == NULL || t->answered)
		return err_set(err, GRPC_INTERNAL, "a trailer where none belongs");
	t->answered = true;
	t->result.has_digest = has;
	t->result.entries = trailer->entries;
	t->sent = trailer->bytes;
	transfer_take_report(t, trailer->tree);
	inflow_eof(t->in, has ? trailer->digest->value.data : NULL);
	return 0;
}

static void call_message(void *cookie, const uint8_t *message, size_t len)
{
	struct transfer *t = cookie;
	enum guard_result why;
	struct err err = { 0 };
	Openshell__V1__DownloadFileResponse *r =
	    codec_unpack(&openshell__v1__download_file_response__descriptor, message, len, &why);

	if (r == NULL)
		err_set(&err, GRPC_INTERNAL, "DownloadFileResponse: %s", guard_text(why));
	else if (r->payload_case == OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__PAYLOAD_HEADER &&
	    t->in == NULL)
		start_flow(t, r->header, &err);
	else if (r->payload_case == OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__PAYLOAD_TRAILER)
		take_trailer(t, r->trailer, &err);
	else if (len > 0)
		err_set(&err, GRPC_INTERNAL, "a message that belongs nowhere in a download");
	codec_free(r);
	if (err.code != GRPC_OK)
		transfer_fail(t, &err);
}

static void call_payload(void *cookie, struct slice data)
{
	struct transfer *t = cookie;
	struct err err;

	if (t->in != NULL) {
		inflow_push(t->in, data);
		return;
	}
	slice_release(&data);
	err_set(&err, GRPC_INTERNAL, "content before its header");
	transfer_fail(t, &err);
}

/* The stream is over; if that was not after a trailer, what came is undone. */
static void call_over(struct transfer *t, const struct err *why)
{
	if (why->code != GRPC_OK && t->err.code == GRPC_OK && !t->answered)
		t->err = *why;
	if (!t->answered && t->err.code == GRPC_OK)
		err_set(&t->err, GRPC_DATA_LOSS, "%s: the download ended before it was complete",
		    t->remote);
	if (!t->answered && t->in != NULL)
		inflow_abort(t->in, &t->err);
}

static void call_end(void *cookie, const struct err *status)
{
	struct transfer *t = cookie;
	struct err none = { 0 };

	/* Behind a trailer an error is about single entries of a tree: the rest goes on. */
	if (t->answered && t->recursive && t->err.code == GRPC_OK && status != NULL)
		t->err = *status;
	call_over(cookie, status != NULL ? status : &none);
}

static void call_closed(void *cookie, const struct err *why)
{
	struct transfer *t = cookie;

	t->call = NULL;
	call_over(t, why);
	transfer_check_done(t);
}

static const struct framed_ops call_ops = {
	.payload = call_payload,
	.message = call_message,
	.end = call_end,
	.closed = call_closed,
};

static int send_request(struct transfer *t, const char *const *exclude, struct err *err)
{
	Openshell__V1__DownloadFileRequest q = OPENSHELL__V1__DOWNLOAD_FILE_REQUEST__INIT;
	Openshell__Datamodel__V1__WorkspaceSelector scope;

	q.sandbox = t->sandbox;
	q.remote_path = t->remote;
	q.as_archive = t->recursive;
	q.compression = t->compress ? TOWLINE__V1__COMPRESSION__COMPRESSION_ZSTD
				    : TOWLINE__V1__COMPRESSION__COMPRESSION_UNSPECIFIED;
	q.exclude = (char **)exclude;
	while (exclude != NULL && exclude[q.n_exclude] != NULL)
		q.n_exclude++;
	q.offset = t->offset;
	q.length = t->length;
	q.workspace_scope = scope_of_workspace(&scope, t->workspace);
	return ask(t->call, &q, err);
}

/* A person may name what is above or beside the current directory, which a path taken
 * relative to it (transfer/place.h) may not: so it is taken from the root. */
static int make_absolute(char **path, struct err *err)
{
	char *dir, *joined;

	if (*path[0] == '/')
		return 0;
	if ((dir = getcwd(NULL, 0)) == NULL)
		return err_sys(err, errno, "the current directory");
	int n = asprintf(&joined, "%s/%s", dir, *path);
	free(dir);
	if (n < 0)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	free(*path);
	*path = joined;
	return 0;
}

/* A file. */

static struct rpc_client *fetch_again(void *cookie, size_t range, struct err *err)
{
	struct transfer *t = cookie;

	return t->ops->another != NULL ? t->ops->another(t->cookie, range, err)
				       : t->ops->again(t->cookie, err);
}

static void fetch_moved(void *cookie, uint64_t bytes, uint64_t total)
{
	struct transfer *t = cookie;

	t->moved = bytes;
	t->total = total;
}

static void fetch_ended(void *cookie, const struct fetch_result *r, const struct err *err)
{
	struct transfer *t = cookie;

	t->result.bytes = r->bytes;
	t->result.wire_bytes = r->wire;
	t->result.files = 1;
	t->result.kept = r->kept;
	t->result.has_digest = r->has_digest;
	memcpy(t->result.digest, r->digest, DIGEST_SIZE);
	if (t->err.code == GRPC_OK)
		t->err = *err;
	fetch_free(t->fetch);
	t->fetch = NULL;
	transfer_check_done(t);
}

static int start_fetch(struct transfer *t, struct err *err)
{
	struct fetch_options o = {
		.loop = t->loop,
		.workers = t->workers,
		.client = t->client,
		.again = t->ops->again != NULL ? fetch_again : NULL,
		.sandbox = t->sandbox,
		.workspace = t->workspace,
		.remote = t->remote,
		.path = t->local,
		.slash = t->fd,
		.streams = t->streams,
		.fresh = t->fresh,
		.no_replace = t->put.exists == TRANSFER_EXISTS_FAIL,
		.moved = fetch_moved,
		.ended = fetch_ended,
		.cookie = t,
	};

	t->fetch = fetch_start(&o, err);
	return t->fetch != NULL ? 0 : -1;
}

static int open_slash(struct transfer *t, struct err *err)
{
	if (t->fd >= 0)
		close(t->fd);
	t->fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return t->fd >= 0 ? 0 : err_sys(err, errno, "/");
}

/* Whatever there was to compare, it is not the same. */
static bool fetch_after_all(struct transfer *t)
{
	t->try_again = NULL;
	t->answered = false;
	err_clear(&t->err);
	return open_slash(t, &t->err) == 0 && start_fetch(t, &t->err) == 0;
}

static int get_file(struct transfer *t, struct err *err)
{
	if (t->put.exists != TRANSFER_EXISTS_SKIP_IF_SAME)
		return open_slash(t, err) == 0 ? start_fetch(t, err) : -1;
	t->try_again = fetch_after_all;
	return transfer_compare(t, err);
}

static int start_call(struct transfer *t, const char *const *exclude, struct err *err)
{
	if (open_slash(t, err) != 0 ||
	    transfer_call(t, "/openshell.v1.OpenShell/DownloadFile", &call_ops, err) != 0)
		return -1;
	if (send_request(t, t->recursive ? exclude : NULL, err) == 0)
		return 0;
	framed_cancel(t->call, err);
	t->call = NULL;
	return -1;
}

struct transfer *transfer_download(
    struct loop *loop, const struct transfer_request *r, struct err *err)
{
	struct transfer *t = transfer_create(loop, r, err);
	bool is_file = !r->recursive && r->fd < 0 && r->offset == 0 && r->length == 0;

	if (t == NULL)
		return NULL;
	if (make_absolute(&t->local, err) == 0 &&
	    (is_file ? get_file(t, err) : start_call(t, r->exclude, err)) == 0)
		return t;
	transfer_free_unstarted(t);
	return NULL;
}
