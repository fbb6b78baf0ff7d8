/* DownloadFile, served: a header, an outflow, a trailer. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "transfer/etag.h"
#include "transfer/flow.h"
#include "transfer/raw_path.h"
#include "transfer/transfers.h"
#include "transfer/tree/tree_notes.h"

struct download {
	struct job job; /* first; opens what is asked for, while ${opening} */
	struct transfers *transfers;
	struct framed *call;  /* NULL: the client is gone */
	struct outflow *flow; /* NULL: not begun, or ended */
	Openshell__V1__DownloadFileRequest *request;
	bool opening;
	int fd;           /* the file, or the tree's root; the flow takes it */
	const char *name; /* of a tree, beneath ${fd} */
	struct stat st;
	uint64_t bytes; /* to send */
	char etag[ETAG_SIZE];
	struct tree_notes notes; /* the flow's thread's, until it ends */
	struct err err;
};

static void download_free(struct download *d)
{
	transfers_leave(d->transfers, d->request->as_archive);
	outflow_free(d->flow);
	if (d->fd >= 0)
		close(d->fd);
	tree_notes_free(&d->notes);
	codec_free(d->request);
	free(d);
}

/* On a worker. */

static int check_range(struct download *d, struct err *err)
{
	uint64_t size = (uint64_t)d->st.st_size, offset = d->request->offset;

	if (offset > size)
		return err_set(err, GRPC_OUT_OF_RANGE,
		    "%s: offset %" PRIu64 " is past its %" PRIu64 " bytes", d->request->remote_path,
		    offset, size);
	d->bytes = size - offset;
	if (d->request->length != 0 && d->request->length < d->bytes)
		d->bytes = d->request->length;
	return 0;
}

static int check_kind(const char *path, mode_t mode, struct err *err)
{
	if (S_ISDIR(mode))
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s is a directory; ask for it as an archive", path);
	if (!S_ISREG(mode))
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s is no file but a pipe, socket or device", path);
	return 0;
}

static int check_file(struct download *d, struct err *err)
{
	const char *path = d->request->remote_path;

	if (fstat(d->fd, &d->st) != 0)
		return err_sys(err, errno, "%s", path);
	if (check_kind(path, d->st.st_mode, err) != 0)
		return -1;
	etag_of(&d->st, d->etag);
	if (d->request->if_match[0] != '\0' && strcmp(d->request->if_match, d->etag) != 0)
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s is another file now: if_match differs", path);
	return check_range(d, err);
}

/* A directory's content is packed as "./..."; a file under its own name. */
static int open_tree(struct download *d, int root, const char *rest, struct err *err)
{
	d->name = ".";
	d->fd = transfers_open_directory(d->transfers, d->request->remote_path, false, err);
	if (d->fd >= 0 || err->code != GRPC_FAILED_PRECONDITION)
		return d->fd < 0 ? -1 : 0;
	err_clear(err);
	d->name = rest;
	d->fd = fcntl(root, F_DUPFD_CLOEXEC, 3);
	return d->fd < 0 ? err_sys(err, errno, "%s", d->request->remote_path) : 0;
}

/* What is no file is not even opened, since that can do things; what takes its place
 * meanwhile is found out about afterwards. O_NONBLOCK: a pipe or a device must not hold a
 * worker up. */
static int open_file(struct download *d, int root, const char *rest, struct err *err)
{
	enum beneath_links links = root == d->transfers->slash ? BENEATH_IN_ROOT : BENEATH_FOLLOW;

	if (beneath_stat(root, rest, &d->st, links, err) != 0 ||
	    check_kind(d->request->remote_path, d->st.st_mode, err) != 0)
		return -1;
	d->fd = beneath_open(root, rest, O_RDONLY | O_NONBLOCK, 0, links, err);
	return d->fd < 0 ? -1 : check_file(d, err);
}

static void run_open(struct job *job)
{
	struct download *d = (struct download *)job;
	const struct transfers *t = d->transfers;
	const char *rest;
	int root = beneath_root(t->workdir, t->slash, d->request->remote_path, &rest);

	if (d->request->as_archive)
		open_tree(d, root, rest, &d->err);
	else
		open_file(d, root, rest, &d->err);
}

/* On the loop. */

