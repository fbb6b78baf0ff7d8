/*
 * A folder for tests of base/beneath.h. Relative to it:
 *
 *	in/			the root of all paths
 *	in/file, in/a/file	"inside"
 *	in/to_file		a link to a/file
 *	in/to_a			a link to a
 *	in/a/to_top		a link to ../file
 *	in/to_nothing		a link to nowhere
 *	in/self			a link to itself
 *	in/out, in/a/out	links to ../out, ../../out
 *	in/absolute		a link to the absolute path of out/secret
 *	in/hop			a link to a/out
 *	out/secret		"outside"; nothing may come or go here
 */
#ifndef BASE_TEST_GARDEN_H
#define BASE_TEST_GARDEN_H

#include <stdbool.h>

#include "support/leak.h"

struct garden {
	struct leak *leak;
	int root;   /* in */
	int folder; /* what in and out are in */
};

/* The state is a struct garden *. The teardown checks that out is as it was. */
int garden_setup(void **state);
int garden_teardown(void **state);

#define garden_test(function)                                            \
	{                                                                \
#function, function, garden_setup, garden_teardown, NULL \
	}

/* Whether ${fd}, which is closed, is a file that begins like the ones within. */
bool garden_is_inside(int fd);

/* Whether there is something at ${path}, a link itself, relative to in. */
bool garden_has(const struct garden *, const char *path);

#endif
