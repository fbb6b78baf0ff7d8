/*
 * Blocks of one file looked for in another. The input is the sums, true or forged, and the
 * file that is sent: what is copied lies within what was summed up, and with true sums the
 * result is the file.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "transfer/sync/sync_delta.h"

#define SEED 1

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct patch {
	const uint8_t *basis, *source;
	size_t basis_len, left;
	uint8_t *out;
	size_t len, cap;
};

static ssize_t on_read(void *cookie, uint8_t *out, size_t len, struct err *err)
{
	struct patch *p = cookie;
	size_t n = len < p->left ? len : p->left;

	(void)err;
	memcpy(out, p->source, n);
	p->source += n;
	p->left -= n;
	return (ssize_t)n;
}

static int append(struct patch *p, const uint8_t *bytes, size_t len)
{
	if (len > p->cap - p->len)
		abort();
	memcpy(p->out + p->len, bytes, len);
	p->len += len;
	return 0;
}

static int on_literal(void *cookie, const uint8_t *bytes, size_t len, struct err *err)
{
	(void)err;
	return append(cookie, bytes, len);
}

static int on_copy(void *cookie, uint64_t offset, uint64_t len, struct err *err)
{
	struct patch *p = cookie;

	(void)err;
	if (len > p->basis_len || offset > p->basis_len - len)
		abort();
	return append(p, p->basis + offset, (size_t)len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct sync_delta_ops ops = { on_read, on_literal, on_copy };
	size_t half = size / 2;
	struct patch p = {
		.basis = data, .basis_len = half, .source = data + half, .left = size - half
	};
	struct err err = { 0 };
	uint8_t sum[SYNC_SUM_SIZE];
	bool forged = size > 0 && data[size - 1] == 'f';

	if (half == 0)
		return 0;
	struct sync_sums *s = sync_sums_create(half, SYNC_BLOCK_MIN, SEED, &err);
	for (size_t at = 0; s != NULL && at < half; at += SYNC_BLOCK_MIN) {
		size_t len = half - at < SYNC_BLOCK_MIN ? half - at : SYNC_BLOCK_MIN;
		sync_sum(data + at, len, SEED, sum);
		if (forged)
			memcpy(sum, data, half < sizeof(sum) ? half : sizeof(sum));
		if (sync_sums_add(s, sum, sizeof(sum), &err) != 0)
			abort();
	}
	p.cap = size - half;
	p.out = malloc(p.cap + 1);
	if (s == NULL || p.out == NULL || sync_delta(s, 0, &ops, &p, &err) != 0)
		abort();
	if (!forged && (p.len != p.cap || memcmp(p.out, data + half, p.len) != 0))
		abort();
	free(p.out);
	sync_sums_free(s);
	return 0;
}