static void send_message(struct download *d, const Openshell__V1__DownloadFileResponse *r)
{
	size_t len;
	uint8_t *packed = codec_pack_new(&r->base, &len);

	if (packed == NULL || framed_send(d->call, packed, len) != 0)
		err_set(&d->err, GRPC_INTERNAL, "the answer could not be sent");
	free(packed);
}

static bool has_holes(const struct stat *st)
{
	return st->st_blocks < st->st_size / 512;
}

static void send_header(struct download *d)
{
	Openshell__V1__DownloadFileResponse r = OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__INIT;
	Openshell__V1__DownloadFileHeader header = OPENSHELL__V1__DOWNLOAD_FILE_HEADER__INIT;
	Google__Protobuf__Timestamp mtime = GOOGLE__PROTOBUF__TIMESTAMP__INIT;

	if (d->request->as_archive) {
		header.is_archive = true;
	} else {
		mtime.seconds = d->st.st_mtim.tv_sec;
		mtime.nanos = (int32_t)d->st.st_mtim.tv_nsec;
		header.size_bytes = d->bytes;
		header.mode = d->st.st_mode & 07777;
		header.modified_time = &mtime;
		header.etag = d->etag;
		if (d->request->offset != 0 || d->request->length != 0)
			header.total_bytes = (uint64_t)d->st.st_size;
		header.sparse = d->request->sparse_ok && has_holes(&d->st);
	}
	r.payload_case = OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__PAYLOAD_HEADER;
	r.header = &header;
	send_message(d, &r);
}

static void send_trailer(struct download *d, struct flow_result *result)
{
	Openshell__V1__DownloadFileResponse r = OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__INIT;
	Openshell__V1__DownloadFileTrailer trailer = OPENSHELL__V1__DOWNLOAD_FILE_TRAILER__INIT;
	Towline__V1__TreeReport report;
	Towline__V1__Digest digest = TOWLINE__V1__DIGEST__INIT;

	digest.algorithm = TOWLINE__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_XXH3_128;
	digest.value = (ProtobufCBinaryData){ .len = DIGEST_SIZE, .data = result->digest };
	trailer.digest = &digest;
	trailer.bytes = result->wire;
	trailer.entries = result->entries;
	if (d->request->as_archive)
		trailer.tree = &report;
	tree_notes_report(&d->notes, result, &report);
	if (d->request->prefix_bytes != 0)
		trailer.digest_bytes = result->wire + d->request->prefix_bytes;
	r.payload_case = OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__PAYLOAD_TRAILER;
	r.trailer = &trailer;
	send_message(d, &r);
}

static void finish(struct download *d)
{
	framed_finish(d->call, d->err.code == GRPC_OK ? NULL : &d->err);
}

static void flow_ended(void *cookie, const struct err *err)
{
	struct download *d = cookie;
	struct flow_result result;

	if (d->err.code == GRPC_OK)
		d->err = *err;
	outflow_result(d->flow, &result);
	outflow_free(d->flow);
	d->flow = NULL;
	if (d->call == NULL) {
		download_free(d);
		return;
	}
	if (d->err.code == GRPC_OK || result.complete)
		send_trailer(d, &result);
	finish(d);
}

static enum tree_compression compression_of(const Openshell__V1__DownloadFileRequest *q)
{
	switch (q->compression) {
	case TOWLINE__V1__COMPRESSION__COMPRESSION_GZIP:
		return TREE_COMPRESSION_GZIP;
	case TOWLINE__V1__COMPRESSION__COMPRESSION_ZSTD:
		return TREE_COMPRESSION_ZSTD;
	default:
		return TREE_COMPRESSION_NONE;
	}
}

static void flow_note(void *cookie, const char *text)
{
	tree_notes_add(&((struct download *)cookie)->notes, text);
}

/* The request's patterns; NULL: it has none, or the download has failed. */
static struct ignore *take_exclude(struct download *d)
{
	const Openshell__V1__DownloadFileRequest *q = d->request;
	const char **list = q->n_exclude > 0 ? calloc(q->n_exclude + 1, sizeof(*list)) : NULL;
	struct ignore *patterns = NULL;

