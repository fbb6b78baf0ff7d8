#include "transfer/part.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/random.h"
#include "base/text.h"

#define RANDOM_BYTES ((size_t)4)
#define KEY_BYTES    ((size_t)8)
#define TRIES_MAX    8     /* somebody removed the file between open and lock */
#define UNUSED_MS    60000 /* a file that is being made is not locked yet */

static const char infix[] = ".towline-";
static const char suffix[] = ".journal";

/* Names. */

/* ".NAME.towline-HEX", NAME shortened so that a directory entry holds it and ".journal". */
static void make_name(
    char out[static BENEATH_NAME_MAX], const char *target, const uint8_t *bytes, size_t n)
{
	char hex[2 * KEY_BYTES + 1];
	int room =
	    BENEATH_NAME_MAX - (int)(sizeof(".") + sizeof(infix) + sizeof(suffix)) - 2 * KEY_BYTES;

	text_hex(bytes, n, hex);
	snprintf(out, BENEATH_NAME_MAX, ".%.*s%s%s", room, target, infix, hex);
}

static void name_resumable(struct part *p, const char *target, const char *id)
{
	char key[JOURNAL_ID_MAX + 1 + BENEATH_NAME_MAX];
	uint8_t digest[DIGEST_SIZE];
	int len = snprintf(key, sizeof(key), "%s/%s", id, target);

	digest_of(key, (size_t)len, digest);
	make_name(p->name, target, digest, KEY_BYTES);
	snprintf(p->journal_name, sizeof(p->journal_name), "%.*s%s",
	    (int)(sizeof(p->journal_name) - sizeof(suffix)), p->name, suffix);
}

/* How many hex digits end a part file's name; 0: it is none. */
static size_t digits_of(const char *name, size_t len)
{
	for (size_t digits = 2 * RANDOM_BYTES; digits <= 2 * KEY_BYTES; digits += 2 * RANDOM_BYTES)
		if (len > digits + sizeof(infix) && name[0] == '.' &&
		    strspn(name + len - digits, "0123456789abcdef") >= digits &&
		    memcmp(name + len - digits - (sizeof(infix) - 1), infix, sizeof(infix) - 1) ==
			0)
			return digits;
	return 0;
}

static bool is_journal_name(const char *name)
{
	size_t len = strlen(name);

	return len > sizeof(suffix) && strcmp(name + len - (sizeof(suffix) - 1), suffix) == 0;
}

bool part_is_name(const char *name)
{
	size_t len = strlen(name);

	if (is_journal_name(name)) {
		char part[BENEATH_NAME_MAX];
		len -= sizeof(suffix) - 1;
		snprintf(part, sizeof(part), "%.*s", (int)len, name);
		return digits_of(part, len) == 2 * KEY_BYTES;
	}
	return digits_of(name, len) != 0;
}

/* Opening and locking. */

static void close_files(struct part *p)
{
	if (p->fd >= 0)
		close(p->fd);
	if (p->journal >= 0)
		close(p->journal);
	p->fd = p->journal = -1;
}

/* A file of our own that has no other name: nobody can have put it there for us to write. */
static bool is_ours(const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_nlink == 1 && st->st_uid == geteuid();
}

/* Whether ${fd} still is what ${name} names. */
static bool is_named(int dir, const char *name, const struct stat *st)
{
	struct stat now;

	return fstatat(dir, name, &now, AT_SYMLINK_NOFOLLOW) == 0 && now.st_ino == st->st_ino &&
	    now.st_dev == st->st_dev;
}

enum lock_result { LOCK_OK, LOCK_BUSY, LOCK_AGAIN, LOCK_FAILED };

/* Locks what was opened under ${name}; LOCK_AGAIN: it is not there any more, open anew. */
static enum lock_result lock(int fd, int dir, const char *name, struct stat *st)
{
	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
		return errno == EWOULDBLOCK ? LOCK_BUSY : LOCK_FAILED;
	if (fstat(fd, st) != 0)
		return LOCK_FAILED;
	return is_named(dir, name, st) ? LOCK_OK : LOCK_AGAIN;
}

static int busy(const char *target, struct err *err)
{
	return err_set(err, GRPC_ABORTED,
	    "%s: its upload_id is in use; try again when that has ended", target);
}

