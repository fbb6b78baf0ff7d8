#include "support/alloc.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Where alloc_torture() gives up: a body that still fails here does not end. */
#define TORTURE_MAX 100000

/* The linker's --wrap: a call of malloc() becomes one of __wrap_malloc(). */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t max);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t max);

static atomic_ulong seen;    /* allocations since alloc_fail_at() */
static atomic_ulong fail_at; /* 0: never */
static atomic_bool fail_for_good;
static atomic_uint holds; /* alloc_hold() less alloc_release() */

static bool fails(void)
{
	unsigned long at = atomic_load(&fail_at), n;

	if (atomic_load(&holds) > 0)
		return false;
	n = atomic_fetch_add(&seen, 1) + 1;
	if (at == 0 || n < at || (n > at && !atomic_load(&fail_for_good)))
		return false;
	errno = ENOMEM;
	return true;
}

void alloc_fail_at(unsigned long n, bool for_good)
{
	atomic_store(&fail_for_good, for_good);
	atomic_store(&seen, 0);
	atomic_store(&fail_at, n);
}

void alloc_relent(void)
{
	atomic_store(&fail_for_good, false);
	if (!alloc_has_failed())
		atomic_store(&fail_at, 0);
}

void alloc_hold(void)
{
	atomic_fetch_add(&holds, 1);
}

void alloc_release(void)
{
	atomic_fetch_sub(&holds, 1);
}

bool alloc_has_failed(void)
{
	unsigned long at = atomic_load(&fail_at);

	return at != 0 && atomic_load(&seen) >= at;
}

void alloc_torture(void (*body)(void *cookie), void *cookie)
{
	bool failed = true;

	for (unsigned long n = 1; failed; n++) {
		if (n == TORTURE_MAX)
			abort();
		alloc_fail_at(n, true);
		body(cookie);
		alloc_fail_at(n, false);
		body(cookie);
		failed = alloc_has_failed();
		alloc_fail_at(0, false);
	}
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return fails() ? NULL : __real_realloc(p, size);
}

char *__wrap_strdup(const char *text)
{
	return fails() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t max)
{
	return fails() ? NULL : __real_strndup(text, max);
}
