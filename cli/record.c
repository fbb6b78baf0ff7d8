#include "cli/record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/output.h"
#include "cli/paths.h"

#define FOLDER "forwards"
#define TRIES  8    /* at a file that others keep removing */
#define END_MS 5000 /* from SIGTERM to SIGKILL */

struct record_file {
	int fd;
	char path[PATHS_MAX];
};

/* JSON. */

json_t *record_json(const struct record *r)
{
	json_t *json = json_object();
	char since[21];

	text_time(r->since, since);
	json_object_set_new(json, "bind", output_json_text(r->bind));
	json_object_set_new(json, "port", json_integer(r->port));
	json_object_set_new(json, "sandbox", output_json_text(r->sandbox));
	json_object_set_new(json, "workspace", output_json_text(r->workspace));
	json_object_set_new(json, "target_host", output_json_text(r->target_host));
	json_object_set_new(json, "target_port", json_integer(r->target_port));
	json_object_set_new(json, "gateway_endpoint", output_json_text(r->endpoint));
	json_object_set_new(json, "pid", json_integer(r->pid));
	json_object_set_new(json, "since", json_string(since));
	json_object_set_new(json, "since_unix", json_integer((json_int_t)r->since));
	json_object_set_new(json, "error", output_json_text(r->error));
	return json;
}

/* The texts are the JSON's, and lent with it. */
static struct record from_json(const json_t *json)
{
	static const char none[] = "";
	struct record r = { 0 };
	struct {
		const char *name;
		char **field;
	} texts[] = {
		{ "bind", &r.bind },
		{ "sandbox", &r.sandbox },
		{ "workspace", &r.workspace },
		{ "target_host", &r.target_host },
		{ "gateway_endpoint", &r.endpoint },
		{ "error", &r.error },
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		const char *text = json_string_value(json_object_get(json, texts[i].name));
		*texts[i].field = (char *)(text != NULL ? text : none);
	}
	r.port = (uint16_t)json_integer_value(json_object_get(json, "port"));
	r.target_port = (uint16_t)json_integer_value(json_object_get(json, "target_port"));
	r.pid = (pid_t)json_integer_value(json_object_get(json, "pid"));
	r.since = json_integer_value(json_object_get(json, "since_unix"));
	return r;
}

/* One of ours. */

static int path_of(const char *file, char out[static PATHS_MAX], struct err *err)
{
	char folder[PATHS_MAX];

	return paths_state(folder, FOLDER, err) == 0 ? paths_join(out, folder, file, err) : -1;
}

/* Whether the open file still is the one of that name. */
static bool is_in_place(int fd, const char *path)
{
	struct stat ours, there;

	return fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_ino == there.st_ino &&
	    ours.st_dev == there.st_dev;
}

/* Who finds a stale file removes it; then the one that we have locked is not there. */
static int open_locked(const char *path, struct err *err)
{
	for (int i = 0; i < TRIES; i++) {
		int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

		if (fd < 0)
			return err_sys(err, errno, "%s", path);
		if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
			int why = errno;

			close(fd);
			return why == EWOULDBLOCK ? err_set(err, GRPC_ALREADY_EXISTS,
							"another forward has this address; see "
							"'towline forward list'")
						  : err_sys(err, why, "lock %s", path);
		}
		if (is_in_place(fd, path))
			return fd;
		close(fd);
	}
	return err_set(err, GRPC_ABORTED, "%s keeps being removed", path);
}

struct record_file *record_create(const struct record *r, struct err *err)
{
	struct record_file *f = calloc(1, sizeof(*f));
	char folder[PATHS_MAX], name[128];

	if (f == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	snprintf(name, sizeof(name), "%s_%u.json", r->bind, (unsigned)r->port);
	if (paths_state(folder, FOLDER, err) == 0 && paths_make_folders(folder, 0700, err) == 0 &&
	    path_of(name, f->path, err) == 0 && (f->fd = open_locked(f->path, err)) >= 0) {
		record_update(f, r);
		return f;
	}
	free(f);
	return NULL;
}

/* In one write, so that a reader sees either. It is for people: if it cannot be written,
 * the forward still works. */
void record_update(struct record_file *f, const struct record *r)
{
	json_t *json = record_json(r);
	char *text = json_dumps(json, JSON_INDENT(2) | JSON_PRESERVE_ORDER);

	if (text != NULL) {
		size_t len = strlen(text);

		if (pwrite(f->fd, text, len, 0) == (ssize_t)len)
			(void)!ftruncate(f->fd, (off_t)len);
	}
	free(text);
	json_decref(json);
}

void record_remove(struct record_file *f)
{
	if (f == NULL)
		return;
	unlink(f->path);
	close(f->fd);
	free(f);
}

/* Those of others. */

/* Whether its process lives; if not, the file goes. */
static bool is_alive(const char *path)
{
	int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	bool alive;

	if (fd < 0)
		return false;
	alive = flock(fd, LOCK_EX | LOCK_NB) != 0;
	if (!alive && is_in_place(fd, path))
		unlink(path);
	close(fd);
	return alive;
}

static json_t *load(const char *path)
{
	struct err err;
	char *text = paths_read(path, &err);
	json_t *json = text != NULL ? json_loads(text, 0, NULL) : NULL;

	free(text);
	return json;
}

int record_list(void (*each)(void *cookie, const char *file, const struct record *), void *cookie,
    struct err *err)
{
	char folder[PATHS_MAX], path[PATHS_MAX];
	struct dirent **names;
	int n;

	if (paths_state(folder, FOLDER, err) != 0)
		return -1;
	if ((n = scandir(folder, &names, NULL, alphasort)) < 0)
		return errno == ENOENT ? 0 : err_sys(err, errno, "%s", folder);
	for (int i = 0; i < n; i++) {
		const char *file = names[i]->d_name;
		json_t *json = NULL;

		if (file[0] != '.' && path_of(file, path, err) == 0 && is_alive(path) &&
		    (json = load(path)) != NULL) {
			struct record r = from_json(json);
			each(cookie, file, &r);
		}
		json_decref(json);
		free(names[i]);
	}
	free(names);
	return 0;
}

static void end_process(int pidfd)
{
	struct pollfd gone = { .fd = pidfd, .events = POLLIN };

	pidfd_send_signal(pidfd, SIGTERM, NULL, 0);
	if (poll(&gone, 1, END_MS) == 0) {
		pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
		poll(&gone, 1, END_MS);
	}
}

int record_end(const char *file, struct err *err)
{
	char path[PATHS_MAX];
	json_t *json;
	int pidfd;

	if (path_of(file, path, err) != 0)
		return -1;
	json = load(path);
	pidfd = json != NULL ? pidfd_open(from_json(json).pid, 0) : -1;
	json_decref(json);
	/* Looked at once more with the process in hand: now the number cannot be another's. */
	if (pidfd < 0 || !is_alive(path)) {
		if (pidfd >= 0)
			close(pidfd);
		return err_set(err, GRPC_NOT_FOUND, "it has ended already");
	}
	end_process(pidfd);
	close(pidfd);
	if (is_alive(path))
		return err_set(err, GRPC_INTERNAL, "its process does not end");
	return 0;
}