/* Opens or makes the file and locks it. */
static int open_locked(struct part *p, const char *target, struct stat *st, struct err *err)
{
	for (unsigned i = 0; i < TRIES_MAX; i++) {
		p->fd = openat(
		    p->dir, p->name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
		if (p->fd < 0 && errno != ELOOP && errno != EISDIR && errno != ENXIO)
			return err_sys(err, errno, "%s", target);
		enum lock_result r = p->fd >= 0 ? lock(p->fd, p->dir, p->name, st) : LOCK_AGAIN;
		if (r == LOCK_OK && is_ours(st))
			return 0;
		int saved = errno;
		/* What is none of ours but has the name goes. */
		if ((r == LOCK_OK || p->fd < 0) && unlinkat(p->dir, p->name, 0) != 0 &&
		    errno != ENOENT) {
			r = LOCK_FAILED;
			saved = errno;
		}
		if (p->fd >= 0)
			close(p->fd);
		p->fd = -1;
		if (r == LOCK_BUSY)
			return busy(target, err);
		if (r == LOCK_FAILED)
			return err_sys(err, saved, "%s", target);
	}
	return busy(target, err);
}

int part_make(struct part *p, int dir, const char *target, struct err *err)
{
	uint8_t random[RANDOM_BYTES];

	*p = (struct part)PART_NONE;
	p->dir = dir;
	random_bytes(random, sizeof(random));
	make_name(p->name, target, random, sizeof(random));
	p->fd = openat(dir, p->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (p->fd < 0)
		return err_sys(err, errno, "%s", target);
	flock(p->fd, LOCK_EX | LOCK_NB);
	return 0;
}

/* Journals. */

/* ${known} false: there is none, or it is not to be believed. -1: errno says why that cannot
 * be told; it may be there for a later one. */
static int read_journal(int fd, struct journal *j, bool *known)
{
	uint8_t bytes[JOURNAL_SIZE];
	ssize_t n;

	do
		n = pread(fd, bytes, sizeof(bytes), 0);
	while (n < 0 && errno == EINTR);
	*known = n > 0 && journal_decode(bytes, (size_t)n, j);
	return n < 0 ? -1 : 0;
}

static int read_journal_of(int fd, const char *id, struct journal *j, bool *known)
{
	int r = read_journal(fd, j, known);

	*known = *known && strcmp(j->id, id) == 0;
	return r;
}

static int write_journal(struct part *p, struct err *err)
{
	uint8_t slot[JOURNAL_SLOT];
	ssize_t n;

	p->state.sequence++;
	p->state.stored_s = clock_boot_s();
	journal_encode(&p->state, slot);
	do
		n = pwrite(p->journal, slot, sizeof(slot), journal_offset(&p->state));
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof(slot))
		return 0;
	return err_sys(err, n < 0 ? errno : ENOSPC, "the upload's journal");
}

static int open_journal(struct part *p, const char *target, struct err *err)
{
	struct stat st;

	for (unsigned i = 0; i < 2; i++) {
		p->journal = openat(p->dir, p->journal_name,
		    O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
		if (p->journal >= 0 && fstat(p->journal, &st) == 0 && is_ours(&st))
			return 0;
		int saved = errno;
		if (p->journal < 0 && saved != ELOOP && saved != EISDIR && saved != ENXIO)
			return err_sys(err, saved, "%s: its journal", target);
		if (p->journal >= 0)
			close(p->journal);
		p->journal = -1;
		unlinkat(p->dir, p->journal_name, 0);
	}
	return err_set(err, GRPC_ABORTED, "%s: its journal is being changed", target);
}

int part_check(struct part *p, const char *target, const struct journal *wanted, struct err *err)
{
	struct journal *had = &p->state;

	if (had->size_known != wanted->size_known || had->size != wanted->size)
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s: this upload_id was begun with a size of %" PRIu64 " bytes, not %" PRIu64
		    "; take another, or abort it",
		    target, had->size, wanted->size);
	if (wanted->adds_promise && had->promise == 0) {
		had->promise = wanted->promise;
		memcpy(had->expected, wanted->expected, sizeof(had->expected));
	}
	if (had->promise != wanted->promise ||
	    memcmp(had->expected, wanted->expected, sizeof(had->expected)) != 0)
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s: this upload_id was begun with another digest; take another, or abort it",
		    target);
	return 0;
}

