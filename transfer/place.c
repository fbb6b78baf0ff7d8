#include "transfer/place.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/digest.h"
#include "rpc/crypto.h"
#include "transfer/part.h"
#include "transfer/pieces.h"
#include "transfer/reserve.h"
#include "transfer/sweep.h"

#define PREPARE_BYTES ((uint64_t)64 << 20) /* read at once, so that a stop is heard */
#define READ_BYTES    ((size_t)256 << 10)
#define WRITE_OUT     ((uint64_t)8 << 20) /* behind so much, the disk need not wait for the sync */

enum stage {
	STAGE_COMPARING, /* the target with what was promised */
	STAGE_CATCHING,  /* up with what an earlier transfer wrote */
	STAGE_WRITING,
	STAGE_DONE /* nothing is to be written */
};

struct place {
	struct place_options opt;
	enum stage stage;
	int parent; /* the target's directory */
	struct part part;
	struct piece piece;          /* with opt.piece_bytes, instead of ${part} */
	int fd;                      /* of either; borrowed */
	uint64_t end;                /* where what may be written ends; UINT64_MAX: not known */
	int old;                     /* the target, STAGE_COMPARING */
	char name[BENEATH_NAME_MAX]; /* in the directory */
	mode_t mode;
	bool has_owner; /* the target had one */
	uid_t uid;
	gid_t gid;
	uint64_t hashed;  /* bytes the digests have seen */
	uint64_t written; /* where the next byte goes */
	uint64_t noted;   /* of a piece: what its journal says is durable ends there */
	bool same;
	bool unread; /* pieces' digests were compared, and that of the whole nobody asks for */
	bool broken; /* a sync has failed: what is on the disk nobody knows */
	uint8_t kept[DIGEST_SIZE]; /* STAGE_DONE: the file's */
	struct digest *digest;
	struct crypto_sha256 *sha256; /* only when that is what was promised */
	struct claim claim;
	char *path; /* as it was asked for, for errors */
	char *id;
};

static void place_free(struct place *p)
{
	piece_leave(&p->piece);
	claims_drop(&p->claim);
	if (p->old >= 0)
		close(p->old);
	if (p->parent >= 0)
		close(p->parent);
	digest_free(p->digest);
	crypto_sha256_free(p->sha256);
	free(p->path);
	free(p->id);
	free(p);
}

void place_abort(struct place *p)
{
	if (p == NULL)
		return;
	if (p->piece.work != NULL)
		piece_forget(&p->piece);
	part_remove(&p->part);
	place_free(p);
}

void place_suspend(struct place *p)
{
	struct err err;

	if (p == NULL)
		return;
	if (p->broken) {
		place_abort(p);
		return;
	}
	if (p->piece.work != NULL && p->written > p->noted)
		piece_sync(&p->piece, p->written, &err);
	/* Bytes that were there but not hashed yet are durable as they were. Syncing once is
	 * enough to get on at all, and another client may be waiting for this one to let go. */
	if (p->stage == STAGE_WRITING && p->part.journal >= 0 && p->written > p->opt.offset &&
	    ranges_prefix(&p->part.state.durable) == p->opt.offset &&
	    part_flush(&p->part, &err) == 0)
		part_note(&p->part, (struct range){ 0, p->written }, &err);
	part_leave(&p->part);
	place_free(p);
}

bool place_is_ready(const struct place *p)
{
	return p->stage >= STAGE_WRITING;
}

bool place_is_same(const struct place *p)
{
	return p->same;
}

bool place_is_unread(const struct place *p)
{
	return p->unread;
}

bool place_is_resumable(const struct place *p)
{
	return p->id != NULL;
}

/* Opening. */

static int open_parent(
    const struct place_options *o, int *parent, char name[static BENEATH_NAME_MAX], struct err *err)
{
	const char *rest;
	int root = beneath_root(o->workdir, o->slash, o->path, &rest);

	*parent = beneath_parent(root, rest, o->make_parents,
	    root == o->slash ? BENEATH_IN_ROOT : BENEATH_FOLLOW, name, err);
	return *parent < 0 ? -1 : 0;
}

/* The one who is here first has the target. */
static int claim(struct place *p, struct err *err)
{
	struct claim_target target;

	if (p->opt.claims == NULL)
		return 0;
	if (claim_target_of(&target, p->parent, p->name, err) != 0 ||
	    claims_take(p->opt.claims, &p->claim, &target, err) != 0)
		return err_wrap(err, "%s", p->path);
	return 0;
}

