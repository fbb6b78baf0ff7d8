#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

static const struct {
	int sys;
	enum grpc_code code;
} codes[] = {
	{ ENOENT, GRPC_NOT_FOUND },
	{ EACCES, GRPC_PERMISSION_DENIED },
	{ EPERM, GRPC_PERMISSION_DENIED },
	{ EROFS, GRPC_PERMISSION_DENIED },
	{ EXDEV, GRPC_PERMISSION_DENIED },
	{ EEXIST, GRPC_ALREADY_EXISTS },
	{ ENOSPC, GRPC_RESOURCE_EXHAUSTED },
	{ EDQUOT, GRPC_RESOURCE_EXHAUSTED },
	{ EFBIG, GRPC_RESOURCE_EXHAUSTED },
	{ EMFILE, GRPC_RESOURCE_EXHAUSTED },
	{ ENFILE, GRPC_RESOURCE_EXHAUSTED },
	{ ENOMEM, GRPC_RESOURCE_EXHAUSTED },
	{ ENOBUFS, GRPC_RESOURCE_EXHAUSTED },
	{ EAGAIN, GRPC_RESOURCE_EXHAUSTED },
	{ EISDIR, GRPC_FAILED_PRECONDITION },
	{ ENOTDIR, GRPC_FAILED_PRECONDITION },
	{ ENOTEMPTY, GRPC_FAILED_PRECONDITION },
	{ EBUSY, GRPC_FAILED_PRECONDITION },
	{ ETXTBSY, GRPC_FAILED_PRECONDITION },
	{ ELOOP, GRPC_FAILED_PRECONDITION },
	{ ENAMETOOLONG, GRPC_INVALID_ARGUMENT },
	{ EINVAL, GRPC_INVALID_ARGUMENT },
	{ E2BIG, GRPC_INVALID_ARGUMENT },
	{ ECONNREFUSED, GRPC_UNAVAILABLE },
	{ ECONNRESET, GRPC_UNAVAILABLE },
	{ ECONNABORTED, GRPC_UNAVAILABLE },
	{ EPIPE, GRPC_UNAVAILABLE },
	{ EHOSTUNREACH, GRPC_UNAVAILABLE },
	{ ENETUNREACH, GRPC_UNAVAILABLE },
	{ EADDRNOTAVAIL, GRPC_UNAVAILABLE },
	{ EADDRINUSE, GRPC_UNAVAILABLE },
	{ ETIMEDOUT, GRPC_DEADLINE_EXCEEDED },
	{ ECANCELED, GRPC_CANCELLED },
	{ ENOSYS, GRPC_UNIMPLEMENTED },
	{ EOPNOTSUPP, GRPC_UNIMPLEMENTED },
};

static const char *const names[] = {
	"OK",
	"CANCELLED",
	"UNKNOWN",
	"INVALID_ARGUMENT",
	"DEADLINE_EXCEEDED",
	"NOT_FOUND",
	"ALREADY_EXISTS",
	"PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED",
	"FAILED_PRECONDITION",
	"ABORTED",
	"OUT_OF_RANGE",
	"UNIMPLEMENTED",
	"INTERNAL",
	"UNAVAILABLE",
	"DATA_LOSS",
	"UNAUTHENTICATED",
};

enum grpc_code err_code_of(int sys)
{
	if (sys < 0)
		sys = -sys;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (codes[i].sys == sys)
			return codes[i].code;
	return GRPC_INTERNAL;
}

const char *err_code_name(enum grpc_code code)
{
	return (size_t)code < sizeof(names) / sizeof(names[0]) ? names[code] : "UNKNOWN";
}

/* The ends of a text that was cut, and of the context in front of a reason. */
static const char cut[] = "...", colon[] = ": ";

static void put_hex(char *to, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";

	to[0] = '\\';
	to[1] = 'x';
	to[2] = hex[c >> 4];
	to[3] = hex[c & 15];
}

/* Copies ${from} into ${size} bytes. What is not a printable character becomes \xNN; too
 * long a text is cut between two characters and ends in "...". */
static void store(char *to, size_t size, const char *from)
{
	size_t n = 0, whole = 0, left = strlen(from);

	while (left > 0) {
		size_t len = text_printable(from, left), need = len > 0 ? len : 4;
		if (n + need >= size) {
			memcpy(to + whole, cut, sizeof(cut));
			return;
		}
		if (len > 0)
			memcpy(to + n, from, len);
		else
			put_hex(to + n, (unsigned char)*from);
		n += need;
		if (n + sizeof(cut) <= size)
			whole = n;
		from += len > 0 ? len : 1;
		left -= len > 0 ? len : 1;
	}
	to[n] = '\0';
}

int err_set(struct err *e, enum grpc_code code, const char *fmt, ...)
{
	char raw[2 * ERR_TEXT_MAX];
	va_list args;

	if (e == NULL)
		return -1;
	va_start(args, fmt);
	vsnprintf(raw, sizeof(raw), fmt, args);
	va_end(args);
	e->code = code;
	e->sys = 0;
	store(e->text, sizeof(e->text), raw);
	return -1;
}

/* "what: why", of which ${what} is cut to leave ${why} room. */
static void put_in_front(struct err *e, const char *what, const char *why, size_t what_max)
{
	char front[ERR_TEXT_MAX], text[2 * ERR_TEXT_MAX];

	store(front, what_max, what);
	snprintf(text, sizeof(text), "%s%s%s", front, colon, why);
	store(e->text, sizeof(e->text), text);
}

int err_sys(struct err *e, int sys, const char *fmt, ...)
{
	char raw[2 * ERR_TEXT_MAX];
	va_list args;

	if (e == NULL)
		return -1;
	if (sys < 0)
		sys = -sys;
	va_start(args, fmt);
	vsnprintf(raw, sizeof(raw), fmt, args);
	va_end(args);
	const char *why = strerror(sys);
	e->code = err_code_of(sys);
	e->sys = sys;
	put_in_front(e, raw, why, ERR_TEXT_MAX - strlen(why) - strlen(colon));
	return -1;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
	char raw[2 * ERR_TEXT_MAX], why[ERR_TEXT_MAX];
	va_list args;

	if (e == NULL)
		return -1;
	va_start(args, fmt);
	vsnprintf(raw, sizeof(raw), fmt, args);
	va_end(args);
	memcpy(why, e->text, sizeof(why));
	/* Both are long: half for each. */
	size_t taken = strlen(why) + strlen(colon);
	put_in_front(
	    e, raw, why, ERR_TEXT_MAX - (taken < ERR_TEXT_MAX / 2 ? taken : ERR_TEXT_MAX / 2));
	return -1;
}

void err_clear(struct err *e)
{
	e->code = GRPC_OK;
	e->sys = 0;
	e->text[0] = '\0';
}

const struct err err_none = { .code = GRPC_OK };

static const struct err forgotten = {
	.code = GRPC_RESOURCE_EXHAUSTED,
	.text = "out of memory, also for the reason",
};

const struct err *err_keep(const struct err *e)
{
	struct err *copy;

	if (e == NULL || e->code == GRPC_OK)
		return NULL;
	if ((copy = malloc(sizeof(*copy))) == NULL)
		return &forgotten;
	*copy = *e;
	return copy;
}

void err_drop(const struct err *e)
{
	if (e != &forgotten)
		free((void *)(uintptr_t)e);
}
