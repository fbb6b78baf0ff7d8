#include "sshd/user.h"

#include <string.h>

int user_parse(const char *name, struct err *err)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
	size_t sandbox = name != NULL ? strspn(name, letters) : 0;

	if (sandbox == 0 || sandbox > USER_SANDBOX_MAX || name[sandbox] != '.' ||
	    strspn(name + sandbox + 1, "0123456789abcdef") != USER_SESSION_LEN ||
	    name[sandbox + 1 + USER_SESSION_LEN] != '\0')
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "the user name is none of a session; CreateSshSession gives one");
	return 0;
}
