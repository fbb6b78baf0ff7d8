/*
 * Messages out of slices. The first two bytes choose the limit and how the rest, a body, is cut.
 * However it is cut, the same messages and the same end have to come out; what was not read out
 * has to be the body's tail.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	uint64_t digest;
	size_t messages, bytes; /* whole messages, and bytes of body they were */
	enum grpc_code code;
};

static void check(bool what)
{
	if (!what)
		abort();
}

static void note(struct seen *seen, const uint8_t *message, size_t len)
{
	for (size_t i = 0; i < len; i++)
		seen->digest = (seen->digest ^ message[i]) * 0x100000001b3;
	seen->digest = (seen->digest ^ len) * 0x100000001b3;
	seen->messages++;
	seen->bytes += RPC_PREFIX_SIZE + len;
}

/* Reads out what is whole; false at an error. */
static bool drain(struct rpc_reader *r, struct seen *seen)
{
	const uint8_t *message;
	struct err err = { 0 };
	size_t len;
	int result;

	while ((result = rpc_reader_next(r, &message, &len, &err)) == 1) {
		check(len <= r->max_message);
		note(seen, message, len);
	}
	check(result == 0 || err.code != GRPC_OK);
	seen->code = err.code;
	return result == 0;
}

static void check_rest(struct rpc_reader *r, const uint8_t *tail, size_t len)
{
	struct bufq to;

	bufq_init(&to, SIZE_MAX / sizeof(struct slice) / 2, SIZE_MAX / 2);
	check(rpc_reader_rest(r, &to) == 0);
	check(to.bytes == len);
	while (to.bytes > 0) {
		struct slice s = bufq_pop(&to, SIZE_MAX);

		check(memcmp(s.data, tail, s.len) == 0);
		tail += s.len;
		slice_release(&s);
	}
	bufq_free(&to);
}

/* ${cut} 0: all in one slice; ${lazy}: read out only at the end. */
static struct seen read_body(
    const uint8_t *body, size_t len, size_t max_message, unsigned cut, bool lazy)
{
	struct seen seen = { .digest = 14695981039346656037u };
	struct rpc_reader r;
	size_t at = 0;
	bool fine = true;

	rpc_reader_init(&r, max_message);
	while (fine && at < len) {
		size_t piece = cut == 0 ? len : 1 + (at * 7 + cut) % cut;
		struct err err = { 0 };

		if (piece > len - at)
			piece = len - at;
		check(rpc_reader_push(&r, slice_copy(body + at, piece), &err) == 0);
		at += piece;
		if (!lazy)
			fine = drain(&r, &seen);
	}
	if (fine)
		fine = drain(&r, &seen);
	check(rpc_reader_is_partial(&r) == (at > seen.bytes));
	check_rest(&r, body + seen.bytes, at - seen.bytes);
	rpc_reader_free(&r);
	return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct seen whole, cut;

	if (size < 2 || size > 65536)
		return 0;

	size_t max_message = (size_t)data[0] * 16;
	unsigned step = data[1] >> 1;

	whole = read_body(data + 2, size - 2, max_message, 0, false);
	cut = read_body(data + 2, size - 2, max_message, step, data[1] & 1);
	check(whole.digest == cut.digest && whole.messages == cut.messages);
	check(whole.bytes == cut.bytes && whole.code == cut.code);
	return 0;
}