	if (q->n_exclude == 0)
		return NULL;
	if (list == NULL)
		err_set(&d->err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	for (size_t i = 0; list != NULL && i < q->n_exclude; i++)
		list[i] = q->exclude[i];
	if (list != NULL && (patterns = ignore_list(list, &d->err)) == NULL)
		err_wrap(&d->err, "exclude");
	free(list);
	return patterns;
}

static struct outflow *start_tree(struct download *d, const struct flow_env *env)
{
	struct outflow_tree tree = { .name = d->name,
		.compression = compression_of(d->request),
		.exclude = take_exclude(d) };

	if (d->err.code != GRPC_OK)
		return NULL;
	return outflow_tree(env, d->call, d->fd, &tree, &d->err);
}

static void start_flow(struct download *d)
{
	struct flow_env env = { .loop = d->transfers->loop,
		.workers = d->transfers->workers,
		.ended = flow_ended,
		.note = flow_note,
		.cookie = d };
	struct outflow_range range = { .offset = d->request->offset,
		.bytes = d->bytes,
		.prefix = d->request->prefix_bytes,
		.sparse = d->request->sparse_ok && has_holes(&d->st) };

	send_header(d);
	if (d->err.code == GRPC_OK) {
		d->flow = d->request->as_archive
		    ? start_tree(d, &env)
		    : outflow_range(&env, d->call, d->fd, &range, d->request->remote_path, &d->err);
	}
	if (d->flow != NULL)
		d->fd = -1;
	else
		finish(d);
}

static void after_open(struct job *job)
{
	struct download *d = (struct download *)job;

	d->opening = false;
	if (d->call == NULL)
		download_free(d);
	else if (d->err.code != GRPC_OK)
		finish(d);
	else
		start_flow(d);
}

static void call_sent(void *cookie, size_t bytes)
{
	struct download *d = cookie;

	if (d->flow != NULL)
		outflow_sent(d->flow, bytes);
}

static void call_closed(void *cookie, const struct err *why)
{
	struct download *d = cookie;

	(void)why;
	d->call = NULL;
	if (d->flow != NULL)
		outflow_stop(d->flow);
	else if (!d->opening)
		download_free(d);
}

static const struct framed_ops call_ops = { .sent = call_sent, .closed = call_closed };

/* The beginning. */

static int check_request(const Openshell__V1__DownloadFileRequest *q, struct err *err)
{
	if (q->remote_path[0] == '\0')
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "remote_path: empty; name what to download");
	if (q->n_exclude > 0 && !q->as_archive)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "exclude is for archives, not for files");
	if (q->as_archive &&
	    (q->offset != 0 || q->length != 0 || q->prefix_bytes != 0 || q->if_match[0] != '\0'))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "offset, length, prefix_bytes and if_match are for files, not for archives");
	if (q->prefix_bytes > q->offset)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "prefix_bytes: there are only %" PRIu64 " bytes before the offset", q->offset);
	return 0;
}

/* Takes ${q} on success. */
static int serve(struct transfers *t, struct framed *call, Openshell__V1__DownloadFileRequest *q,
    struct err *err)
{
	struct download *d;

	if (check_request(q, err) != 0 || transfers_enter(t, q->as_archive, err) != 0)
		return -1;
	if ((d = calloc(1, sizeof(*d))) == NULL) {
		transfers_leave(t, q->as_archive);
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	}
	*d = (struct download){ .transfers = t,
		.call = call,
		.request = q,
		.fd = -1,
		.opening = true,
		.job = { .run = run_open, .done = after_open } };
	framed_bind(call, &call_ops, d);
	if (workers_submit(t->workers, t->loop, &d->job) != 0) {
		d->opening = false;
		err_set(&d->err, GRPC_RESOURCE_EXHAUSTED,
		    "too many file operations are waiting; try again");
		finish(d);
	}
	return 0;
}

void transfer_serve_download(
    struct transfers *t, struct framed *call, const struct channel_request *r)
{
	enum guard_result why;
	struct err err = { 0 };
	Openshell__V1__DownloadFileRequest *q =
	    codec_unpack(&openshell__v1__download_file_request__descriptor, r->first_message,
		r->first_len, &why);

	if (q == NULL)
		err_set(&err, (enum grpc_code)guard_status(why), "DownloadFileRequest: %s",
		    guard_text(why));
	else if (raw_path_take(q, &err) != 0 || serve(t, call, q, &err) != 0)
		codec_free(q);
	if (err.code != GRPC_OK)
		framed_finish(call, &err);
}
