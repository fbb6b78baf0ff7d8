#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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

/* Copies ${from}, escaping control characters; too long a text is cut at the border
 * of a UTF-8 character and ends in "...". */
static void store(struct err *e, const char *from)
{
	static const char hex[] = "0123456789abcdef";
	size_t n = 0, whole = 0;

	for (; *from != '\0'; from++) {
		unsigned char c = (unsigned char)*from;
		size_t need = c < 0x20 || c == 0x7f ? 4 : 1;
		if (n + need >= ERR_TEXT_MAX) {
			memcpy(e->text + whole, "...", 4);
			return;
		}
		if ((c & 0xc0) != 0x80 && n + 4 < ERR_TEXT_MAX)
			whole = n;
		if (need == 1) {
			e->text[n++] = (char)c;
			continue;
		}
		e->text[n++] = '\\';
		e->text[n++] = 'x';
		e->text[n++] = hex[c >> 4];
		e->text[n++] = hex[c & 15];
	}
	e->text[n] = '\0';
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
	store(e, raw);
	return -1;
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
	/* The reason must survive a long path in front of it. */
	const char *why = strerror(sys);
	size_t max = ERR_TEXT_MAX - strlen(why) - sizeof(": ") - sizeof("...");
	if (strlen(raw) > max)
		memcpy(raw + max, "...", 4);
	char text[3 * ERR_TEXT_MAX];
	snprintf(text, sizeof(text), "%s: %s", raw, why);
	e->code = err_code_of(sys);
	e->sys = sys;
	store(e, text);
	return -1;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
	char raw[ERR_TEXT_MAX], text[3 * ERR_TEXT_MAX];
	va_list args;

	if (e == NULL)
		return -1;
	va_start(args, fmt);
	vsnprintf(raw, sizeof(raw), fmt, args);
	va_end(args);
	snprintf(text, sizeof(text), "%s: %s", raw, e->text);
	store(e, text);
	return -1;
}

void err_clear(struct err *e)
{
	e->code = GRPC_OK;
	e->sys = 0;
	e->text[0] = '\0';
}