/* Where a link leads to says no more than whether it is in the way: it is the link that is
 * replaced, which has an owner and no mode. */
static int look_at_link(struct place *p, const struct stat *link, struct stat *st)
{
	int r = fstatat(p->parent, p->name, st, 0);

	if (r != 0 && errno != ENOENT && errno != ELOOP && errno != EACCES && errno != ENOTDIR)
		return -1;
	if (r != 0 || !S_ISDIR(st->st_mode))
		*st = *link;
	return 0;
}

/* A directory under that name, or a link to one, is in the way; mode and owner of a
 * file that is there are kept. */
static int look_at_target(struct place *p, struct err *err)
{
	struct stat st, link;

	p->mode = (p->opt.mode != 0 ? p->opt.mode : 0644) & 0777;
	if (fstatat(p->parent, p->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? 0 : err_sys(err, errno, "%s", p->path);
	if (p->opt.exists == PLACE_EXISTS_FAIL)
		return err_set(err, GRPC_ALREADY_EXISTS,
		    "%s is there already, and must not be replaced", p->path);
	link = st;
	if (S_ISLNK(link.st_mode) && look_at_link(p, &link, &st) != 0)
		return err_sys(err, errno, "%s", p->path);
	if (S_ISDIR(st.st_mode))
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s is a directory; name a file, or send an archive", p->path);
	if (p->opt.mode == 0 && !S_ISLNK(st.st_mode))
		p->mode = st.st_mode & 0777;
	p->has_owner = true;
	p->uid = st.st_uid;
	p->gid = st.st_gid;
	return 0;
}

static int reserve(struct place *p, struct err *err)
{
	uint64_t from = p->piece.work != NULL ? 0 : p->opt.offset;

	if (!p->opt.size_known || p->opt.size <= from)
		return 0;
	if (reserve_room(p->fd, from, p->opt.size - from) != 0)
		return err_sys(err, errno, "%s: %" PRIu64 " bytes", p->path, p->opt.size);
	return 0;
}

static struct journal wanted_journal(const struct place *p)
{
	struct journal wanted = { .size_known = p->opt.size_known,
		.size = p->opt.size_known ? p->opt.size : 0,
		.promise = p->opt.digest,
		.adds_promise = p->opt.adds_digest,
		.boot = p->opt.boot,
		.writer = p->opt.piece_bytes > 0 ? p->opt.writer : 0 };

	memcpy(wanted.expected, p->opt.expected, sizeof(wanted.expected));
	snprintf(wanted.id, sizeof(wanted.id), "%s", p->id);
	return wanted;
}

/* What it says of the pieces holds only if it has sent all of them. */
static int trust_writer(struct place *p, struct err *err)
{
	if (p->part.state.writer != p->opt.writer)
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s: another writer has sent some of it; leave writer out, and it is read",
		    p->path);
	p->unread = true;
	p->stage = STAGE_WRITING;
	return 0;
}

static int open_part(struct place *p, struct err *err)
{
	int r;

	if (p->id == NULL) {
		r = part_make(&p->part, p->parent, p->name, err);
	} else {
		struct journal wanted = wanted_journal(p);

		sweep_directory(p->parent, p->opt.expiry_ms, p->opt.boot);
		r = part_resume(&p->part, p->parent, p->name, &wanted, p->opt.offset, err);
	}
	p->stage = p->opt.offset > 0 ? STAGE_CATCHING : STAGE_WRITING;
	p->fd = p->part.fd;
	if (r == 0 && p->opt.writer != 0)
		return trust_writer(p, err);
	return r == 0 ? reserve(p, err) : -1;
}

/* The first of the pieces sees that there is room for all. */
static int open_piece(struct place *p, struct err *err)
{
	struct pieces_wanted wanted = { .claims = p->opt.claims,
		.dir = p->parent,
		.target = p->name,
		.begun = wanted_journal(p),
		.range = { p->opt.offset, p->end } };
	bool first;

	sweep_directory(p->parent, p->opt.expiry_ms, p->opt.boot);
	if (pieces_join(p->opt.board, &p->piece, &wanted, &first, err) != 0)
		return err_wrap(err, "%s", p->path);
	p->fd = p->piece.fd;
	p->stage = STAGE_WRITING;
	return first ? reserve(p, err) : 0;
}

/* Whether ${record} still tells what is there: a target that changed was changed by
 * somebody who meant it. */
static bool is_still_there(int parent, const char *name, const struct claim_record *record)
{
	struct stat st;

	return fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == record->inode &&
	    (uint64_t)st.st_size == record->size && st.st_ctim.tv_sec == record->changed.tv_sec &&
	    st.st_ctim.tv_nsec == record->changed.tv_nsec;
}

/* An upload that goes on from its end may be one that was finished and whose answer was
 * lost; unless it has been begun anew since. */
static bool was_finished(struct place *p)
{
	struct claim_record record;
	struct journal j;

	if (p->id == NULL || p->opt.claims == NULL || !p->opt.size_known ||
	    p->opt.offset != p->opt.size || p->opt.size == 0 ||
	    !claims_find(p->opt.claims, &p->claim.target, p->id, &record) ||
	    record.size != p->opt.size || !is_still_there(p->parent, p->name, &record) ||
	    part_query(p->parent, p->name, p->id, &j, NULL) == 0)
		return false;
	p->unread = !record.has_digest;
	memcpy(p->kept, record.digest, sizeof(p->kept));
	p->stage = STAGE_DONE;
	return true;
}

/* Something that can be compared: a file of that size. */
static bool open_old(struct place *p)
{
	struct stat st;

	if (p->opt.exists != PLACE_EXISTS_SKIP_IF_SAME || p->opt.digest == PLACE_DIGEST_NONE)
		return false;
	p->old = openat(p->parent, p->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (p->old >= 0 && fstat(p->old, &st) == 0 && S_ISREG(st.st_mode) &&
	    (!p->opt.size_known || (uint64_t)st.st_size == p->opt.size)) {
		p->stage = STAGE_COMPARING;
		return true;
	}
	if (p->old >= 0)
		close(p->old);
	p->old = -1;
	return false;
}

static int begin(struct place *p, struct err *err)
{
	if (p->opt.size_known && p->opt.size > INT64_MAX)
		return err_set(err, GRPC_INVALID_ARGUMENT, "%s: a size of %" PRIu64 " bytes",
		    p->path, p->opt.size);
	if (open_parent(&p->opt, &p->parent, p->name, err) != 0)
		return -1;
	if (p->opt.piece_bytes > 0)
		return look_at_target(p, err) == 0 ? open_piece(p, err) : -1;
	if (claim(p, err) != 0)
		return -1;
	if (was_finished(p))
		return 0;
	if (look_at_target(p, err) != 0)
		return -1;
	return open_old(p) ? 0 : open_part(p, err);
}

struct place *place_open(const struct place_options *opt, struct err *err)
{
	struct place *p = calloc(1, sizeof(*p));

	if (p == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	p->opt = *opt;
	p->parent = p->old = p->fd = -1;
	p->end = opt->piece_bytes > 0 ? opt->offset + opt->piece_bytes
	    : opt->size_known         ? opt->size
				      : UINT64_MAX;
	p->part = (struct part)PART_NONE;
	p->written = p->noted = p->opt.offset;
	p->path = strdup(opt->path);
	p->id = opt->id != NULL ? strdup(opt->id) : NULL;
	p->digest = digest_create();
	if (opt->digest == PLACE_DIGEST_SHA256)
		p->sha256 = crypto_sha256_create();
	p->opt.path = p->path;
	if (p->path == NULL || p->digest == NULL || (opt->id != NULL && p->id == NULL) ||
	    (opt->digest == PLACE_DIGEST_SHA256 && p->sha256 == NULL)) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	} else if (begin(p, err) == 0) {
		return p;
	}
	part_leave(&p->part);
	place_free(p);
	return NULL;
}

/* Preparing. */

static void hash(struct place *p, const void *bytes, size_t len)
{
	digest_update(p->digest, bytes, len);
	if (p->sha256 != NULL)
		crypto_sha256_update(p->sha256, bytes, len);
	p->hashed += len;
}

/* Hashes ${fd} from where the digests are to ${end}, a share of it. -1: it ended before,
 * or could not be read. */
static int hash_file(struct place *p, int fd, uint64_t end, struct err *err)
{
	uint64_t stop = end - p->hashed > PREPARE_BYTES ? p->hashed + PREPARE_BYTES : end;
	uint8_t *buf = malloc(READ_BYTES);

	if (buf == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	while (p->hashed < stop) {
		size_t want =
		    stop - p->hashed < READ_BYTES ? (size_t)(stop - p->hashed) : READ_BYTES;
		ssize_t n = pread(fd, buf, want, (off_t)p->hashed);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			free(buf);
			return n < 0 ? err_sys(err, errno, "%s", p->path)
				     : err_set(err, GRPC_ABORTED, "%s: it shrank while it was read",
					   p->path);
		}
		hash(p, buf, (size_t)n);
	}
	free(buf);
	return 0;
}

static bool digests_agree(struct place *p, uint8_t digest[static DIGEST_SIZE])
{
	uint8_t sha256[CRYPTO_SHA256_SIZE];

	digest_value(p->digest, digest);
	if (p->sha256 != NULL)
		crypto_sha256_value(p->sha256, sha256);
	return !((p->opt.digest == PLACE_DIGEST_XXH3_128 &&
		     memcmp(digest, p->opt.expected, DIGEST_SIZE) != 0) ||
	    (p->sha256 != NULL && memcmp(sha256, p->opt.expected, sizeof(sha256)) != 0));
}

/* It is another: the digests begin anew. */
static int begin_other(struct place *p, struct err *err)
{
	close(p->old);
	p->old = -1;
	p->hashed = 0;
	digest_reset(p->digest);
	if (p->sha256 != NULL) {
		crypto_sha256_free(p->sha256);
		if ((p->sha256 = crypto_sha256_create()) == NULL)
			return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	}
	return open_part(p, err);
}

static int compare(struct place *p, struct err *err)
{
	struct stat st;

	if (fstat(p->old, &st) != 0)
		return err_sys(err, errno, "%s", p->path);
	/* What changes meanwhile is not the same, and no reason to fail. */
	if (p->hashed > (uint64_t)st.st_size ||
	    hash_file(p, p->old, (uint64_t)st.st_size, err) != 0) {
		err_clear(err);
		return begin_other(p, err);
	}
	if (p->hashed < (uint64_t)st.st_size)
		return 0;
	if (!digests_agree(p, p->kept))
		return begin_other(p, err);
	p->same = true;
	p->written = p->hashed;
	p->stage = STAGE_DONE;
	return 0;
}

static int catch_up(struct place *p, struct err *err)
{
	if (hash_file(p, p->fd, p->opt.offset, err) != 0)
		return -1;
	if (p->hashed < p->opt.offset)
		return 0;
	p->stage = STAGE_WRITING;
	return 0;
}

int place_prepare(struct place *p, struct err *err)
{
	switch (p->stage) {
	case STAGE_COMPARING:
		return compare(p, err);
	case STAGE_CATCHING:
		return catch_up(p, err);
	default:
		return 0;
	}
}

/* Writing. */

/* The disk begins with what is behind, so that a sync later on has little left to do. */
static void write_out(struct place *p, size_t len)
{
	if (p->id != NULL || p->written > WRITE_OUT)
		sync_file_range(p->fd, (off_t)p->written, (off_t)len, SYNC_FILE_RANGE_WRITE);
}

int place_write(struct place *p, const void *bytes, size_t len, struct err *err)
{
	const uint8_t *at = bytes;

	if (len > p->end - p->written || p->stage == STAGE_DONE)
		return err_set(err, GRPC_DATA_LOSS,
		    "%s: more than the %" PRIu64 " bytes that were promised", p->path,
		    p->end - (p->opt.piece_bytes > 0 ? p->opt.offset : 0));
	hash(p, bytes, len);
	for (size_t left = len; left > 0;) {
		ssize_t n = pwrite(p->fd, at, left, (off_t)(p->written + (len - left)));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, errno, "%s", p->path);
		at += n;
		left -= (size_t)n;
	}
	write_out(p, len);
	p->written += len;
	return 0;
}

int place_sync(struct place *p, uint64_t upto, struct err *err)
{
	if (p->piece.work != NULL) {
		p->noted = upto;
		return piece_sync(&p->piece, upto, err) == 0 ? 0 : err_wrap(err, "%s", p->path);
	}
	if (part_flush(&p->part, err) == 0 &&
	    part_note(&p->part, (struct range){ 0, upto }, err) == 0)
		return 0;
	p->broken = true;
	return err_wrap(err, "%s", p->path);
}

void place_expect(struct place *p, const uint8_t digest[static 16])
{
	p->opt.digest = PLACE_DIGEST_XXH3_128;
	memcpy(p->opt.expected, digest, 16);
}

/* The end. */

static int verify(struct place *p, uint8_t digest[static 16], struct err *err)
{
	if (!digests_agree(p, digest))
		return err_set(err, GRPC_DATA_LOSS,
		    "%s: the digest of what came is not the promised one", p->path);
	return 0;
}

/* Mode and times, then durable, then visible, then durably visible. */
static int publish(struct place *p, struct err *err)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, p->opt.mtime };

	/* Not everybody may give files away; then it is ours, as a new one would be. */
	if (p->has_owner && (p->uid != geteuid() || p->gid != getegid()) &&
	    fchown(p->part.fd, p->uid, p->gid) != 0 && errno != EPERM)
		return err_sys(err, errno, "%s: owner", p->path);
	if (fchmod(p->part.fd, p->mode) != 0)
		return err_sys(err, errno, "%s: mode", p->path);
	if (p->opt.has_mtime && futimens(p->part.fd, times) != 0)
		return err_sys(err, errno, "%s: modification time", p->path);
	if (fsync(p->part.fd) != 0) {
		p->broken = true;
		return err_sys(err, errno, "%s: sync", p->path);
	}
	if (part_publish(&p->part, p->name, p->opt.exists != PLACE_EXISTS_FAIL, err) != 0)
		return err_wrap(err, "%s", p->path);
	return 0;
}

