/*
 * cli/record.h: which forwards there are on this machine: a file for each in
 * $XDG_STATE_HOME/openshell/forwards, which its process keeps locked for as long as it
 * lives. So what is listed is true, whatever became of the processes: a file that nobody
 * has locked is of one that is gone, and is removed when somebody looks.
 */
#ifndef CLI_RECORD_H
#define CLI_RECORD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct record {
	char *bind, *sandbox, *workspace, *target_host, *endpoint;
	char *error; /* the last; "" if there was none */
	uint16_t port, target_port;
	pid_t pid;
	int64_t since; /* Unix seconds */
};

struct record_file; /* of a forward of ours */

/* Writes and locks it. ALREADY_EXISTS: another process has this address. */
struct record_file *record_create(const struct record *, struct err *);
void record_update(struct record_file *, const struct record *);
void record_remove(struct record_file *); /* NULL is legal */

/* Calls ${each} for those that live; the record is lent, ${file} is the name to give to
 * record_end(). */
int record_list(void (*each)(void *cookie, const char *file, const struct record *), void *cookie,
    struct err *);

/* Ends the forward's process and waits until it is gone. NOT_FOUND: it was already. */
int record_end(const char *file, struct err *);

json_t *record_json(const struct record *);

#endif
