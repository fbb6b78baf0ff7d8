#include "gateway/names.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/random.h"

/* At most six letters each, so that with three hex digits and two hyphens it fits. */
static const char *const qualities[] = { "able", "amber", "brave", "brisk", "calm", "clear",
	"crisp", "deft", "eager", "early", "fair", "fleet", "fond", "fresh", "gentle", "glad",
	"keen", "kind", "light", "lucid", "merry", "neat", "noble", "proud", "quick", "quiet",
	"rapid", "ready", "solid", "steady", "sunny", "vivid" };
static const char *const things[] = { "badger", "barge", "beaver", "bison", "buoy", "crane",
	"cutter", "dinghy", "dory", "egret", "falcon", "ferry", "finch", "harbor", "hawser",
	"heron", "ibis", "jetty", "kayak", "ketch", "marten", "osprey", "otter", "pilot", "plover",
	"raft", "robin", "sampan", "skiff", "sloop", "tern", "yawl" };

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static bool is_letter(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_allowed(char c)
{
	return is_letter(c) || (c >= '0' && c <= '9') || c == '-';
}

static int check(const char *what, const char *name, size_t max, struct err *err)
{
	size_t len = strlen(name);

	if (len == 0)
		return err_set(err, GRPC_INVALID_ARGUMENT, "the name of a %s is empty", what);
	if (len > max)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "%s name \"%.64s\" has %zu characters; at most %zu are allowed", what, name,
		    len, max);
	if (!is_letter(name[0]))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "%s name \"%s\" must start with a letter from a to z", what, name);
	for (size_t i = 0; i < len; i++)
		if (!is_allowed(name[i]))
			return err_set(err, GRPC_INVALID_ARGUMENT,
			    "%s name \"%s\" may hold only a to z, 0 to 9 and '-'", what, name);
	return 0;
}

int names_check_sandbox(const char *name, struct err *err)
{
	return check("sandbox", name, NAMES_SANDBOX_MAX, err);
}

int names_check_workspace(const char *name, struct err *err)
{
	return check("workspace", name, NAMES_WORKSPACE_MAX, err);
}

void names_generate(char out[static NAMES_SANDBOX_MAX + 1])
{
	snprintf(out, NAMES_SANDBOX_MAX + 1, "%s-%s-%03x",
	    qualities[random_below(COUNT(qualities))], things[random_below(COUNT(things))],
	    (unsigned)random_below(0x1000));
}
