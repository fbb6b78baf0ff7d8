/*
 * transfer/sftp/sftp_wire.h: what SFTP version 3 (draft-ietf-secsh-filexfer-02) puts into packets.
 * Private to the room.
 */
#ifndef TRANSFER_SFTP_SFTP_WIRE_H
#define TRANSFER_SFTP_SFTP_WIRE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/text.h"

#define SFTP_VERSION_SPOKEN 3

enum sftp_type {
	SFTP_INIT = 1,
	SFTP_VERSION = 2,
	SFTP_OPEN = 3,
	SFTP_CLOSE = 4,
	SFTP_READ = 5,
	SFTP_WRITE = 6,
	SFTP_LSTAT = 7,
	SFTP_FSTAT = 8,
	SFTP_SETSTAT = 9,
	SFTP_FSETSTAT = 10,
	SFTP_OPENDIR = 11,
	SFTP_READDIR = 12,
	SFTP_REMOVE = 13,
	SFTP_MKDIR = 14,
	SFTP_RMDIR = 15,
	SFTP_REALPATH = 16,
	SFTP_STAT = 17,
	SFTP_RENAME = 18,
	SFTP_READLINK = 19,
	SFTP_SYMLINK = 20,
	SFTP_STATUS = 101,
	SFTP_HANDLE = 102,
	SFTP_DATA = 103,
	SFTP_NAME = 104,
	SFTP_ATTRS = 105,
	SFTP_EXTENDED = 200,
	SFTP_EXTENDED_REPLY = 201
};

enum sftp_status {
	SFTP_OK = 0,
	SFTP_EOF = 1,
	SFTP_NO_SUCH_FILE = 2,
	SFTP_PERMISSION_DENIED = 3,
	SFTP_FAILURE = 4,
	SFTP_BAD_MESSAGE = 5,
	SFTP_OP_UNSUPPORTED = 8
};

/* Of OPEN. */
enum sftp_open {
	SFTP_OPEN_READ = 0x01,
	SFTP_OPEN_WRITE = 0x02,
	SFTP_OPEN_APPEND = 0x04,
	SFTP_OPEN_CREATE = 0x08,
	SFTP_OPEN_TRUNCATE = 0x10,
	SFTP_OPEN_EXCLUSIVE = 0x20
};

/* Which attributes are there. */
enum sftp_attr {
	SFTP_ATTR_SIZE = 0x01,
	SFTP_ATTR_OWNER = 0x02,
	SFTP_ATTR_PERMISSIONS = 0x04,
	SFTP_ATTR_TIMES = 0x08
};
#define SFTP_ATTR_EXTENDED UINT32_C(0x80000000)

struct sftp_attrs {
	uint32_t flags;
	uint64_t size;
	uint32_t uid, gid, permissions, atime, mtime;
};

/* The code for an errno, from the one table. */
enum sftp_status sftp_status_of(int sys);
const char *sftp_status_text(enum sftp_status);

/* A packet as it is read. What is missing reads as 0 and leaves ${bad} true, so that one
 * check behind all fields is enough. */
struct sftp_in {
	const uint8_t *at;
	size_t left;
	bool bad;
};

struct sftp_bytes {
	const uint8_t *data; /* within the packet */
	size_t len;
};

uint32_t sftp_get_u32(struct sftp_in *);
uint64_t sftp_get_u64(struct sftp_in *);
struct sftp_bytes sftp_get_bytes(struct sftp_in *);
void sftp_get_attrs(struct sftp_in *, struct sftp_attrs *);

/* A path with its NUL; one with a NUL in it, or too long, is bad. */
void sftp_get_path(struct sftp_in *, char path[static PATH_MAX]);

void sftp_put_u8(struct text *, uint8_t);
void sftp_put_u32(struct text *, uint32_t);
void sftp_put_u64(struct text *, uint64_t);
void sftp_put_bytes(struct text *, const void *, size_t); /* with their length */
void sftp_put_string(struct text *, const char *);
void sftp_put_attrs(struct text *, const struct stat *);

/* Where no text is: into memory. */
void sftp_store_u32(uint8_t to[static 4], uint32_t);

#endif
