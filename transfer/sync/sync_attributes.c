#include "transfer/sync/sync_attributes.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PREFIX     "user."
#define PREFIX_LEN (sizeof(PREFIX) - 1)

/* Linux 6.13 has it; headers of today may not. */
#ifndef SYS_listxattrat
#define SYS_listxattrat 465
#endif

struct sync_attributes {
	char names[TREE_XATTRS_MAX];
	uint8_t value[TREE_XATTRS_MAX];
	uint8_t body[TREE_XATTRS_MAX]; /* as a record has them */
	size_t len;
};

struct sync_attributes *sync_attributes_create(struct err *err)
{
	struct sync_attributes *a = malloc(sizeof(*a));

	if (a == NULL)
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	else
		a->len = 0;
	return a;
}

void sync_attributes_free(struct sync_attributes *a)
{
	free(a);
}

static bool is_users(const char *name)
{
	return strncmp(name, PREFIX, PREFIX_LEN) == 0;
}

bool sync_attributes_may_be(struct sync_attributes *a, int dir, const char *name)
{
	long len =
	    syscall(SYS_listxattrat, dir, name, AT_SYMLINK_NOFOLLOW, a->names, sizeof(a->names));

	if (len < 0)
		return errno != EOPNOTSUPP;
	for (long at = 0; at < len; at += (long)strlen(a->names + at) + 1)
		if (is_users(a->names + at))
			return true;
	return false;
}

/* A number and so many bytes, behind what is there. */
static bool add(struct sync_attributes *a, const void *bytes, size_t len)
{
	uint8_t number[10];
	size_t n = 0;

	for (size_t left = len; n == 0 || left > 0; left >>= 7)
		number[n++] = (uint8_t)((left & 0x7f) | (left >> 7 > 0 ? 0x80 : 0));
	if (len > sizeof(a->body) - a->len || n > sizeof(a->body) - a->len - len)
		return false;
	memcpy(a->body + a->len, number, n);
	if (len > 0)
		memcpy(a->body + a->len + n, bytes, len);
	a->len += n + len;
	return true;
}

uint64_t sync_attributes_read(struct sync_attributes *a, int fd, bool *left_out)
{
	ssize_t names = flistxattr(fd, a->names, sizeof(a->names)), len;
	uint64_t sum = 0;

	a->len = 0;
	*left_out = names < 0 && (errno == ERANGE || errno == E2BIG);
	for (ssize_t at = 0; at < names && !*left_out; at += (ssize_t)strlen(a->names + at) + 1) {
		const char *name = a->names + at;
		size_t from = a->len;
		if (!is_users(name))
			continue;
		if ((len = fgetxattr(fd, name, a->value, sizeof(a->value))) < 0) {
			*left_out = errno == ERANGE || errno == E2BIG;
			continue; /* it has just gone */
		}
		if (add(a, name, strlen(name)) && add(a, a->value, (size_t)len))
			sum += digest_short(a->body + from, a->len - from, 0);
		else
			*left_out = true;
	}
	if (*left_out)
		a->len = 0;
	return a->len > 0 ? sum | (sum == 0) : 0;
}

int sync_attributes_put(const struct sync_attributes *a, struct sync_out *o, struct err *err)
{
	if (a->len == 0)
		return 0;
	sync_begin(o, SYNC_ATTRIBUTES);
	sync_put_raw(o, a->body, a->len);
	return sync_end(o, err);
}

/* The next pair; false: that was all, or it is bad. */
static bool next(
    struct sync_body *b, char name[static XATTR_NAME_MAX + 1], const uint8_t **value, size_t *len)
{
	size_t n;
	const uint8_t *text;

	if (b->bad || b->at == b->end)
		return false;
	text = sync_get_bytes(b, &n);
	*value = sync_get_bytes(b, len);
	if (b->bad || n > XATTR_NAME_MAX || memchr(text, '\0', n) != NULL) {
		b->bad = true;
		return false;
	}
	memcpy(name, text, n);
	name[n] = '\0';
	b->bad = !is_users(name) || n == PREFIX_LEN;
	return !b->bad;
}

static struct sync_body body_of(const uint8_t *body, size_t len)
{
	return (struct sync_body){ .type = SYNC_ATTRIBUTES, .at = body, .end = body + len };
}

int sync_attributes_check(const uint8_t *body, size_t len, struct err *err)
{
	struct sync_body b = body_of(body, len);
	char name[XATTR_NAME_MAX + 1];
	const uint8_t *value;
	size_t n;

	while (next(&b, name, &value, &n))
		;
	if (len > TREE_XATTRS_MAX)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "%zu bytes of extended attributes; %zu are the most", len, TREE_XATTRS_MAX);
	return sync_get_done(&b, err);
}

static bool is_among(const char *wanted, const uint8_t *body, size_t len)
{
	struct sync_body b = body_of(body, len);
	char name[XATTR_NAME_MAX + 1];
	const uint8_t *value;
	size_t n;

	while (next(&b, name, &value, &n))
		if (strcmp(name, wanted) == 0)
			return true;
	return false;
}

int sync_attributes_apply(struct sync_attributes *a, int fd, const uint8_t *body, size_t len,
    const char *path, struct err *err)
{
	ssize_t names = flistxattr(fd, a->names, sizeof(a->names));
	struct sync_body b = body_of(body, len);
	char name[XATTR_NAME_MAX + 1];
	const uint8_t *value;
	size_t n;

	for (ssize_t at = 0; at < names; at += (ssize_t)strlen(a->names + at) + 1)
		if (is_users(a->names + at) && !is_among(a->names + at, body, len))
			(void)fremovexattr(fd, a->names + at);
	while (next(&b, name, &value, &n)) {
		if (fsetxattr(fd, name, value, n, 0) == 0)
			continue;
		if (errno == EOPNOTSUPP)
			return 0;
		return err_sys(err, errno, "%s: extended attributes", path);
	}
	return 0;
}
