/* base/err.h: why something failed, in a form that can go on the wire. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

/* The gRPC status codes (grpc.io/docs/guides/status-codes). */
enum grpc_code {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_UNKNOWN = 2,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_NOT_FOUND = 5,
	GRPC_ALREADY_EXISTS = 6,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_FAILED_PRECONDITION = 9,
	GRPC_ABORTED = 10,
	GRPC_OUT_OF_RANGE = 11,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
	GRPC_DATA_LOSS = 15,
	GRPC_UNAUTHENTICATED = 16
};

#define ERR_TEXT_MAX 256

/*
 * Lives on the caller's stack or inside the object that failed; filling it
 * never allocates. A zeroed struct err means success. ${text} is safe to show
 * to the peer: no key, no token, and valid UTF-8, with what is not printable
 * as \xNN; a text too long is cut at a character's border and ends in "...".
 */
struct err {
	enum grpc_code code;
	int sys; /* the errno behind it, 0 if none */
	char text[ERR_TEXT_MAX];
};

/*
 * Fill ${e} (which may be NULL) and return -1, so that a caller can
 * `return err_set(e, ...)`. err_sys() takes an errno (or libuv's negative one)
 * and chooses the code from the one table of this project; its text becomes
 * "what: No such file or directory".
 */
int err_set(struct err *e, enum grpc_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int err_sys(struct err *e, int sys, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Put "what I was doing: " in front of the text; keep the code. Returns -1. When
 * both are long, half of the room is for either. */
int err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void err_clear(struct err *e);

/* A copy on the heap, for an object that seldom fails; NULL for success. Without memory a
 * constant RESOURCE_EXHAUSTED, so that a failure stays one. */
const struct err *err_keep(const struct err *);
void err_drop(const struct err *); /* what err_keep() gave; NULL is legal */

extern const struct err err_none; /* success */

/* The code an errno stands for, as err_sys() chooses it. */
enum grpc_code err_code_of(int sys);

/* "NOT_FOUND"; never NULL, "CODE(99)"-like codes give "UNKNOWN". */
const char *err_code_name(enum grpc_code code);

#endif
