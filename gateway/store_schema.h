/* gateway/store_schema.h: the tables, and how older ones become the present ones. */
#ifndef GATEWAY_STORE_SCHEMA_H
#define GATEWAY_STORE_SCHEMA_H

#include <stddef.h>

/* One step: SQL that takes a database of version ${index} to ${index} + 1. Steps are
 * never changed once released, only added. */
extern const char *const store_schema_steps[];
extern const size_t store_schema_count;

#endif
