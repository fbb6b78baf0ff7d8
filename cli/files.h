/*
 * cli/files.h: what the verbs about a sandbox's files share: the places that are named,
 * the calls, and how a file looks in print.
 */
#ifndef CLI_FILES_H
#define CLI_FILES_H

#include <jansson.h>
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "cli/cmd.h"
#include "cli/end.h"
#include "cli/session.h"
#include "towline/v1/files.pb-c.h"

/* Takes each word for NAME:PATH, in order, until one fails, and runs ${one} of it. All that
 * can be done is done: returns CLI_EXIT_OK, CLI_EXIT_FAILED if any failed (which has been
 * said), or CLI_EXIT_USAGE. */
typedef int files_one(struct session *, const struct end *, const void *options, struct err *);
int files_each(const struct cli *, const char *verb, const struct cmd_words *, const void *options,
    files_one *one);

/* A word that has to be NAME:PATH. CLI_EXIT_OK, or what to return, said. */
int files_parse(const struct cli *, const char *verb, const char *word, struct end *);

/* A call with one answer, which is freed with codec_free(); it takes as long as it takes. */
int files_call(
    struct session *, const char *method, ProtobufCMessage *request, void **reply, struct err *);

/* A call with many: ${each} looks at one; -1 ends the call. */
typedef int files_message(void *cookie, const void *message, struct err *);
int files_stream(struct session *, const char *method, ProtobufCMessage *request,
    files_message *each, void *cookie, struct err *);

/* "file", "directory", "symlink", "other". */
const char *files_type(const Towline__V1__FileInfo *);

#define FILES_MODE_SIZE 11
/* "drwxr-xr-x" */
void files_mode(const Towline__V1__FileInfo *, char out[static FILES_MODE_SIZE]);

/* Text of the sandbox's: nothing in it moves a cursor. */
void files_print_text(const char *, FILE *);

json_t *files_json(const Towline__V1__FileInfo *);

#endif
