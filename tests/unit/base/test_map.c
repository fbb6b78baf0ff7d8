/* The hash table: keys copied, order kept, entries gone while being walked over. */
#include "base/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "leaks.h"

#define MANY 5000

static char values[MANY];

static void test_put_get_remove(void **state)
{
	struct map *m = map_create();

	(void)state;
	assert_int_equal(map_count(m), 0);
	assert_null(map_get(m, "a"));
	assert_null(map_remove(m, "a"));
	assert_int_equal(map_put(m, "a", &values[0]), 0);
	assert_int_equal(map_put(m, "b", &values[1]), 0);
	assert_int_equal(map_put(m, "a", &values[2]), -1);
	assert_ptr_equal(map_get(m, "a"), &values[0]);
	assert_ptr_equal(map_get(m, "b"), &values[1]);
	assert_int_equal(map_count(m), 2);
	assert_ptr_equal(map_remove(m, "a"), &values[0]);
	assert_null(map_remove(m, "a"));
	assert_null(map_get(m, "a"));
	assert_int_equal(map_count(m), 1);
	assert_ptr_equal(map_remove(m, "b"), &values[1]);
	assert_int_equal(map_count(m), 0);
	assert_int_equal(map_put(m, "a", &values[3]), 0);
	assert_ptr_equal(map_get(m, "a"), &values[3]);
	map_free(m);
	map_free(NULL);
}

/* A key is its bytes, whole, and the map's own copy of them. */
static void test_keys(void **state)
{
	struct map *m = map_create();
	char key[] = "key", large[4096];

	(void)state;
	memset(large, 'k', sizeof(large) - 1);
	large[sizeof(large) - 1] = '\0';
	assert_int_equal(map_put(m, key, &values[0]), 0);
	key[0] = 'K';
	assert_null(map_get(m, key));
	assert_ptr_equal(map_get(m, "key"), &values[0]);
	assert_null(map_get(m, "ke"));
	assert_null(map_get(m, "keys"));
	assert_null(map_get(m, ""));
	assert_int_equal(map_put(m, "", &values[1]), 0);
	assert_ptr_equal(map_get(m, ""), &values[1]);
	assert_int_equal(map_put(m, large, &values[2]), 0);
	large[4000] = 'l';
	assert_null(map_get(m, large));
	assert_int_equal(map_put(m, "\xff\x01", &values[3]), 0);
	assert_ptr_equal(map_get(m, "\xff\x01"), &values[3]);
	assert_int_equal(map_count(m), 4);
	map_free(m);
}

static const char *key_of(unsigned i)
{
	static char key[32];

	snprintf(key, sizeof(key), "sandbox-%u", i);
	return key;
}

static void test_many(void **state)
{
	struct map *m = map_create();

	(void)state;
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(map_put(m, key_of(i), &values[i]), 0);
	assert_int_equal(map_count(m), MANY);
	for (unsigned i = 0; i < MANY; i += 2)
		assert_ptr_equal(map_remove(m, key_of(i)), &values[i]);
	assert_int_equal(map_count(m), MANY / 2);
	for (unsigned i = 0; i < MANY; i++)
		assert_ptr_equal(map_get(m, key_of(i)), i % 2 ? &values[i] : NULL);
	map_free(m);
}

struct walk {
	struct map *map;
	char seen[64];
	char remove, stop;
};

static bool visit(void *cookie, const char *key, void *value)
{
	struct walk *w = cookie;
	size_t len = strlen(w->seen);

	assert_ptr_equal(map_get(w->map, key), value);
	memcpy(w->seen + len, key, 2);
	if (w->remove == '*' || w->remove == key[0])
		assert_ptr_equal(map_remove(w->map, (char[]){ w->seen[len], '\0' }), value);
	return w->seen[len] != w->stop;
}

static const char *walked(struct walk *w)
{
	memset(w->seen, 0, sizeof(w->seen));
	map_each(w->map, visit, w);
	return w->seen;
}

static void test_each(void **state)
{
	struct walk w = { .map = map_create() };

	(void)state;
	assert_string_equal(walked(&w), "");
	for (const char *c = "qwertyuiop"; *c != '\0'; c++)
		assert_int_equal(map_put(w.map, (char[]){ *c, '\0' }, &values[(int)*c]), 0);
	assert_string_equal(walked(&w), "qwertyuiop");
	w.stop = 't';
	assert_string_equal(walked(&w), "qwert");
	w.stop = '\0';
	w.remove = 'e';
	assert_string_equal(walked(&w), "qwertyuiop");
	assert_string_equal(walked(&w), "qwrtyuiop");
	assert_int_equal(map_put(w.map, "e", values), 0);
	w.remove = 'q';
	assert_string_equal(walked(&w), "qwrtyuiope");
	w.remove = '*';
	w.stop = 'y';
	assert_string_equal(walked(&w), "wrty");
	w.stop = '\0';
	assert_string_equal(walked(&w), "uiope");
	assert_int_equal(map_count(w.map), 0);
	assert_string_equal(walked(&w), "");
	map_free(w.map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		leaks_test(test_put_get_remove),
		leaks_test(test_keys),
		leaks_test(test_many),
		leaks_test(test_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
