#include "cli/ssh_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"

#define FOLDER      "ssh"
#define KNOWN_HOSTS "ssh/known_hosts"

int ssh_files_make(struct ssh_files *f, struct err *err)
{
	char base[PATHS_MAX];

	if (paths_state(base, FOLDER, err) != 0 || paths_make_folders(base, 0700, err) != 0 ||
	    paths_join(f->dir, base, "run-XXXXXX", err) != 0)
		return -1;
	if (mkdtemp(f->dir) == NULL) {
		err_sys(err, errno, "%s", f->dir);
		f->dir[0] = '\0';
		return -1;
	}
	return paths_join(f->config, f->dir, "config", err);
}

int ssh_files_write_key(const char *path, const char *private_key, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	size_t len = strlen(private_key);

	if (fd < 0)
		return err_sys(err, errno, "%s", path);
	ssize_t n = write(fd, private_key, len);
	int why = n < 0 ? errno : ENOSPC;
	if (close(fd) == 0 && n == (ssize_t)len)
		return 0;
	unlink(path);
	return err_sys(err, why, "%s", path);
}

static int append(const char *path, const struct text *t, struct err *err)
{
	int fd;

	if (t->failed)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	if ((fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) < 0)
		return err_sys(err, errno, "%s", path);
	ssize_t n = write(fd, t->data, t->len);
	int why = n < 0 ? errno : ENOSPC;
	close(fd);
	return n == (ssize_t)t->len ? 0 : err_sys(err, why, "%s", path);
}

static int add_host(struct ssh_files *f, const char *host,
    const Openshell__V1__CreateSshSessionResponse *r, const char *key, const char *known,
    struct err *err)
{
	struct text t;

	text_init(&t, (size_t)4 * PATHS_MAX);
	text_addf(&t, "Host %s\n\tHostName %s\n\tPort %u\n\tUser %s\n", host, r->host,
	    (unsigned)r->port, r->username);
	text_addf(&t, "\tIdentityFile \"%s\"\n\tIdentitiesOnly yes\n\tIdentityAgent none\n", key);
	text_addf(&t, "\tHostKeyAlias " SSH_FILES_ALIAS "\n\tUserKnownHostsFile \"%s\"\n", known);
	text_addf(&t, "\tGlobalKnownHostsFile /dev/null\n\tStrictHostKeyChecking yes\n");
	text_addf(&t, "\tPreferredAuthentications publickey\n\tUpdateHostKeys no\n");
	int result = append(f->config, &t, err);
	text_free(&t);
	return result;
}

/* What goes into a line of a configuration must not begin another. */
static bool is_plain(const char *text)
{
	return text[strcspn(text, "\r\n\"")] == '\0';
}

int ssh_files_add(struct ssh_files *f, const char *host,
    const Openshell__V1__CreateSshSessionResponse *r, struct err *err)
{
	char key[PATHS_MAX], known[PATHS_MAX], name[64];
	struct text t;

	if (!is_plain(r->host) || !is_plain(r->username) || !is_plain(r->host_key))
		return err_set(
		    err, GRPC_INTERNAL, "the gateway's answer has line breaks where none belong");
	snprintf(name, sizeof(name), "%.40s.key", host);
	if (paths_join(key, f->dir, name, err) != 0 ||
	    paths_join(known, f->dir, "known_hosts", err) != 0 ||
	    ssh_files_write_key(key, r->private_key, err) != 0)
		return -1;
	text_init(&t, PATHS_MAX);
	text_addf(&t, SSH_FILES_ALIAS " %s\n", r->host_key);
	int result = append(known, &t, err);
	text_free(&t);
	return result == 0 ? add_host(f, host, r, key, known, err) : -1;
}

void ssh_files_remove(struct ssh_files *f)
{
	DIR *dir;
	struct dirent *entry;

	if (f->dir[0] == '\0')
		return;
	if ((dir = opendir(f->dir)) != NULL) {
		while ((entry = readdir(dir)) != NULL)
			if (entry->d_name[0] != '.')
				unlinkat(dirfd(dir), entry->d_name, 0);
		closedir(dir);
	}
	rmdir(f->dir);
	f->dir[0] = '\0';
}

/* The lines of a known_hosts file but those of ${alias}. */
static void keep_others(struct text *t, const char *content, const char *alias)
{
	size_t len = strlen(alias);

	for (const char *at = content; *at != '\0';) {
		size_t line = strcspn(at, "\n");

		if (line > 0 && !(strncmp(at, alias, len) == 0 && at[len] == ' ')) {
			text_add(t, at, line);
			text_add(t, "\n", 1);
		}
		at += line + (at[line] == '\n');
	}
}

int ssh_files_pin(
    const char *alias, const char *host_key, char path[static PATHS_MAX], struct err *err)
{
	struct text t;
	char *old = NULL;
	int r = -1;

	if (paths_state(path, KNOWN_HOSTS, err) != 0)
		return -1;
	if (!is_plain(host_key))
		return err_set(err, GRPC_INTERNAL, "the gateway's host key has line breaks in it");
	if (paths_exists(path) && (old = paths_read(path, err)) == NULL)
		return -1;
	text_init(&t, PATHS_FILE_MAX);
	if (old != NULL)
		keep_others(&t, old, alias);
	text_addf(&t, "%s %s\n", alias, host_key);
	if (t.failed)
		err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "%s has grown past %zu KiB; remove lines that are not needed", path,
		    PATHS_FILE_MAX >> 10);
	else
		r = paths_write(path, t.data, err);
	text_free(&t);
	free(old);
	return r;
}
