/* transfer/link.h: whether a symbolic link in a tree leads out of it. */
#ifndef TRANSFER_LINK_H
#define TRANSFER_LINK_H

#include <stdbool.h>

/* ${path} is the link's own name, relative to the root and without "." or "..";
 * ${target} is what it says. By the text alone: absolute leads out. */
bool link_stays_inside(const char *path, const char *target);

#endif
