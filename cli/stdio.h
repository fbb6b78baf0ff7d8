/*
 * cli/stdio.h: standard input and output as the ends of a stream, whatever they are.
 *
 * Their descriptors belong to others too (the shell, the next program of a pipe), and so
 * does the flag that makes them non-blocking: terminals and pipes are opened a second
 * time for us alone; where that cannot be, the flag is put back in the end. Files and
 * devices, which cannot be waited for, are read and written directly.
 */
#ifndef CLI_STDIO_H
#define CLI_STDIO_H

#include <stddef.h>

#include "base/err.h"
#include "base/loop.h"
#include "relay/fdio.h"

struct stdio;

/* ${fd} is borrowed. The ops are fdio's; callbacks come from the loop. */
struct stdio *stdio_reader(
    struct loop *, int fd, const struct fdio_ops *, void *cookie, struct err *);
struct stdio *stdio_writer(
    struct loop *, int fd, const struct fdio_ops *, void *cookie, struct err *);

void stdio_credit(struct stdio *, size_t bytes);
int stdio_write(struct stdio *, struct slice); /* takes on success; -1: it has failed */
size_t stdio_queued(const struct stdio *);     /* bytes not yet written */
void stdio_free(struct stdio *);               /* NULL is legal */

#endif
