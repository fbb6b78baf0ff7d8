/* base/map.h: a hash table from short text (or bytes) to pointers. One thread. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>

struct map;

struct map *map_create(void); /* NULL: no memory */
void map_free(struct map *);  /* the values are the caller's; NULL is legal */

void *map_get(const struct map *, const char *key);
/* Copies the key. -1: no memory, or the key is there already. */
int map_put(struct map *, const char *key, void *value);
void *map_remove(struct map *, const char *key); /* the value, NULL if there was none */
size_t map_count(const struct map *);

/* Calls ${each} for every entry, in order of insertion; it may remove the entry
 * it is called for and no other. false ends the walk. */
void map_each(struct map *, bool (*each)(void *cookie, const char *key, void *value), void *cookie);

#endif
