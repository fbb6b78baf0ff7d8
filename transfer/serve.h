/*
 * transfer/serve.h: UploadFile, DownloadFile and towline.v1.Files, served in the sandbox.
 *
 * A transfer is a transaction: a file appears under its name complete, verified and
 * synced, or it does not appear. Memory is bounded by the stream's window whatever
 * the size; nothing is staged. Statuses are those of docs/wire.md, "Transfers".
 */
#ifndef TRANSFER_SERVE_H
#define TRANSFER_SERVE_H

#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/worker.h"
#include "relay/dialer.h"
#include "relay/framed.h"

#define TRANSFER_ARCHIVES_MAX 64  /* archives packed or unpacked at once; each has a thread */
#define TRANSFER_MAX          256 /* transfers at once; more: RESOURCE_EXHAUSTED */

/* SFTP and scp at once; each has a thread, and they last. More: RESOURCE_EXHAUSTED. */
#define TRANSFER_TALKS_MAX 128

#define TRANSFER_UPLOAD_EXPIRY_MS ((uint64_t)24 * 3600 * 1000) /* of an interrupted upload */

/* What transfers of one sandbox share. Lives as long as the loop. */
struct transfers;

struct transfer_options {
	struct loop *loop;
	struct workers *workers; /* file I/O; on its threads paths have the sandbox user's rights */
	int workdir;             /* where relative paths start; borrowed */
	int slash;               /* where absolute ones do: "/" of the sandbox; borrowed */
	const char *workdir_path; /* what it is called there, for SFTP and scp; borrowed */
	/* Since when nobody has gone on with an upload that is forgotten and whose part file
	 * is removed; 0: TRANSFER_UPLOAD_EXPIRY_MS. */
	uint64_t upload_expiry_ms;
};

/* Also removes, below the working directory, what earlier transfers have left: now, and
 * from time to time. Without workers nothing is removed. */
struct transfers *transfers_create(const struct transfer_options *, struct err *);

/* Asserts that none is running. */
void transfers_free(struct transfers *);

/* Take the channel over; for the rows of a channel_method table. */
void transfer_serve_upload(struct transfers *, struct framed *, const struct channel_request *);
void transfer_serve_download(struct transfers *, struct framed *, const struct channel_request *);
void transfer_serve_query_upload(
    struct transfers *, struct framed *, const struct channel_request *);
void transfer_serve_abort_upload(
    struct transfers *, struct framed *, const struct channel_request *);

void transfer_serve_sync(struct transfers *, struct framed *, const struct channel_request *);

/* towline.v1.Files.Sftp and Scp. Their paths are the sandbox's own, as OpenSSH's sftp-server
 * and scp have them: ".." leads where it leads, with the rights of the sandbox's user. */
void transfer_serve_sftp(struct transfers *, struct framed *, const struct channel_request *);
void transfer_serve_scp(struct transfers *, struct framed *, const struct channel_request *);

/* The other methods of towline.v1.Files; which of them is said by the request. */
void transfer_serve_files(struct transfers *, struct framed *, const struct channel_request *);

#endif
