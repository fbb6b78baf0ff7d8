/*
 * support/alloc.h: an allocator that fails on demand.
 *
 * In a unit test every malloc, calloc, realloc, strdup and strndup of ours and of the
 * test comes by here. Those inside shared libraries do not.
 */
#ifndef SUPPORT_ALLOC_H
#define SUPPORT_ALLOC_H

#include <stdbool.h>

/* Makes the ${n}-th allocation from now on fail (1 is the next), and with ${for_good} all
 * those after it. 0: none. Of the whole program: other threads count too. */
void alloc_fail_at(unsigned long n, bool for_good);

/* Between the two, allocations neither fail nor count: they are the test's own. Nested
 * pairs are one. Of the whole program, too. */
void alloc_hold(void);
void alloc_release(void);

/* Memory is back: none fails from now on. */
void alloc_relent(void);

/* Whether the allocation that alloc_fail_at() named has come and failed. */
bool alloc_has_failed(void);

/*
 * Runs ${body} with its first allocation failing, then its second, and so on until it
 * needs no more; each once alone and once with all after it failing too. ${body} has to
 * take a failure like any other error: free what it made, and return. What it asserts
 * has to hold either way; alloc_has_failed() tells the ways apart.
 */
void alloc_torture(void (*body)(void *cookie), void *cookie);

#endif
