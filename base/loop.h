/*
 * base/loop.h: event loops and what can be waited for on them.
 *
 * A loop runs on one thread. Everything here is called on that thread, but for
 * loop_post() and loop_stop(). Handles (struct timer, struct watch) live until
 * freed by their maker and call back never after that.
 *
 * One turn of a loop: timers, then ready descriptors, then the posts. A post
 * made during the turn on the loop's own thread runs at the end of that turn,
 * so "do it later, once" costs no system call: this is how writes of a whole
 * turn become one writev().
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct loop;
struct timer;
struct watch;

#define LOOP_BLOCK_SIZE ((size_t)1 << 20) /* bytes; see docs/limits.md */
#define LOOP_BLOCKS_MAX 256               /* 256 MiB of receive blocks a loop */

/* ${index} is the caller's number for it (0 is the control loop). */
struct loop *loop_create(unsigned index, struct err *);

/* Asserts that no handle is left and every block is back. */
void loop_free(struct loop *);

/* Runs until loop_stop(), or, if ${until_idle}, until nothing can happen any more. */
void loop_run(struct loop *);
void loop_run_idle(struct loop *);

/* Any thread. */
void loop_stop(struct loop *);

unsigned loop_index(const struct loop *);
bool loop_is_current(const struct loop *); /* the caller runs on its thread */

/* Milliseconds and microseconds of the monotonic clock; now_ms is the time at
 * the start of the turn, now_us is read afresh. */
uint64_t loop_now_ms(const struct loop *);
uint64_t loop_now_us(void);

/* The loop's pool of receive blocks. */
struct pool *loop_pool(struct loop *);

/*
 * The block that reads of this loop fill next. All descriptors of a loop share
 * it, so an idle one holds no memory. Returns a pointer to at least ${want}
 * bytes (want <= LOOP_BLOCK_SIZE) and in ${room} how many there are; NULL at the
 * pool's ceiling. loop_recv_take() makes a slice of the first ${len} of them,
 * or nothing for 0. When every slice of the block is gone it is used from the
 * start again. Between the two calls nothing else may be read on the loop.
 */
uint8_t *loop_recv_reserve(struct loop *, size_t want, size_t *room);
struct slice loop_recv_take(struct loop *, size_t len);

/*
 * A message to a loop, embedded in what it is about; ${run} is called once on
 * the loop's thread, never inside loop_post(). Until then the memory belongs to
 * the loop. Posting what is posted already is a fault (asserted). Posts of one
 * thread run in their order.
 */
struct post {
	struct post *next;
	void (*run)(struct post *);
	bool pending;
};

void loop_post(struct loop *, struct post *); /* any thread */

/* Takes back a post made on this same thread, the loop's; false if it has run. */
bool loop_unpost(struct loop *, struct post *);

/* One shot unless started again. NULL: no memory. */
struct timer *timer_create_on(struct loop *, void (*fire)(void *cookie), void *cookie);
void timer_start(struct timer *, uint64_t ms); /* restarts a running one */
void timer_stop(struct timer *);
bool timer_is_running(const struct timer *);
void timer_free(struct timer *); /* NULL is legal */

enum watch_event {
	WATCH_NONE = 0,
	WATCH_READ = 1,
	WATCH_WRITE = 2,
	WATCH_ERROR = 4 /* reported, never asked for; the descriptor is broken */
};

/*
 * Waits for a descriptor to become ready, level-triggered; starts with nothing
 * asked for. Works for sockets, pipes, terminals, pidfds, eventfds, not for
 * regular files. Does not own ${fd}; it may be closed right after watch_free().
 */
struct watch *watch_create(struct loop *, int fd, void (*ready)(void *cookie, unsigned events),
    void *cookie, struct err *);
void watch_want(struct watch *, unsigned events); /* cheap when nothing changes */
unsigned watch_wanted(const struct watch *);
void watch_free(struct watch *); /* NULL is legal */

/* A signal, as an event of the loop: ${fire} runs there, however often it came. It is unblocked
 * for the calling thread: one that came before is not lost. */
struct signal_watch;
struct signal_watch *signal_watch_create(
    struct loop *, int signum, void (*fire)(void *cookie), void *cookie, struct err *);
void signal_watch_free(struct signal_watch *); /* NULL is legal */

/* For main: writing to a socket nobody reads is an error, not the end. */
void loop_ignore_sigpipe(void);

#endif
