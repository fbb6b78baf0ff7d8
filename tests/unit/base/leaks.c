#include "leaks.h"

int leaks_setup(void **state)
{
	*state = leak_begin();
	return 0;
}

int leaks_teardown(void **state)
{
	return leak_end(*state);
}
