/* base/random.h: the kernel's random numbers. */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

void random_bytes(void *, size_t); /* aborts when the kernel has none, which it always has */
uint64_t random_below(uint64_t bound);

/* A version 4 UUID (RFC 9562, section 5.4); ${out} holds 37 bytes. */
void random_uuid(char out[static 37]);

#endif
