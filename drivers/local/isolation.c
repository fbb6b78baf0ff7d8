#include "drivers/local/isolation.h"

#include <stdio.h>
#include <string.h>

static const struct {
	unsigned flag;
	const char *type;
	const char *without;
} kinds[] = {
	{ ISOLATION_USER, "UserNamespace", "processes keep the gateway's user and its rights" },
	{ ISOLATION_MOUNT, "MountNamespace", "processes see and change the machine's mounts" },
	{ ISOLATION_PID, "PidNamespace", "processes see others; the supervisor ends them itself" },
	{ ISOLATION_HIDDEN, "GatewayStateHidden",
	    "the gateway's directory is visible to processes" },
};

void isolation_conditions(unsigned isolation, int refused, struct driver_status *status)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (status->condition_count == DRIVER_CONDITIONS_MAX)
			return;
		struct driver_condition *c = &status->conditions[status->condition_count++];
		bool has = (isolation & kinds[i].flag) != 0;

		memset(c, 0, sizeof(*c));
		snprintf(c->type, sizeof(c->type), "%s", kinds[i].type);
		snprintf(c->status, sizeof(c->status), "%s", has ? "True" : "False");
		snprintf(c->reason, sizeof(c->reason), "%s", has ? "Isolated" : "NotIsolated");
		if (!has && refused != 0)
			snprintf(c->message, sizeof(c->message), "%s (the kernel refused: %s)",
			    kinds[i].without, strerror(refused));
		else if (!has)
			snprintf(c->message, sizeof(c->message), "%s", kinds[i].without);
	}
}
