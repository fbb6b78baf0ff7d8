/*
 * support/leak.h: a test leaves no descriptor and no file behind.
 *
 *	static int setup(void **state)
 *	{
 *		*state = leak_begin();
 *		return 0;
 *	}
 *
 *	static int teardown(void **state)
 *	{
 *		return leak_end(*state);
 *	}
 *
 * Memory is LeakSanitizer's: the asan build reports it when the program ends.
 */
#ifndef SUPPORT_LEAK_H
#define SUPPORT_LEAK_H

struct leak;

/* Makes an empty folder for the test and notes which descriptors are open. Ends the test
 * program when the machine does not let it. */
struct leak *leak_begin(void);

/* The folder, an absolute path. The test empties it before leak_end(). */
const char *leak_folder(const struct leak *);

/* A path in the folder: "${folder}/${name}". Good until the eighth call after it. */
const char *leak_path(struct leak *, const char *name);

/*
 * Compares, prints each descriptor (and what it is open on) and each file too many, and
 * removes the folder with all that is still in it. Frees ${leak}. 0 when nothing was
 * left, else -1, which a cmocka teardown hands on to fail its test.
 */
int leak_end(struct leak *leak);

#endif