/* Locks both files, and sees what there is; ${present} gets the bytes of the part file. */
static int take_up(struct part *p, int dir, const char *target, const struct journal *wanted,
    uint64_t *present, struct err *err)
{
	struct stat st = { 0 };
	struct journal j;
	bool known;

	*p = (struct part)PART_NONE;
	p->dir = dir;
	name_resumable(p, target, wanted->id);
	if (open_locked(p, target, &st, err) != 0 || open_journal(p, target, err) != 0)
		return -1;
	*present = (uint64_t)st.st_size;
	if (read_journal_of(p->journal, wanted->id, &j, &known) != 0)
		return err_sys(err, errno, "%s: its journal", target);
	known = known && ranges_end(&j.durable) <= *present;
	p->state = known ? j : *wanted;
	p->named = known && ranges_end(&j.durable) > 0;
	p->state.boot = wanted->boot;
	return part_check(p, target, wanted, err);
}

static int check_offset(struct part *p, const char *target, uint64_t offset, struct err *err)
{
	uint64_t durable = ranges_prefix(&p->state.durable);

	if (offset <= durable)
		return 0;
	err_set(err, GRPC_OUT_OF_RANGE,
	    "%s: offset %" PRIu64 ", but %" PRIu64 " bytes are durable; go on from there", target,
	    offset, durable);
	/* What has just been made is of no use. */
	if (p->state.sequence == 0)
		part_remove(p);
	return -1;
}

/* What will be written over is not durable from now on. */
static int cut(
    struct part *p, const char *target, uint64_t offset, uint64_t present, struct err *err)
{
	ranges_remove(&p->state.durable, (struct range){ offset, UINT64_MAX });
	if (!p->state.size_known || offset < p->state.size)
		p->state.writer = 0;
	if (write_journal(p, err) != 0)
		return -1;
	if (present > offset && ftruncate(p->fd, (off_t)offset) != 0)
		return err_sys(err, errno, "%s", target);
	return 0;
}

int part_resume(struct part *p, int dir, const char *target, const struct journal *wanted,
    uint64_t offset, struct err *err)
{
	uint64_t present;

	if (take_up(p, dir, target, wanted, &present, err) == 0 &&
	    check_offset(p, target, offset, err) == 0 && cut(p, target, offset, present, err) == 0)
		return 0;
	/* What an earlier one has left stays for a later one. */
	close_files(p);
	return -1;
}

int part_join(
    struct part *p, int dir, const char *target, const struct journal *wanted, struct err *err)
{
	uint64_t present;

	if (take_up(p, dir, target, wanted, &present, err) == 0) {
		if (p->state.writer != wanted->writer)
			p->state.writer = p->state.durable.count == 0 ? wanted->writer : 0;
		if (write_journal(p, err) == 0)
			return 0;
	}
	close_files(p);
	return -1;
}

/* A directory that was opened for its name alone cannot be synced. */
static int sync_directory(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = -1;

	if (fd >= 0) {
		r = fsync(fd);
		close(fd);
	}
	return r;
}

int part_flush(const struct part *p, struct err *err)
{
	return fdatasync(p->fd) == 0 ? 0 : err_sys(err, errno, "sync");
}

int part_note(struct part *p, struct range range, struct err *err)
{
	if (p->journal < 0)
		return 0;
	if (!p->named)
		sync_directory(p->dir);
	p->named = true;
	if (!ranges_add(&p->state.durable, range))
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "too many ranges of it are durable");
	return write_journal(p, err);
}

int part_unnote(struct part *p, struct range range, struct err *err)
{
	if (!ranges_overlap(&p->state.durable, range))
		return 0;
	if (!ranges_remove(&p->state.durable, range))
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "too many ranges of it are durable");
	return write_journal(p, err);
}

/* The end. */

