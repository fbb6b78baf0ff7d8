#include "transfer/ranges.h"

#include <string.h>

/* ${n} ranges from ${first} on are replaced by ${by}, ${count} of them. */
static bool replace(struct ranges *r, size_t first, size_t n, const struct range *by, size_t count)
{
	if (r->count - n + count > RANGES_MAX)
		return false;
	memmove(
	    r->at + first + count, r->at + first + n, (r->count - first - n) * sizeof(r->at[0]));
	if (count > 0)
		memcpy(r->at + first, by, count * sizeof(r->at[0]));
	r->count = r->count - n + count;
	return true;
}

bool ranges_add(struct ranges *r, struct range add)
{
	size_t first = 0, n = 0;

	if (add.begin >= add.end)
		return true;
	while (first < r->count && r->at[first].end < add.begin)
		first++;
	for (; first + n < r->count && r->at[first + n].begin <= add.end; n++) {
		const struct range *old = &r->at[first + n];

		add.begin = old->begin < add.begin ? old->begin : add.begin;
		add.end = old->end > add.end ? old->end : add.end;
	}
	return replace(r, first, n, &add, 1);
}

bool ranges_remove(struct ranges *r, struct range gone)
{
	struct range rest[2];
	size_t first = 0, n = 0, left = 0;

	if (gone.begin >= gone.end)
		return true;
	while (first < r->count && r->at[first].end <= gone.begin)
		first++;
	for (; first + n < r->count && r->at[first + n].begin < gone.end; n++) {
		const struct range *old = &r->at[first + n];

		if (old->begin < gone.begin)
			rest[left++] = (struct range){ old->begin, gone.begin };
		if (old->end > gone.end)
			rest[left++] = (struct range){ gone.end, old->end };
	}
	return replace(r, first, n, rest, left);
}

bool ranges_are_sound(const struct ranges *r)
{
	if (r->count > RANGES_MAX)
		return false;
	for (size_t i = 0; i < r->count; i++)
		if (r->at[i].begin >= r->at[i].end || (i > 0 && r->at[i - 1].end >= r->at[i].begin))
			return false;
	return true;
}

bool ranges_overlap(const struct ranges *r, struct range with)
{
	for (size_t i = 0; i < r->count; i++)
		if (r->at[i].begin < with.end && with.begin < r->at[i].end)
			return true;
	return false;
}

bool ranges_have(const struct ranges *r, struct range range)
{
	for (size_t i = 0; i < r->count; i++)
		if (r->at[i].begin <= range.begin && range.end <= r->at[i].end)
			return true;
	return range.begin >= range.end;
}

bool ranges_touch(const struct ranges *r, uint64_t offset)
{
	for (size_t i = 0; i < r->count; i++)
		if (r->at[i].begin <= offset && offset <= r->at[i].end)
			return true;
	return false;
}

uint64_t ranges_prefix(const struct ranges *r)
{
	return r->count > 0 && r->at[0].begin == 0 ? r->at[0].end : 0;
}

uint64_t ranges_bytes(const struct ranges *r)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < r->count; i++)
		sum += r->at[i].end - r->at[i].begin;
	return sum;
}

uint64_t ranges_end(const struct ranges *r)
{
	return r->count > 0 ? r->at[r->count - 1].end : 0;
}

bool ranges_gap(const struct ranges *r, uint64_t size, struct range *gap)
{
	uint64_t prefix = ranges_prefix(r);
	size_t next = prefix > 0 ? 1 : 0;

	if (prefix >= size)
		return false;
	gap->begin = prefix;
	gap->end = next < r->count && r->at[next].begin < size ? r->at[next].begin : size;
	return true;
}
