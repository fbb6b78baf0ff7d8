#include "sshd/penalty_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/random.h"

#define WAYS    8 /* places that a source may have: which they are follows from its number */
#define SETS    (PENALTY_SOURCES_MAX / WAYS)
#define SEALS   (F_SEAL_SHRINK | F_SEAL_GROW)
#define RETRIES 8 /* when others take the place that was chosen */

struct place {
	_Atomic uint64_t source; /* 0: none */
	_Atomic uint64_t until_ms;
};

struct penalty_table {
	_Atomic uint64_t seed; /* so that nobody can choose addresses for one set */
	struct place places[PENALTY_SOURCES_MAX];
};

/* It keeps its size from now on, or a process could take pages from under the others. */
static int size_file(int fd, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return err_sys(err, errno, "the table of penalties");
	if (st.st_size != 0 && st.st_size != (off_t)sizeof(struct penalty_table))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "the table of penalties is another program's: it has %lld bytes, not %zu",
		    (long long)st.st_size, sizeof(struct penalty_table));
	if (ftruncate(fd, sizeof(struct penalty_table)) != 0 || fcntl(fd, F_ADD_SEALS, SEALS) != 0)
		return err_sys(err, errno, "the table of penalties");
	return 0;
}

struct penalty_table *penalty_table_open(int fd, struct err *err)
{
	const int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	uint64_t seed, none = 0;
	struct penalty_table *t;

	if (fd >= 0 && size_file(fd, err) != 0)
		return NULL;
	t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, flags, fd, 0);
	if (t == MAP_FAILED) {
		err_sys(err, errno, "the table of penalties");
		return NULL;
	}
	random_bytes(&seed, sizeof(seed));
	atomic_compare_exchange_strong(&t->seed, &none, seed | 1);
	return t;
}

void penalty_table_close(struct penalty_table *t)
{
	if (t != NULL)
		munmap(t, sizeof(*t));
}

/* The finalizer of splitmix64. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
	return x ^ (x >> 31);
}

static size_t set_of(const struct penalty_table *t, uint64_t source)
{
	return mix(source ^ mix(atomic_load(&t->seed))) % SETS * WAYS;
}

uint64_t penalty_table_until(const struct penalty_table *t, uint64_t source)
{
	const struct place *set = &t->places[set_of(t, source)];
	uint64_t latest = 0;

	/* Two processes may have found a place each. */
	for (size_t i = 0; i < WAYS; i++) {
		uint64_t until = atomic_load(&set[i].until_ms);

		if (atomic_load(&set[i].source) == source && until > latest)
			latest = until;
	}
	return latest;
}

/* Its place in the set, or the one that would be free first; *${old} is whose that is. */
static struct place *choose(struct place *set, uint64_t source, uint64_t *old)
{
	struct place *first = NULL;
	uint64_t sooner = 0;

	for (size_t i = 0; i < WAYS; i++) {
		uint64_t whose = atomic_load(&set[i].source);
		uint64_t until = whose != 0 ? atomic_load(&set[i].until_ms) : 0;

		if (whose == source) {
			*old = source;
			return &set[i];
		}
		if (first == NULL || until < sooner) {
			first = &set[i];
			sooner = until;
			*old = whose;
		}
	}
	return first;
}

static void extend(_Atomic uint64_t *until, uint64_t now, uint64_t cost, uint64_t latest)
{
	uint64_t was = atomic_load(until), will;

	do {
		will = (was > now ? was : now) + cost;
		if (will > latest)
			will = latest;
	} while (!atomic_compare_exchange_weak(until, &was, will));
}

void penalty_table_add(
    struct penalty_table *t, uint64_t source, uint64_t now_ms, uint64_t cost_ms, uint64_t latest_ms)
{
	struct place *set = &t->places[set_of(t, source)];

	for (int i = 0; i < RETRIES; i++) {
		uint64_t old;
		struct place *p = choose(set, source, &old);

		if (old != source) {
			if (!atomic_compare_exchange_strong(&p->source, &old, source))
				continue;
			atomic_store(&p->until_ms, 0); /* what the one before had to wait */
		}
		extend(&p->until_ms, now_ms, cost_ms, latest_ms);
		return;
	}
}

size_t penalty_table_count(const struct penalty_table *t)
{
	size_t count = 0;

	for (size_t i = 0; i < PENALTY_SOURCES_MAX; i++)
		count += atomic_load(&t->places[i].source) != 0;
	return count;
}
