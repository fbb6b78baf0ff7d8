/*
 * relay/flow.h: random bytes through relays, cut and stalled at random.
 */
#ifndef TESTS_RELAY_FLOW_H
#define TESTS_RELAY_FLOW_H

#include <stddef.h>
#include <stdint.h>

/* A gateway of ${loops} loops, a client on each, one relay from each to one supervisor;
 * moves so many bytes each way in pieces of up to ${piece_max}, checks that they come out
 * as they went in, and that every relay ends well. */
void flow_pattern(size_t loops, uint64_t up, uint64_t down, size_t piece_max);

#endif
