/* gateway/datadir.h: the directory that a gateway keeps its state in, and has to itself. */
#ifndef GATEWAY_DATADIR_H
#define GATEWAY_DATADIR_H

#include "base/err.h"

struct datadir;

/* Makes the directory (mode 0700, with missing parents) and locks it. The lock ends with
 * the process, whatever its end. FAILED_PRECONDITION: another process has it. Once in a
 * process. */
struct datadir *datadir_open(const char *path, struct err *);
void datadir_close(struct datadir *);

/* Absolute, without symlinks. */
const char *datadir_path(const struct datadir *);

/* Writes a file that is there whole or not at all, mode 0644. */
int datadir_write_file(const char *path, const char *text, struct err *);

#endif
