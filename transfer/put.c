/*
 * The client's upload: a local file or tree onto an UploadFile call.
 *
 *	open -> [hash -> probe] -> [query] -> [pieces] -> send -> done
 *	  ^                          |           |         |
 *	  +------ wait <-------------+-----------+---------+   of a file, when the way broke
 *
 * Only a file that is large is worth an id and the question how much of it is there. When
 * all of it has gone up in pieces, what is sent behind them is no more than its metadata.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "towline/v1/files.pb-c.h"
#include "transfer/client_transfer.h"
#include "transfer/put_pieces.h"
#include "transfer/raw_path.h"

#define HASH_BYTES ((size_t)256 << 10)
#define HASH_TURN  ((uint64_t)64 << 20)

static void start(struct transfer *);
static void send_it(struct transfer *);
static void end_pieces(struct transfer *);

/* The call. */

static void flow_ended(void *cookie, const struct err *err)
{
	struct transfer *t = cookie;
	struct flow_result r;
	struct err copy = *err;

	outflow_result(t->out, &r);
	outflow_free(t->out);
	t->out = NULL;
	t->result.bytes = t->put.from + r.bytes;
	t->result.wire_bytes += r.wire;
	t->result.entries = r.entries;
	t->result.files = t->recursive ? r.files : 1;
	t->result.skipped = r.skipped;
	t->result.ignored = r.ignored;
	t->result.failed = r.failed;
	memcpy(t->result.digest, t->put.promises ? t->put.promised : r.digest, DIGEST_SIZE);
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
	/* An empty file is all there without a byte. */
	if (t->put.probing && (r->skipped || t->put.st.st_size == 0)) {
		t->result.same = r->skipped;
		t->result.bytes = r->bytes_written;
		t->result.files = 1;
		memcpy(t->result.digest, t->put.promised, DIGEST_SIZE);
		t->result.has_digest = true;
		return;
	}
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

/* The other end, or the way there, has failed us. */
static void refuse(struct transfer *t, const struct err *why)
{
	t->err = *why;
	t->put.refused = true;
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
		refuse(t, status);
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

static void call_opened(void *cookie)
{
	((struct transfer *)cookie)->put.taken = true;
}

static void call_closed(void *cookie, const struct err *why)
{
	struct transfer *t = cookie;

	t->call = NULL;
	if (why->code != GRPC_OK && t->err.code == GRPC_OK && !t->answered)
		refuse(t, why);
	if (t->out != NULL)
		outflow_stop(t->out);
	transfer_check_done(t);
}

static const struct framed_ops call_ops = {
	.message = call_message,
	.end = call_end,
	.sent = call_sent,
	.closed = call_closed,
	.opened = call_opened,
};

static bool is_file(const struct transfer *t)
{
	return !t->recursive && S_ISREG(t->put.st.st_mode);
}

/* A file stays open for another attempt. */
static int start_file(struct transfer *t, const struct flow_env *env, struct err *err)
{
	uint64_t size = (uint64_t)t->put.st.st_size, from = t->put.from;
	struct outflow_range range = { .offset = t->put.base + from,
		.bytes = size - from,
		.prefix = t->put.compared || t->put.promises ? 0 : from };
	int fd = fcntl(t->fd, F_DUPFD_CLOEXEC, 3);

	if (fd < 0)
		return err_sys(err, errno, "%s", t->local);
	t->moved = from;
	t->result.resumed = ranges_bytes(&t->put.durable);
	t->total = size;
	t->out = outflow_range(env, t->call, fd, &range, t->local, err);
	if (t->out == NULL)
		close(fd);
	return t->out != NULL ? 0 : -1;
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

static int start_stream(struct transfer *t, const struct flow_env *env, struct err *err)
{
	t->out = t->recursive ? start_tree(t, env, err)
			      : outflow_file(env, t->call, t->fd, UINT64_MAX, t->local, err);
	if (t->out != NULL)
		t->fd = -1;
	return t->out != NULL ? 0 : -1;
}

static int start_call(struct transfer *t, struct err *err)
{
	struct flow_env env = { .loop = t->loop,
		.workers = t->workers,
		.ended = flow_ended,
		.note = transfer_note,
		.cookie = t };

	if (transfer_call(t, "/openshell.v1.OpenShell/UploadFile", &call_ops, err) != 0 ||
	    transfer_send_metadata(t, t->call, NULL, err) != 0)
		return -1;
	if (t->put.probing) {
		framed_end(t->call);
		return 0;
	}
	return is_file(t) ? start_file(t, &env, err) : start_stream(t, &env, err);
}

static void promised(struct job *job)
{
	struct transfer *t = (struct transfer *)job;
	struct transfer_put *p = &t->put;

	t->working = false;
	p->hashed = p->hashed_to == (uint64_t)p->st.st_size;
	if (p->hashed)
		digest_value(p->hash, p->promised);
	if (t->err.code != GRPC_OK)
		transfer_check_done(t);
	else if (p->writer != 0 && p->from == (uint64_t)p->st.st_size)
		end_pieces(t);
	else
		send_it(t);
}

/* What was there already, or was sent to be compared and was not, is verified before the file
 * is put in its place: so the local one is read first, once in a command. True: it is being
 * read, or that has failed. */
static bool promise_first(struct transfer *t)
{
	struct transfer_put *p = &t->put;
	struct err err = { 0 };

	if (p->durable.count == 0 || p->promise_refused || p->id[0] == '\0')
		return false;
	p->promises = p->hashed;
	if (p->hashed)
		return false;
	if (transfer_submit(t, transfer_run_hash, promised, &err) != 0)
		transfer_fail(t, &err);
	return true;
}

/* What went before may have taken long, and the connection may have gone since. */
static void send_rest(struct transfer *t)
{
	struct err err = { 0 };

	if (!transfer_has_client(t, &err)) {
		refuse(t, &err);
		transfer_check_done(t);
	} else if (start_call(t, &err) != 0) {
		transfer_fail(t, &err);
	} else {
		transfer_check_done(t);
	}
}

/* All is durable: it is put in its place. */
static void end_pieces(struct transfer *t)
{
	if (t->put.compared || !promise_first(t))
		send_rest(t);
}

static void after_pieces(struct transfer *t, const struct err *why, bool refused)
{
	struct err err = *why;

	put_pieces_free(t->put.pieces);
	t->put.pieces = NULL;
	if (err.code != GRPC_OK) {
		if (t->err.code == GRPC_OK)
			t->err = err;
		t->put.refused = refused;
		put_pieces_failed(t);
		transfer_check_done(t);
		return;
	}
	t->put.from = (uint64_t)t->put.st.st_size;
	t->put.compared = t->put.durable.count == 0 && !t->put.whole;
	end_pieces(t);
}

static void send_it(struct transfer *t)
{
	struct err err = { 0 };

	if (promise_first(t))
		return;
	if (!put_pieces_are_wanted(t))
		send_rest(t);
	else if (put_pieces_start(t, after_pieces, &err) != 0)
		transfer_fail(t, &err);
	else
		transfer_check_done(t);
}

/* How much is there. */

static void query_done(void *cookie, const uint8_t *reply, size_t len, const struct err *err)
{
	struct transfer *t = cookie;
	struct transfer_put *p = &t->put;
	struct ranges durable = { 0 };

	p->query = NULL;
	t->working = false;
	if (err->code == GRPC_OK && transfer_read_state(t, reply, len, &durable)) {
		if (ranges_bytes(&durable) > ranges_bytes(&p->durable))
			p->until_ms = 0;
		p->durable = durable;
		p->from = ranges_prefix(&durable);
	} else if (err->code == GRPC_NOT_FOUND) {
		p->from = p->durable.count = 0;
	}
	switch (err->code) {
	case GRPC_UNIMPLEMENTED: /* a gateway that knows no such thing */
		p->id[0] = '\0';
		/* fallthrough */
	case GRPC_OK:
	case GRPC_NOT_FOUND:
		send_it(t);
		return;
	default:
		p->asking = true;
		refuse(t, err);
		transfer_check_done(t);
	}
}

static int query(struct transfer *t, struct err *err)
{
	t->put.query = transfer_query(t, t->client, query_done, t, err);
	t->working = t->put.query != NULL;
	return t->working ? 0 : -1;
}

/* Of this file, as it is now, to that place: who runs the same command again makes the
 * same id. */
static int make_id(struct transfer *t, struct err *err)
{
	const struct stat *st = &t->put.st;
	uint64_t file[] = { st->st_dev, st->st_ino, (uint64_t)st->st_size, t->put.base,
		(uint64_t)st->st_mtim.tv_sec, (uint64_t)st->st_mtim.tv_nsec };
	const char *texts[] = { t->sandbox, t->workspace, t->remote };
	struct digest *d = digest_create();
	uint8_t value[DIGEST_SIZE];

	if (d == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		digest_update(d, texts[i], strlen(texts[i]) + 1);
	digest_update(d, file, sizeof(file));
	digest_value(d, value);
	digest_free(d);
	text_hex(value, sizeof(value), t->put.id);
	return 0;
}

/* Whether it is the same as what is there. */

void transfer_run_hash(struct job *job)
{
	struct transfer *t = (struct transfer *)job;
	struct transfer_put *p = &t->put;
	uint64_t size = (uint64_t)p->st.st_size;
	uint64_t stop = size - p->hashed_to > HASH_TURN ? p->hashed_to + HASH_TURN : size;
	uint8_t *buf = malloc(HASH_BYTES);

	if (p->hash == NULL)
		p->hash = digest_create();
	if (buf == NULL || p->hash == NULL)
		err_set(&t->err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	while (t->err.code == GRPC_OK && p->hashed_to < stop) {
		uint64_t left = stop - p->hashed_to;
		ssize_t n = pread(t->fd, buf, left < HASH_BYTES ? (size_t)left : HASH_BYTES,
		    (off_t)(p->base + p->hashed_to));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			err_sys(&t->err, errno, "%s", t->local);
		else if (n == 0)
			err_set(&t->err, GRPC_ABORTED, "%s shrank while it was read", t->local);
		else
			digest_update(p->hash, buf, (size_t)n);
		p->hashed_to += n > 0 ? (uint64_t)n : 0;
	}
	free(buf);
}

static void after_hash(struct job *job)
{
	struct transfer *t = (struct transfer *)job;
	struct transfer_put *p = &t->put;

	t->working = false;
	if (t->err.code != GRPC_OK) {
		transfer_check_done(t);
		return;
	}
	p->hashed = p->hashed_to == (uint64_t)p->st.st_size;
	if (p->hashed)
		digest_value(p->hash, p->promised);
	start(t);
}

/* The beginning, and the beginning of another attempt. */

static int next(struct transfer *t, struct err *err)
{
	struct transfer_put *p = &t->put;
	bool file = is_file(t);

	p->probing = false;
	if (!file && p->exists == TRANSFER_EXISTS_SKIP_IF_SAME)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "%s is no file, and cannot be compared before it is sent", t->local);
	if (file && p->exists == TRANSFER_EXISTS_SKIP_IF_SAME && !p->differs) {
		if (!p->hashed)
			return transfer_submit(t, transfer_run_hash, after_hash, err);
		p->probing = true;
		return start_call(t, err);
	}
	if (!file || (uint64_t)p->st.st_size <= RESUMABLE_SIZE)
		return start_call(t, err);
	if (p->id[0] == '\0' && !p->tried && make_id(t, err) != 0)
		return -1;
	return p->id[0] != '\0' ? query(t, err) : start_call(t, err);
}

static void start(struct transfer *t)
{
	struct err err = { 0 };

	if (!transfer_has_client(t, &err)) {
		t->put.asking = true;
		refuse(t, &err);
		transfer_check_done(t);
	} else if (next(t, &err) != 0) {
		transfer_fail(t, &err);
	} else {
		transfer_check_done(t);
	}
}

/* Of a file that was handed over open, what is behind the place where it stands. */
static int skip_base(struct transfer *t, struct stat *st)
{
	off_t at = 0;

	if (t->user_fd < 0 || !S_ISREG(st->st_mode))
		return 0;
	if (t->put.known)
		at = (off_t)t->put.base;
	else if ((at = lseek(t->user_fd, 0, SEEK_CUR)) < 0)
		return -1;
	t->put.base = (uint64_t)at;
	st->st_size = st->st_size > at ? st->st_size - at : 0;
	return 0;
}

/* On a worker: a network file system may take its time. */
static void run_open(struct job *job)
{
	struct transfer *t = (struct transfer *)job;
	struct stat st;

	if (t->fd < 0 && t->user_fd >= 0)
		t->fd = fcntl(t->user_fd, F_DUPFD_CLOEXEC, 3);
	else if (t->fd < 0)
		t->fd = open(t->local, O_RDONLY | O_CLOEXEC | (t->recursive ? O_DIRECTORY : 0));
	if (t->fd < 0 || fstat(t->fd, &st) != 0 || skip_base(t, &st) != 0)
		err_sys(&t->err, errno, "%s", t->local);
	else if (S_ISDIR(st.st_mode) && !t->recursive)
		err_sys(&t->err, EISDIR, "%s", t->local);
	else if (t->put.known &&
	    (st.st_size != t->put.st.st_size || st.st_mtim.tv_sec != t->put.st.st_mtim.tv_sec ||
		st.st_mtim.tv_nsec != t->put.st.st_mtim.tv_nsec))
		err_set(&t->err, GRPC_ABORTED, "%s changed while it was sent", t->local);
	if (t->err.code == GRPC_OK)
		t->put.st = st;
	t->put.known = true;
}

static void after_open(struct job *job)
{
	struct transfer *t = (struct transfer *)job;

	t->working = false;
	if (t->err.code == GRPC_OK)
		start(t);
	else
		transfer_check_done(t);
}

static void on_again(void *cookie)
{
	struct transfer *t = cookie;
	struct err err = { 0 };

	t->working = false;
	if (transfer_submit(t, run_open, after_open, &err) != 0)
		transfer_fail(t, &err);
}

static void begin_anew(struct transfer *t)
{
	err_clear(&t->err);
	t->answered = false;
	t->put.refused = t->put.asking = t->put.compared = t->put.promises = false;
	t->put.tried = true;
}

/* How long another attempt is worth while after this failure. */
static uint64_t worth_ms(const struct transfer *t)
{
	if (!t->put.refused || !is_file(t) || t->ops->again == NULL)
		return 0;
	switch (t->err.code) {
	case GRPC_UNAVAILABLE:
		if (!t->put.taken)
			return 0;
		return t->put.id[0] != '\0' ? TRY_AGAIN_MS : TRY_ANEW_MS;
	case GRPC_ABORTED:
		return ABORTED_AGAIN_MS;
	case GRPC_FAILED_PRECONDITION: /* it is being stopped, or started */
		return t->put.asking && t->put.tried ? TRY_AGAIN_MS : 0;
	default:
		return 0;
	}
}

/* What failed because of pieces may go in one stream, or with the digest of the whole; each
 * way is tried but once. */
static bool is_other_way(struct transfer *t)
{
	struct transfer_put *p = &t->put;

	if (!p->refused)
		return false;
	if (t->err.code == GRPC_FAILED_PRECONDITION && p->promises && !p->promise_refused) {
		p->promise_refused = true;
		return true;
	}
	/* It was begun with other content of that size and time. */
	if (t->err.code == GRPC_FAILED_PRECONDITION && p->promise_refused && !p->renamed) {
		text_hex(p->promised, sizeof(p->promised), p->id);
		p->renamed = true;
		p->promise_refused = false;
		return true;
	}
	if (t->err.code == GRPC_DATA_LOSS && p->promises && p->restarts++ == 0)
		return true; /* what was there was damaged, and is gone */
	return put_pieces_go_another_way(t);
}

static bool try_again(struct transfer *t)
{
	struct transfer_put *p = &t->put;

	/* Nothing was sent, so that it fell short if it is not the same. */
	if (p->probing && p->refused && t->err.code == GRPC_DATA_LOSS) {
		p->differs = true;
		begin_anew(t);
		start(t);
		return true;
	}
	if (is_other_way(t)) {
		begin_anew(t);
		start(t);
		return true;
	}
	if (!transfer_try_later(t, worth_ms(t), on_again))
		return false;
	begin_anew(t);
	return true;
}

struct transfer *transfer_upload(
    struct loop *loop, const struct transfer_request *r, struct err *err)
{
	struct transfer *t = transfer_create(loop, r, err);

	if (t == NULL)
		return NULL;
	t->try_again = try_again;
	if (r->exclude != NULL && (t->exclude = ignore_list(r->exclude, err)) == NULL) {
		transfer_free_unstarted(t);
		return NULL;
	}
	if (transfer_submit(t, run_open, after_open, err) != 0) {
		transfer_free_unstarted(t);
		return NULL;
	}
	return t;
}
