#include "cli/local.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#define FOLDER "gateways"

int local_paths(const char *name, struct local_paths *p, struct err *err)
{
	char gateways[PATHS_MAX];

	if (!paths_is_name(name))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "\"%s\" cannot be a gateway's name: it has 1 to 64 letters, digits, '.', '_' "
		    "and '-'",
		    name);
	if (paths_state(gateways, FOLDER, err) != 0 ||
	    paths_join(p->folder, gateways, name, err) != 0 ||
	    paths_join(p->data, p->folder, "data", err) != 0 ||
	    paths_join(p->ready, p->folder, "ready.json", err) != 0)
		return -1;
	return paths_join(p->log, p->folder, "gateway.log", err);
}

/* The kernel knows who holds the lock. */
pid_t local_pid(const struct local_paths *p)
{
	struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
	char path[PATHS_MAX];
	struct err err;
	int fd;

	if (paths_join(path, p->data, "lock", &err) != 0 ||
	    (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return 0;
	if (fcntl(fd, F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK)
		lock.l_pid = 0;
	close(fd);
	return lock.l_pid;
}

char *local_endpoint(const struct local_paths *p, struct err *err)
{
	char *text = paths_read(p->ready, err), *endpoint = NULL;
	json_t *json;
	const char *value;

	if (text == NULL)
		return NULL;
	json = json_loads(text, 0, NULL);
	free(text);
	value = json_string_value(json_object_get(json, "endpoint"));
	if (value != NULL)
		endpoint = strdup(value);
	json_decref(json);
	if (endpoint == NULL)
		err_set(err, GRPC_INTERNAL, "%s names no endpoint", p->ready);
	return endpoint;
}

int local_stop(const struct local_paths *p, int ms, struct err *err)
{
	pid_t pid = local_pid(p);
	int pidfd = pid > 0 ? pidfd_open(pid, 0) : -1;
	struct pollfd gone = { .fd = pidfd, .events = POLLIN };
	int r = 0;

	/* Looked at once more with the process in hand: now the number cannot be another's. */
	if (pidfd < 0 || local_pid(p) != pid) {
		if (pidfd >= 0)
			close(pidfd);
		return err_set(err, GRPC_NOT_FOUND, "it does not run");
	}
	if (pidfd_send_signal(pidfd, SIGTERM, NULL, 0) != 0)
		r = err_sys(err, errno, "process %ld", (long)pid);
	else if (poll(&gone, 1, ms) != 1)
		r = err_set(err, GRPC_DEADLINE_EXCEEDED, "process %ld does not end; its log is %s",
		    (long)pid, p->log);
	close(pidfd);
	return r;
}
