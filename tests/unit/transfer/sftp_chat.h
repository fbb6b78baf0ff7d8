/*
 * What an SFTP client says to a server in a test, and the answers it gets.
 *
 *	say_init();
 *	say_open("f", SFTP_OPEN_READ);
 *	run_all();
 *	answer(SFTP_VERSION);
 *	answer(SFTP_HANDLE);
 *	nothing_more();
 */
#ifndef TRANSFER_TEST_SFTP_CHAT_H
#define TRANSFER_TEST_SFTP_CHAT_H

#include <stdint.h>

#include "base/err.h"
#include "base/text.h"
#include "chat.h"
#include "support/leak.h"
#include "transfer/sftp/sftp.h"

struct sftp_chat {
	struct leak *leak;
	struct sftp_env env;
	struct chat chat;
	struct sftp_in answers; /* not read yet */
	uint32_t next_id;
};

extern struct sftp_chat *sftp_chat; /* of the test that runs */

int sftp_setup(void **state);
int sftp_teardown(void **state); /* removes the files that tests make, and counts what is left */

void say_packet(const struct text *body);
void say_init(void);

/* A request with the next id. What it has is 'u', a number of 32 bits, 'q', of 64, 's', a string,
 * 'h', a struct sftp_bytes, or 'z', no attributes. */
void say(int type, const char *shape, ...);
void say_open(const char *path, uint32_t flags);
void say_write(struct sftp_bytes, uint64_t offset, const char *data);
void say_read(struct sftp_bytes, uint64_t offset, uint32_t len);

/* Runs what has been said; the answers are there then. */
int run(struct err *);
void run_all(void);

/* The next answer: of this type, and to the next request. */
struct sftp_in answer(int type);
void is_status(int status);
void is_data(const char *content);
void nothing_more(void);

/* As the table of handles makes them: the slot, and how often it has been used. */
struct sftp_bytes handle(uint32_t slot, uint32_t generation);

void make_file(const char *path, const char *content);
void file_is(const char *path, const char *content);

#endif
