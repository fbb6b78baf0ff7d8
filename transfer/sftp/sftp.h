/*
 * transfer/sftp/sftp.h: an SFTP server on a thread. Private to the room.
 *
 * Requests are answered one after the other, in the order in which they came: so a read
 * behind a write sees it, and what is behind a close fails. They may be pipelined as deep as
 * the call's window lets them: they wait as bytes, not as objects.
 *
 *	sftp.c           packets in, answers out, the table of requests
 *	sftp_handles.c   open files and directories
 *	sftp_file.c      what is done to an open file
 *	sftp_path.c      what is done to a name
 *	sftp_attrs.c     setting of attributes, of either
 *	sftp_list.c      directories, and lines as of `ls -l`
 *	sftp_extended.c  the extensions of OpenSSH
 *	sftp_wire.c      the fields of packets
 *	sftp_serve.c     the call
 */
#ifndef TRANSFER_SFTP_SFTP_H
#define TRANSFER_SFTP_SFTP_H

#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "transfer/owners.h"
#include "transfer/sftp/sftp_wire.h"
#include "transfer/sftp/talk.h"

#define SFTP_IO_MAX      ((size_t)256 << 10)               /* bytes of one read or write */
#define SFTP_PACKET_MAX  (SFTP_IO_MAX + ((size_t)1 << 10)) /* bytes of one packet */
#define SFTP_REQUEST_MAX ((size_t)64 << 10)                /* bytes of one that is no write */
#define SFTP_HANDLES_MAX 128                               /* open at once */
#define SFTP_LIST_BYTES  ((size_t)64 << 10) /* of one answer to READDIR, and one entry */
#define SFTP_IDS_MAX     ((size_t)1024)     /* users and groups asked for at once, each */
#define SFTP_COPY_CHUNK  ((size_t)8 << 20)  /* bytes copied before a look at the client */

/* Where paths start. */
struct sftp_env {
	int workdir, slash; /* borrowed */
	const char *workdir_path;
};

/* Speaks until the client ends: 0. -1: what came is no SFTP; INVALID_ARGUMENT. Blocks. */
int sftp_run(const struct sftp_env *, struct talk *, struct err *);

/* Private to the sftp_*.c. */

struct sftp_handle {
	bool open;
	uint32_t generation; /* so that a handle is good for one file only */
	int fd;
	bool readable, writable;
	DIR *dir; /* NULL: a file */
};

struct sftp_handles {
	struct sftp_handle slots[SFTP_HANDLES_MAX];
	size_t count;
};

#define SFTP_HANDLE_SIZE 8 /* bytes: the slot and its generation */

void sftp_handles_free(struct sftp_handles *);

/* Takes ${fd} or ${dir} on success. NULL: SFTP_HANDLES_MAX are open. */
struct sftp_handle *sftp_handles_add(struct sftp_handles *, int fd, DIR *);
void sftp_handles_name(
    const struct sftp_handles *, const struct sftp_handle *, uint8_t name[static SFTP_HANDLE_SIZE]);

/* NULL: there is none, or not any more. */
struct sftp_handle *sftp_handles_find(struct sftp_handles *, struct sftp_bytes name);
int sftp_handles_close(struct sftp_handles *, struct sftp_handle *); /* 0, or an errno */

struct sftp {
	const struct sftp_env *env;
	struct talk *talk;
	struct sftp_handles handles;
	struct owners owners;
	bool begun; /* INIT has come */

	/* The request at hand. */
	uint8_t *packet; /* SFTP_REQUEST_MAX bytes */
	struct sftp_in in;
	uint32_t id;
	struct text *out; /* answers are added here, each between sftp_begin() and sftp_end() */
	size_t begin;
	bool answered;
	int sys; /* the errno behind a status, for its text */
	const char *why;
	char path[2][PATH_MAX];
};

/* What a request does. It answers by itself, or leaves that to a status: the one returned. */
typedef enum sftp_status sftp_request(struct sftp *);

/* An answer of that type, with the request's id. */
void sftp_begin(struct sftp *, enum sftp_type);
void sftp_end(struct sftp *);

/* A status for an errno, for what a system call has returned, or with a reason (a constant). */
enum sftp_status sftp_fail(struct sftp *, int sys);
enum sftp_status sftp_result(struct sftp *, int returned);
enum sftp_status sftp_refuse(struct sftp *, const char *why);

/* The next field, a handle. NULL: sftp_no_handle() says why. */
struct sftp_handle *sftp_get_handle(struct sftp *);
enum sftp_status sftp_no_handle(struct sftp *);

/* The next two; false: the packet is bad. */
bool sftp_get_two_paths(struct sftp *);

sftp_request sftp_open, sftp_close, sftp_read, sftp_fstat, sftp_fsetstat;
sftp_request sftp_lstat, sftp_stat, sftp_setstat, sftp_remove, sftp_mkdir, sftp_rmdir;
sftp_request sftp_realpath, sftp_rename, sftp_readlink, sftp_symlink;
sftp_request sftp_opendir, sftp_readdir, sftp_extended;

/* The data is not in the packet but next in the talk: ${len} bytes of it. */
enum sftp_status sftp_write(struct sftp *, size_t len);

/* The pairs that VERSION tells. */
void sftp_put_extensions(struct text *);

enum sftp_status sftp_answer_name(struct sftp *, const char *path);

/* Sets what ${a} has, on a file that is open, or on a name. Fills ${sys} on failure. */
enum sftp_status sftp_apply_fd(struct sftp *, int fd, const struct sftp_attrs *);
enum sftp_status sftp_apply_path(struct sftp *, const char *, const struct sftp_attrs *);
enum sftp_status sftp_apply_link(struct sftp *, const char *, const struct sftp_attrs *);

/* Absolute, without links and dots as far as it exists. 0 or an errno. */
int sftp_resolve(const struct sftp_env *, const char *path, char out[static PATH_MAX]);

/* "-rw-r--r--    1 user     group        1234 Nov 21 16:00 name" */
void sftp_put_long_name(struct sftp *, struct text *, const struct stat *, const char *name);

#endif