int part_rename(int dir, const char *from, const char *to, bool replace)
{
	if (replace)
		return renameat(dir, from, dir, to);
	if (renameat2(dir, from, dir, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	/* A file system without it: a link does not replace either. */
	if (linkat(dir, from, dir, to, 0) != 0)
		return -1;
	return unlinkat(dir, from, 0);
}

int part_publish(struct part *p, const char *target, bool replace, struct err *err)
{
	if (part_rename(p->dir, p->name, target, replace) != 0)
		return err_sys(err, errno, "%s", target);
	if (p->journal >= 0)
		unlinkat(p->dir, p->journal_name, 0);
	close_files(p);
	sync_directory(p->dir);
	return 0;
}

void part_leave(struct part *p)
{
	if (p->fd >= 0 && (p->journal < 0 || p->state.durable.count == 0))
		part_remove(p);
	close_files(p);
}

void part_remove(struct part *p)
{
	/* The journal first: one without its part file is harmless, and so is the other way
	 * about, but this way nobody can go on with what is half removed. */
	if (p->journal >= 0)
		unlinkat(p->dir, p->journal_name, 0);
	if (p->fd >= 0)
		unlinkat(p->dir, p->name, 0);
	close_files(p);
}

/* Of others. */

static int unknown(const char *target, const char *id, struct err *err)
{
	return err_set(err, GRPC_NOT_FOUND, "%s: no upload \"%s\" is under way", target, id);
}

int part_query(int dir, const char *target, const char *id, struct journal *j, struct err *err)
{
	struct part p = PART_NONE;
	struct stat st;

	name_resumable(&p, target, id);
	int fd = openat(dir, p.journal_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && (errno == ENOENT || errno == ELOOP || errno == ENXIO))
		return unknown(target, id, err);
	if (fd < 0)
		return err_sys(err, errno, "%s", target);
	bool found = false;
	int r = fstat(fd, &st);
	if (r == 0 && is_ours(&st))
		r = read_journal_of(fd, id, j, &found);
	int saved = errno;
	close(fd);
	if (r != 0)
		return err_sys(err, saved, "%s: its journal", target);
	if (!found || fstatat(dir, p.name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !is_ours(&st) ||
	    (uint64_t)st.st_size < ranges_end(&j->durable))
		return unknown(target, id, err);
	return 0;
}

/* Removes both, unless somebody writes them. */
static enum lock_result remove_unused(int dir, const char *name, const char *journal)
{
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	enum lock_result r = LOCK_OK;

	if (fd >= 0)
		r = lock(fd, dir, name, &st);
	else if (errno != ENOENT)
		r = LOCK_FAILED;
	if (r == LOCK_OK && journal[0] != '\0')
		unlinkat(dir, journal, 0);
	if (r == LOCK_OK && fd >= 0 && unlinkat(dir, name, 0) != 0)
		r = LOCK_FAILED;
	if (fd >= 0)
		close(fd);
	return r;
}

int part_forget(int dir, const char *target, const char *id, struct err *err)
{
	struct part p = PART_NONE;
	struct journal j;

	if (part_query(dir, target, id, &j, err) != 0)
		return -1;
	name_resumable(&p, target, id);
	switch (remove_unused(dir, p.name, p.journal_name)) {
	case LOCK_OK:
		return 0;
	case LOCK_FAILED:
		return err_sys(err, errno, "%s: its part file", target);
	default:
		return busy(target, err);
	}
}

/* By the wall clock; a time to come is none that has passed. */
static bool is_older(const struct stat *st, uint64_t ms)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec - st->st_mtim.tv_sec > (time_t)(ms / 1000);
}

/* The time that counts is that of the last sync. The wall clock may have been set since, so
 * it is asked only when the clock of this boot cannot tell. */
static bool is_abandoned(
    int dir, const char *journal, const struct stat *st, uint64_t ms, uint64_t boot)
{
	int fd = openat(dir, journal, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	uint64_t now_s = clock_boot_s();
	struct journal j;
	bool known = false;
	bool tells = fd >= 0 && read_journal(fd, &j, &known) == 0 && known && boot != 0 &&
	    j.boot == boot && j.stored_s <= now_s;

	if (fd >= 0)
		close(fd);
	return tells ? now_s - j.stored_s > ms / 1000 : is_older(st, ms);
}

bool part_expire(int dir, const char *name, uint64_t expiry_ms, uint64_t boot)
{
	char part[BENEATH_NAME_MAX], journal[BENEATH_NAME_MAX] = "";
	struct stat st, other;
	size_t len = strlen(name);
	bool of_journal = is_journal_name(name);

	if (len >= sizeof(part) || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
	    !is_ours(&st))
		return false;
	snprintf(
	    part, sizeof(part), "%.*s", (int)(of_journal ? len - (sizeof(suffix) - 1) : len), name);
	/* What cannot be resumed is of no use as soon as nobody writes it. */
	if (digits_of(part, strlen(part)) != 2 * KEY_BYTES)
		return is_older(&st, UNUSED_MS) && remove_unused(dir, part, journal) == LOCK_OK;
	snprintf(journal, sizeof(journal), "%.*s%s", (int)(sizeof(journal) - sizeof(suffix)), part,
	    suffix);
	if (!of_journal && fstatat(dir, journal, &other, AT_SYMLINK_NOFOLLOW) == 0)
		return false;
	return is_abandoned(dir, journal, &st, expiry_ms, boot) &&
	    remove_unused(dir, part, journal) == LOCK_OK;
}
