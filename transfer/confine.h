/*
 * transfer/confine.h: a thread that can touch one directory only. Private to the room.
 *
 * A second wall behind openat2(2): who finds a way through the first still is in the
 * directory. Where the kernel has no Landlock the first has to do.
 */
#ifndef TRANSFER_CONFINE_H
#define TRANSFER_CONFINE_H

#include <stdbool.h>

/* From now until its end the calling thread opens, makes and removes nothing that is not
 * beneath ${dir}; descriptors that are open stay as good as they are. False: the kernel
 * cannot (Landlock is missing or older than 5.19), and nothing has changed. */
bool confine_to(int dir);

/* Whether confine_to() can work here. */
bool confine_supported(void);

#endif
