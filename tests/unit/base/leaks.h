/* The setup and teardown of a test whose state is its leak check (support/leak.h). */
#ifndef BASE_TEST_LEAKS_H
#define BASE_TEST_LEAKS_H

#include "support/leak.h"

/* Puts a struct leak * into the state. */
int leaks_setup(void **state);
int leaks_teardown(void **state);

#define leaks_test(function)                                           \
	{                                                              \
#function, function, leaks_setup, leaks_teardown, NULL \
	}

#endif
