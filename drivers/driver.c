#include "drivers/driver.h"

#include <string.h>

#include "drivers/local/local.h"

static const struct driver_ops *const drivers[] = { &driver_local };

const struct driver_ops *driver_find(const char *name)
{
	for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++)
		if (strcmp(drivers[i]->name, name) == 0)
			return drivers[i];
	return NULL;
}

const char *driver_names(void)
{
	return "local";
}
