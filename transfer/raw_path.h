/*
 * transfer/raw_path.h: paths of any bytes, in messages whose texts have to be UTF-8.
 *
 * A message that names a file has beside the text X a field raw_X of bytes, which is used
 * in its place when the path is no UTF-8. So it is with a list of texts X and a list raw_X of
 * bytes: all of it goes in the one or in the other. The functions turn the one into the other
 * where messages go out and come in, so that in between all is in X.
 */
#ifndef TRANSFER_RAW_PATH_H
#define TRANSFER_RAW_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* ${message} is a struct of a generated type. Before packing: each X that is no text goes as
 * raw_X. Points where X did. Lists stay. */
void raw_path_give(void *message);

/* Packs ${request}, in which ${message} is, or which it is, with paths and lists of ${message}
 * that are no text as raw_X. ${message} is as before then. The caller frees; NULL: no memory. */
uint8_t *raw_path_pack(const void *request, void *message, size_t *len);

/* Whether any list of ${message} has to go as bytes. */
bool raw_path_has_lists(void *message);

/* After unpacking: each raw_X that is there takes the place of X. INVALID_ARGUMENT: it
 * holds a NUL; RESOURCE_EXHAUSTED: no memory. The message can be freed in any case. */
int raw_path_take(void *message, struct err *);

#endif
