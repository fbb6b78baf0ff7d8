/*
 * transfer/raw_path.h: paths of any bytes, in messages whose texts have to be UTF-8.
 *
 * A message that names a file has beside the text X a field raw_X of bytes, which is used
 * in its place when the path is no UTF-8. The two functions turn the one into the other
 * where messages go out and come in, so that in between all is in X.
 */
#ifndef TRANSFER_RAW_PATH_H
#define TRANSFER_RAW_PATH_H

#include "base/err.h"

/* ${message} is a struct of a generated type. Before packing: each X that is no text goes as
 * raw_X. Points where X did. */
void raw_path_give(void *message);

/* After unpacking: each raw_X that is there takes the place of X. INVALID_ARGUMENT: it
 * holds a NUL; RESOURCE_EXHAUSTED: no memory. The message can be freed in any case. */
int raw_path_take(void *message, struct err *);

#endif