static void remember(struct place *p, const uint8_t digest[static 16])
{
	struct stat st;

	if (p->id != NULL && p->opt.claims != NULL &&
	    fstatat(p->parent, p->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		claims_finished(
		    p->opt.claims, &p->claim.target, p->id, &st, p->unread ? NULL : digest);
}

/* It is durable, and its digest is told; the rest is for who puts all in place. */
static int commit_piece(
    struct place *p, uint64_t *bytes, uint8_t digest[static 16], struct err *err)
{
	int r = 0;

	*bytes = p->written - p->opt.offset;
	digest_value(p->digest, digest);
	if (p->written != p->end)
		r = err_set(err, GRPC_DATA_LOSS,
		    "%s: %" PRIu64 " of the %" PRIu64 " bytes of this piece came", p->path, *bytes,
		    p->opt.piece_bytes);
	if (r == 0)
		r = place_sync(p, p->written, err);
	place_suspend(p);
	return r;
}

/* What is verified and cannot be put in its place for want of something can be later. */
static void give_up(struct place *p, const struct err *why)
{
	if (why->code == GRPC_RESOURCE_EXHAUSTED && !p->broken)
		place_suspend(p);
	else
		place_abort(p);
}

int place_commit(struct place *p, uint64_t *bytes, uint8_t digest[static 16], struct err *err)
{
	if (p->piece.work != NULL)
		return commit_piece(p, bytes, digest, err);
	*bytes = p->written;
	if (p->stage == STAGE_DONE) {
		memcpy(digest, p->kept, DIGEST_SIZE);
		place_free(p);
		return 0;
	}
	if (p->opt.size_known && p->written != p->opt.size) {
		err_set(err, GRPC_DATA_LOSS,
		    "%s: %" PRIu64 " of the %" PRIu64 " promised bytes came", p->path, p->written,
		    p->opt.size);
		place_suspend(p);
		return -1;
	}
	if (verify(p, digest, err) != 0 || publish(p, err) != 0) {
		give_up(p, err);
		return -1;
	}
	remember(p, digest);
	place_free(p);
	return 0;
}

/* From outside. */

int place_query(const struct place_options *o, struct place_state *s, struct err *err)
{
	char name[BENEATH_NAME_MAX];
	struct claim_target target;
	struct claim_record record;
	struct journal j;
	int parent, r;

	*s = (struct place_state){ 0 };
	if (open_parent(o, &parent, name, err) != 0)
		return -1;
	r = part_query(parent, name, o->id, &j, err);
	if (r == 0) {
		s->durable = ranges_prefix(&j.durable);
		s->size = j.size;
		s->ranges = j.durable;
	} else if (claim_target_of(&target, parent, name, NULL) == 0 &&
	    claims_find(o->claims, &target, o->id, &record) &&
	    is_still_there(parent, name, &record)) {
		err_clear(err);
		*s = (struct place_state){
			.durable = record.size, .size = record.size, .complete = true
		};
		r = 0;
	}
	close(parent);
	return r;
}

int place_forget(const struct place_options *o, struct err *err)
{
	char name[BENEATH_NAME_MAX];
	int parent, r;

	if (open_parent(o, &parent, name, err) != 0)
		return -1;
	r = part_forget(parent, name, o->id, err);
	close(parent);
	return r;
}
