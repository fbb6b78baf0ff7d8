/*
 * Two trees of real files, and both ends of a sync on them, joined by pipes in memory.
 */
#ifndef TRANSFER_TEST_TREES_H
#define TRANSFER_TEST_TREES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "support/leak.h"
#include "transfer/sync/sync_peer.h"
#include "transfer/sync/sync_team.h"

#define STREAMS 3 /* that join */

struct pipe;

/* An end: what it is given, and what it says. */
struct end {
	struct pipe *in, *out;
	int root;
	struct sync_options options;
	struct sync_counts counts;
	struct err err;
	int result;
	int (*run)(int, const struct sync_options *, const struct sync_link *, struct sync_counts *,
	    struct err *);
	size_t notes;
	unsigned pause_us; /* before it looks at what has come */
};

struct trees {
	struct leak *leak;
	int folder, source, target;
	struct end from, to;
	/* Of the source, with several streams. */
	void (*item)(void *end, enum sync_act, const struct sync_entry *);
	unsigned pause_us;         /* of the first that joined, at the target */
	uint64_t literal[STREAMS]; /* that each stream has carried, but for the first */
};

int trees_setup(void **state);
int trees_teardown(void **state);

#define TREES(test) cmocka_unit_test_setup_teardown(test, trees_setup, trees_teardown)

int make_folder(struct trees *, const char *name); /* beside the two */

void sync_them_with(struct trees *, const struct sync_options *from, const struct sync_options *to);
void sync_them(struct trees *, const struct sync_options *);

/* With more streams, whose calls are there before they are asked for. */
void sync_in_streams(struct trees *, const struct sync_options *);

/* It must go well. */
void sync_well(struct trees *, const struct sync_options *);

void write_file(int root, const char *path, const void *bytes, size_t len);
void write_text(int root, const char *path, const char *text);
void write_random(int root, const char *path, size_t len, uint32_t seed); /* depends on the seed */
void write_at(int root, const char *path, const char *text, off_t);       /* of what is there */

void assert_same_file(struct trees *, const char *path);
bool is_there(int root, const char *path);
ino_t inode_of(int root, const char *path);

#endif
