/* gateway/wall.h: the wall clock, for what people and databases read. */
#ifndef GATEWAY_WALL_H
#define GATEWAY_WALL_H

#include <stdint.h>

int64_t wall_now_ms(void); /* since 1970, UTC */

#endif
