#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "transfer/flow.h"
#include "transfer/lane.h"

#define PREFIX_CHUNKS_PER_TURN 16

struct outflow {
	struct job job; /* first; with the workers while ${reading} */
	struct flow_env env;
	struct framed *call; /* NULL: stopped */
	char *name;
	int fd; /* of the file, or the tree's root */
	struct digest *digest;
	struct flow_result result;
	size_t under_way; /* bytes written to the call and not yet gone */
	struct err err;   /* what went wrong first; of the job while ${reading} */
	struct post post; /* the way to ended() */

	/* A file: */
	uint64_t left;   /* UINT64_MAX: not known */
	uint64_t at;     /* of what is read next, if it is known how much */
	uint64_t prefix; /* bytes before it that are read for the digest alone */
	bool is_sparse;
	uint64_t data_end; /* no hole is before it */
	uint64_t hole;     /* the job has found so many bytes of one */
	size_t chunk;
	struct block *block; /* the job's */
	size_t got;
	bool reading, at_end;

	/* A tree: */
	struct lane *lane;
	struct outflow_tree options;
	struct tree_result tree;
};

static void read_more(struct outflow *);

static struct outflow *outflow_create(
    const struct flow_env *env, struct framed *call, int fd, const char *name, struct err *err)
{
	struct outflow *o = calloc(1, sizeof(*o));

	if (o != NULL) {
		o->env = *env;
		o->call = call;
		o->fd = fd;
		o->name = strdup(name);
		o->digest = digest_create();
	}
	if (o == NULL || o->name == NULL || o->digest == NULL) {
		if (o != NULL)
			o->fd = -1; /* taken on success only */
		outflow_free(o);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	return o;
}

void outflow_free(struct outflow *o)
{
	if (o == NULL)
		return;
	loop_unpost(o->env.loop, &o->post);
	if (o->lane != NULL)
		lane_free(o->lane);
	if (o->fd >= 0)
		close(o->fd);
	ignore_free(o->options.exclude);
	digest_free(o->digest);
	free(o->name);
	free(o);
}

void outflow_result(const struct outflow *o, struct flow_result *r)
{
	*r = o->result;
	digest_value(o->digest, r->digest);
}

static void run_ended(struct post *post)
{
	struct outflow *o = (struct outflow *)((char *)post - offsetof(struct outflow, post));

	o->env.ended(o->env.cookie, &o->err);
}

static void end_later(struct outflow *o)
{
	o->post.run = run_ended;
	if (!o->post.pending)
		loop_post(o->env.loop, &o->post);
}

/* Onto the call; a slice it does not take is dropped and the flow fails. */
static void send(struct outflow *o, struct slice s)
{
	size_t len = s.len;

	if (framed_write(o->call, FRAMED_BYTES, s) != 0) {
		slice_release(&s);
		err_set(&o->err, GRPC_UNAVAILABLE, "%s: the call takes no more", o->name);
		return;
	}
	o->under_way += len;
	o->result.wire += len;
}

/* Files. */

/* All that comes, until its end. */
static void read_stream(struct outflow *o, size_t want)
{
	while (o->got < want) {
		ssize_t n = read(o->fd, block_data(o->block) + o->got, want - o->got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			err_sys(&o->err, errno, "%s", o->name);
		o->at_end = n <= 0;
		if (n <= 0)
			return;
		o->got += (size_t)n;
		if (o->got >= FLOW_FIRST_CHUNK)
			return; /* a pipe's bytes should not wait for more of them */
	}
}

static void shrank(struct outflow *o)
{
	o->at_end = true;
	err_set(&o->err, GRPC_ABORTED, "%s shrank while it was read", o->name);
}

/* ${want} bytes at ${at}; the same place is never read twice, so that what is sent and
 * what is hashed are the same. */
static void read_at(struct outflow *o, uint64_t at, size_t want)
{
	while (o->got < want) {
		ssize_t n = pread(
		    o->fd, block_data(o->block) + o->got, want - o->got, (off_t)(at + o->got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			shrank(o);
		else if (n < 0)
			err_sys(&o->err, errno, "%s", o->name);
		if (n <= 0)
			return;
		o->got += (size_t)n;
	}
}

/* Is there a hole here? File systems that know of none say that all is data. */
static void look_for_hole(struct outflow *o)
{
	struct stat st;
	off_t data = lseek(o->fd, (off_t)o->at, SEEK_DATA);

	if (data < 0 && errno == ENXIO) { /* none behind here; what is left is a hole */
		if (fstat(o->fd, &st) != 0 || (uint64_t)st.st_size <= o->at) {
			shrank(o);
			return;
		}
		data = st.st_size;
	}
	uint64_t hole = data < 0 ? 0 : (uint64_t)data - o->at;
	if (hole >= FLOW_HOLE_MIN) {
		hole = hole < o->left ? hole : o->left;
		o->hole = hole < FLOW_HOLE_MAX ? hole : FLOW_HOLE_MAX;
		return;
	}
	off_t end = data < 0 ? -1 : lseek(o->fd, data, SEEK_HOLE);
	o->data_end = end > data ? (uint64_t)end : UINT64_MAX;
}

static void digest_zeros(struct digest *digest, uint64_t n)
{
	static const uint8_t zeros[16384];

	for (uint64_t part; n > 0; n -= part) {
		part = n < sizeof(zeros) ? n : sizeof(zeros);
		digest_update(digest, zeros, (size_t)part);
	}
}

static void read_range(struct outflow *o, size_t want)
{
	if (o->is_sparse && o->at >= o->data_end)
		look_for_hole(o);
	if (o->err.code != GRPC_OK)
		return;
	if (o->hole > 0) {
		digest_zeros(o->digest, o->hole);
		return;
	}
	if (o->is_sparse && want > o->data_end - o->at)
		want = (size_t)(o->data_end - o->at);
	read_at(o, o->at, want);
}

static void run_read(struct job *job)
{
	struct outflow *o = (struct outflow *)job;
	size_t want = o->chunk < o->left ? o->chunk : (size_t)o->left;

	o->got = 0;
	o->hole = 0;
	if (o->left == UINT64_MAX)
		read_stream(o, want);
	else
		read_range(o, want);
	digest_update(o->digest, block_data(o->block), o->got);
}

static void send_hole(struct outflow *o)
{
	Openshell__V1__DownloadFileResponse r = OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__INIT;
	uint8_t packed[32];

	r.payload_case = OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__PAYLOAD_HOLE_BYTES;
	r.hole_bytes = o->hole;
	size_t len = codec_pack(&r.base, packed);
	if (framed_send(o->call, packed, len) != 0) {
		err_set(&o->err, GRPC_UNAVAILABLE, "%s: the call takes no more", o->name);
		return;
	}
	o->under_way += len;
	o->result.wire += o->hole;
}

static void after_read(struct job *job)
{
	struct outflow *o = (struct outflow *)job;
	uint64_t n = o->hole > 0 ? o->hole : o->got;

	o->reading = false;
	if (o->call != NULL && o->err.code == GRPC_OK && n > 0) {
		o->result.bytes += n;
		if (o->left != UINT64_MAX)
			o->left -= n;
		o->at += n;
		if (o->hole > 0)
			send_hole(o);
		else
			send(o, slice_of(o->block, 0, o->got));
	}
	block_unref(o->block);
	o->block = NULL;
	o->chunk = FLOW_CHUNK;
	read_more(o);
}

/* The bytes before the range, for the digest: some of them a turn, since others have
 * work for the worker too. */
static void run_prefix(struct job *job)
{
	struct outflow *o = (struct outflow *)job;

	for (size_t turns = PREFIX_CHUNKS_PER_TURN; turns > 0 && o->prefix > 0; turns--) {
		o->got = 0;
		read_at(
		    o, o->at - o->prefix, o->prefix < FLOW_CHUNK ? (size_t)o->prefix : FLOW_CHUNK);
		if (o->err.code != GRPC_OK)
			return;
		digest_update(o->digest, block_data(o->block), o->got);
		o->prefix -= o->got;
	}
}

static void after_prefix(struct job *job)
{
	struct outflow *o = (struct outflow *)job;

	o->reading = false;
	block_unref(o->block);
	o->block = NULL;
	read_more(o);
}

/* A block of the pool; or one of our own when that has none, since a read must not
 * wait for other transfers. */
static struct block *get_block(struct outflow *o)
{
	bool small = o->prefix == 0 && o->left <= FLOW_FIRST_CHUNK;
	struct block *b = small ? NULL : block_get(loop_pool(o->env.loop));

	if (b == NULL && o->prefix > 0)
		return block_new(FLOW_CHUNK);
	return b != NULL ? b : block_new(o->chunk < o->left ? o->chunk : (size_t)o->left);
}

static void set_stopped(struct outflow *o)
{
	if (o->err.code == GRPC_OK)
		err_set(&o->err, GRPC_CANCELLED, "%s: stopped", o->name);
}

static void read_more(struct outflow *o)
{
	if (o->reading)
		return;
	if (o->call == NULL)
		set_stopped(o);
	if (o->err.code != GRPC_OK || (o->left == 0 && o->prefix == 0) || o->at_end) {
		end_later(o);
		return;
	}
	if (o->under_way + o->chunk > FLOW_WINDOW)
		return; /* outflow_sent() calls again */
	if ((o->block = get_block(o)) == NULL) {
		err_set(&o->err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		end_later(o);
		return;
	}
	o->job.run = o->prefix > 0 ? run_prefix : run_read;
	o->job.done = o->prefix > 0 ? after_prefix : after_read;
	o->reading = true;
	if (workers_submit(o->env.workers, o->env.loop, &o->job) != 0) {
		o->reading = false;
		block_unref(o->block);
		o->block = NULL;
		err_set(&o->err, GRPC_RESOURCE_EXHAUSTED,
		    "too many file operations are waiting; try again");
		end_later(o);
	}
}

struct outflow *outflow_file(const struct flow_env *env, struct framed *call, int fd,
    uint64_t bytes, const char *name, struct err *err)
{
	struct outflow *o = outflow_create(env, call, fd, name, err);

	if (o == NULL)
		return NULL;
	if (bytes != UINT64_MAX) {
		off_t at = lseek(fd, 0, SEEK_CUR);
		o->at = at < 0 ? 0 : (uint64_t)at;
	}
	o->left = bytes;
	o->chunk = FLOW_FIRST_CHUNK;
	read_more(o);
	return o;
}

struct outflow *outflow_range(const struct flow_env *env, struct framed *call, int fd,
    const struct outflow_range *range, const char *name, struct err *err)
{
	struct outflow *o = outflow_create(env, call, fd, name, err);

	if (o == NULL)
		return NULL;
	o->at = range->offset;
	o->left = range->bytes;
	o->prefix = range->prefix;
	o->is_sparse = range->sparse;
	o->chunk = FLOW_FIRST_CHUNK;
	read_more(o);
	return o;
}

/* Trees. */

/* What the thread needs; ${flow} is read for what was set before it began. */
struct packer {
	const struct outflow *flow;
	struct lane *lane;
};

static int push(void *cookie, const void *bytes, size_t len, struct err *err)
{
	return lane_write(((struct packer *)cookie)->lane, bytes, len, err);
}

static void tell(void *cookie, const char *text)
{
	const struct flow_env *env = &((struct packer *)cookie)->flow->env;

	if (env->note != NULL)
		env->note(env->cookie, text);
}

static int pack(struct lane *lane, void *arg, struct err *err)
{
	struct outflow *o = arg;
	struct packer packer = { .flow = o, .lane = lane };
	struct tree_pack p = { .root = o->fd,
		.name = o->name,
		.compression = o->options.compression,
		.exclude = o->options.exclude,
		.git_ignore = o->options.git_ignore,
		.follow_links = o->options.follow_links,
		.push = push,
		.note = tell,
		.cookie = &packer };

	int r = tree_pack(&p, &o->tree, err);
	if (!o->tree.complete || o->tree.files > 0)
		return r;
	o->tree.complete = false;
	return err_set(err, GRPC_FAILED_PRECONDITION, "there is no file in it%s",
	    o->tree.ignored > 0 ? " but what patterns leave out" : ", only directories");
}

static void lane_data(void *cookie, struct slice s)
{
	struct outflow *o = cookie;
	size_t len = s.len;

	if (o->call == NULL || o->err.code != GRPC_OK) {
		slice_release(&s);
		lane_credit(o->lane, len);
		return;
	}
	digest_update(o->digest, s.data, len);
	send(o, s);
	if (o->err.code != GRPC_OK)
		lane_abort(o->lane, &o->err);
}

static void lane_ended(void *cookie, int result, const struct err *err)
{
	struct outflow *o = cookie;

	o->result.bytes = o->tree.bytes;
	o->result.entries = o->tree.entries;
	o->result.files = o->tree.files;
	o->result.skipped = o->tree.skipped;
	o->result.ignored = o->tree.ignored;
	o->result.failed = o->tree.failed;
	o->result.complete = o->tree.complete && o->err.code == GRPC_OK;
	if (result != 0 && o->err.code == GRPC_OK)
		o->err = *err;
	lane_free(o->lane);
	o->lane = NULL;
	o->env.ended(o->env.cookie, &o->err);
}

static const struct lane_ops lane_ops = { .data = lane_data, .ended = lane_ended };

struct outflow *outflow_tree(const struct flow_env *env, struct framed *call, int root,
    const struct outflow_tree *options, struct err *err)
{
	struct outflow *o = outflow_create(env, call, root, options->name, err);

	if (o == NULL) {
		ignore_free(options->exclude);
		return NULL;
	}
	o->options = *options;
	if ((o->lane = lane_start(env->loop, FLOW_WINDOW, pack, o, &lane_ops, o, err)) == NULL) {
		o->fd = -1;
		outflow_free(o);
		return NULL;
	}
	return o;
}

/* Both. */

void outflow_sent(struct outflow *o, size_t bytes)
{
	/* Headers and trailers of the call are in there too: never more than is ours. */
	size_t n = bytes < o->under_way ? bytes : o->under_way;

	o->under_way -= n;
	if (o->lane != NULL)
		lane_credit(o->lane, n);
	else if (!o->post.pending)
		read_more(o);
}

void outflow_stop(struct outflow *o)
{
	o->call = NULL;
	if (o->reading)
		return; /* the error is the job's until it is done, which ends the rest */
	set_stopped(o);
	if (o->lane != NULL)
		lane_abort(o->lane, &o->err);
	else
		end_later(o);
}
