#include "base/loop.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#define POSTS_PER_TURN 4096
#define RECV_IDLE_MS   1000               /* after which an unused receive block is given back */
#define RECV_ALIGN     64                 /* bytes; where the next small read may start */
#define RECV_LARGE     ((size_t)16 << 10) /* bytes; after so large a read the next starts on a page */
#define PAGE           4096

struct post_list {
	struct post *first, **last;
};

struct loop {
	uv_loop_t uv;
	uv_async_t async;     /* posts of other threads */
	uv_prepare_t prepare; /* before sleeping */
	uv_check_t check;     /* after the descriptors */
	uv_idle_t awake;      /* active while posts are left over, so that nobody sleeps */
	uv_timer_t recv_idle;
	unsigned index;
	pthread_t thread;
	_Atomic bool running;
	_Atomic bool stopping;

	struct post_list posts; /* of the loop's own thread */
	pthread_mutex_t lock;
	struct post_list foreign; /* under the lock */

	struct pool *pool;
	struct block *recv; /* what reads fill; NULL when idle */
	size_t recv_used;
};

static void list_init(struct post_list *l)
{
	l->first = NULL;
	l->last = &l->first;
}

static void list_append(struct post_list *l, struct post *p)
{
	p->next = NULL;
	*l->last = p;
	l->last = &p->next;
}

/* Posts. */

/* Runs what is queued, also what is queued meanwhile, up to the budget. */
static void run_posts(struct loop *l)
{
	struct post *p;

	for (size_t n = 0; n < POSTS_PER_TURN && (p = l->posts.first) != NULL; n++) {
		l->posts.first = p->next;
		if (p->next == NULL)
			list_init(&l->posts);
		p->pending = false;
		p->run(p);
	}
}

static void stay_awake(uv_idle_t *idle)
{
	(void)idle;
}

/* Posts are no handles: libuv would sleep, or end, while some of them wait. */
static void await_posts(struct loop *l)
{
	if (l->posts.first != NULL)
		uv_idle_start(&l->awake, stay_awake);
	else
		uv_idle_stop(&l->awake);
}

static void on_prepare(uv_prepare_t *h)
{
	struct loop *l = h->data;

	run_posts(l);
	await_posts(l);
}

static void on_check(uv_check_t *h)
{
	struct loop *l = h->data;

	run_posts(l);
	await_posts(l);
}

/* What was posted by other threads, or while the loop did not run. */
static void take_foreign(struct loop *l)
{
	struct post *p;

	pthread_mutex_lock(&l->lock);
	p = l->foreign.first;
	list_init(&l->foreign);
	pthread_mutex_unlock(&l->lock);
	while (p != NULL) {
		struct post *next = p->next;
		list_append(&l->posts, p);
		p = next;
	}
}

static void on_async(uv_async_t *h)
{
	struct loop *l = h->data;

	take_foreign(l);
	if (atomic_load(&l->stopping))
		uv_stop(&l->uv);
}

bool loop_is_current(const struct loop *l)
{
	return !atomic_load(&l->running) || pthread_equal(l->thread, pthread_self());
}

void loop_post(struct loop *l, struct post *p)
{
	/* Before the loop runs nobody knows whose thread it will be. */
	if (atomic_load(&l->running) && loop_is_current(l)) {
		assert(!p->pending);
		p->pending = true;
		list_append(&l->posts, p);
		return;
	}
	pthread_mutex_lock(&l->lock);
	assert(!p->pending);
	p->pending = true;
	bool wake = l->foreign.first == NULL;
	list_append(&l->foreign, p);
	pthread_mutex_unlock(&l->lock);
	if (wake)
		uv_async_send(&l->async);
}

static bool list_remove(struct post_list *l, struct post *p)
{
	for (struct post **at = &l->first; *at != NULL; at = &(*at)->next) {
		if (*at != p)
			continue;
		*at = p->next;
		if (p->next == NULL)
			l->last = at;
		p->pending = false;
		return true;
	}
	return false;
}

bool loop_unpost(struct loop *l, struct post *p)
{
	if (!p->pending)
		return false;
	if (list_remove(&l->posts, p))
		return true;
	/* It was made while the loop did not run. */
	pthread_mutex_lock(&l->lock);
	bool removed = list_remove(&l->foreign, p);
	pthread_mutex_unlock(&l->lock);
	return removed;
}

/* The loop itself. */

static void on_recv_idle(uv_timer_t *t)
{
	struct loop *l = t->data;

	if (l->recv != NULL && block_is_unshared(l->recv)) {
		block_unref(l->recv);
		l->recv = NULL;
	}
	pool_trim(l->pool, 0);
}

static void init_handles(struct loop *l)
{
	uv_prepare_init(&l->uv, &l->prepare);
	uv_check_init(&l->uv, &l->check);
	uv_idle_init(&l->uv, &l->awake);
	uv_timer_init(&l->uv, &l->recv_idle);
	l->async.data = l->prepare.data = l->check.data = l->awake.data = l->recv_idle.data = l;
	uv_prepare_start(&l->prepare, on_prepare);
	uv_check_start(&l->check, on_check);
	/* None of ours is a reason to go on. */
	uv_unref((uv_handle_t *)&l->async);
	uv_unref((uv_handle_t *)&l->prepare);
	uv_unref((uv_handle_t *)&l->check);
	uv_unref((uv_handle_t *)&l->recv_idle);
}

struct loop *loop_create(unsigned index, struct err *err)
{
	struct loop *l = calloc(1, sizeof(*l));
	int r;

	if (l == NULL || (l->pool = pool_create(LOOP_BLOCK_SIZE, LOOP_BLOCKS_MAX)) == NULL) {
		free(l);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	if ((r = uv_loop_init(&l->uv)) != 0 ||
	    (r = uv_async_init(&l->uv, &l->async, on_async)) != 0) {
		pool_free(l->pool);
		free(l);
		err_sys(err, r, "make an event loop");
		return NULL;
	}
	l->index = index;
	pthread_mutex_init(&l->lock, NULL);
	list_init(&l->posts);
	list_init(&l->foreign);
	init_handles(l);
	return l;
}

void loop_free(struct loop *l)
{
	if (l == NULL)
		return;
	for (take_foreign(l); l->posts.first != NULL; take_foreign(l))
		run_posts(l);
	uv_close((uv_handle_t *)&l->async, NULL);
	uv_close((uv_handle_t *)&l->prepare, NULL);
	uv_close((uv_handle_t *)&l->check, NULL);
	uv_close((uv_handle_t *)&l->awake, NULL);
	uv_close((uv_handle_t *)&l->recv_idle, NULL);
	uv_run(&l->uv, UV_RUN_DEFAULT); /* until every close callback has run */
	int r = uv_loop_close(&l->uv);
	assert(r == 0); /* a timer, watch or signal was not freed */
	(void)r;
	block_unref(l->recv);
	pool_free(l->pool);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static void run(struct loop *l)
{
	bool more = true;

	l->thread = pthread_self();
	atomic_store(&l->running, true);
	while (!atomic_load(&l->stopping)) {
		take_foreign(l);
		if (!more && l->posts.first == NULL)
			break;
		await_posts(l);
		more = uv_run(&l->uv, UV_RUN_DEFAULT) != 0;
	}
	atomic_store(&l->stopping, false);
	atomic_store(&l->running, false);
}

void loop_run(struct loop *l)
{
	uv_ref((uv_handle_t *)&l->async);
	run(l);
	uv_unref((uv_handle_t *)&l->async);
}

void loop_run_idle(struct loop *l)
{
	run(l);
}

void loop_stop(struct loop *l)
{
	atomic_store(&l->stopping, true);
	uv_async_send(&l->async);
}

unsigned loop_index(const struct loop *l)
{
	return l->index;
}

uint64_t loop_now_ms(const struct loop *l)
{
	return uv_now(&l->uv);
}

uint64_t loop_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

struct pool *loop_pool(struct loop *l)
{
	return l->pool;
}

/* Receiving. */

uint8_t *loop_recv_reserve(struct loop *l, size_t want, size_t *room)
{
	assert(want <= LOOP_BLOCK_SIZE);
	if (l->recv != NULL && block_is_unshared(l->recv))
		l->recv_used = 0;
	if (l->recv != NULL && block_size(l->recv) - l->recv_used < want) {
		block_unref(l->recv);
		l->recv = NULL;
	}
	if (l->recv == NULL) {
		if ((l->recv = block_get(l->pool)) == NULL)
			return NULL;
		l->recv_used = 0;
	}
	if (!uv_is_active((uv_handle_t *)&l->recv_idle))
		uv_timer_start(&l->recv_idle, on_recv_idle, RECV_IDLE_MS, 0);
	*room = block_size(l->recv) - l->recv_used;
	return block_data(l->recv) + l->recv_used;
}

/* The kernel copies slowly to addresses that are a little off (docs/flow-control.md). */
struct slice loop_recv_take(struct loop *l, size_t len)
{
	struct slice s = { 0 };
	size_t align = len >= RECV_LARGE ? PAGE : RECV_ALIGN;

	if (len == 0)
		return s;
	s = slice_of(l->recv, l->recv_used, len);
	l->recv_used = (l->recv_used + len + align - 1) / align * align;
	if (l->recv_used > block_size(l->recv))
		l->recv_used = block_size(l->recv);
	return s;
}

/* Timers. */

struct timer {
	uv_timer_t uv;
	void (*fire)(void *cookie);
	void *cookie;
};

static void on_timer(uv_timer_t *uv)
{
	struct timer *t = uv->data;

	t->fire(t->cookie);
}

static void free_data(uv_handle_t *h)
{
	free(h->data);
}

struct timer *timer_create_on(struct loop *l, void (*fire)(void *cookie), void *cookie)
{
	struct timer *t = malloc(sizeof(*t));

	if (t == NULL)
		return NULL;
	uv_timer_init(&l->uv, &t->uv);
	t->uv.data = t;
	t->fire = fire;
	t->cookie = cookie;
	return t;
}

void timer_start(struct timer *t, uint64_t ms)
{
	uv_timer_start(&t->uv, on_timer, ms, 0);
}

void timer_stop(struct timer *t)
{
	uv_timer_stop(&t->uv);
}

bool timer_is_running(const struct timer *t)
{
	return uv_is_active((const uv_handle_t *)&t->uv) != 0;
}

void timer_free(struct timer *t)
{
	if (t == NULL)
		return;
	assert(!uv_is_closing((uv_handle_t *)&t->uv));
	uv_close((uv_handle_t *)&t->uv, free_data);
}

/* Descriptors. */

struct watch {
	uv_poll_t uv;
	unsigned wanted;
	void (*ready)(void *cookie, unsigned events);
	void *cookie;
};

static void on_poll(uv_poll_t *uv, int status, int events)
{
	struct watch *w = uv->data;
	unsigned wanted = w->wanted, out = 0;

	if (status < 0) {
		/* libuv has stopped polling: whoever still wants to must ask again. */
		w->wanted = WATCH_NONE;
		w->ready(w->cookie, wanted | WATCH_ERROR);
		return;
	}
	if (events & UV_READABLE)
		out |= WATCH_READ;
	if (events & UV_WRITABLE)
		out |= WATCH_WRITE;
	w->ready(w->cookie, out);
}

struct watch *watch_create(struct loop *l, int fd, void (*ready)(void *cookie, unsigned events),
    void *cookie, struct err *err)
{
	struct watch *w = calloc(1, sizeof(*w));
	int r;

	if (w == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	if ((r = uv_poll_init(&l->uv, &w->uv, fd)) != 0) {
		free(w);
		err_sys(err, r, "wait for a descriptor");
		return NULL;
	}
	w->uv.data = w;
	w->ready = ready;
	w->cookie = cookie;
	return w;
}

void watch_want(struct watch *w, unsigned events)
{
	int uv = (events & WATCH_READ ? UV_READABLE : 0) | (events & WATCH_WRITE ? UV_WRITABLE : 0);

	events &= WATCH_READ | WATCH_WRITE;
	if (events == w->wanted)
		return;
	w->wanted = events;
	if (uv == 0)
		uv_poll_stop(&w->uv);
	else
		uv_poll_start(&w->uv, uv, on_poll);
}

unsigned watch_wanted(const struct watch *w)
{
	return w->wanted;
}

void watch_free(struct watch *w)
{
	if (w == NULL)
		return;
	assert(!uv_is_closing((uv_handle_t *)&w->uv));
	uv_close((uv_handle_t *)&w->uv, free_data);
}

/* Signals. */

struct signal_watch {
	uv_signal_t uv;
	void (*fire)(void *cookie);
	void *cookie;
};

static void on_signal(uv_signal_t *uv, int signum)
{
	struct signal_watch *s = uv->data;

	(void)signum;
	s->fire(s->cookie);
}

static void unblock(int signum)
{
	sigset_t one;

	sigemptyset(&one);
	sigaddset(&one, signum);
	pthread_sigmask(SIG_UNBLOCK, &one, NULL);
}

struct signal_watch *signal_watch_create(
    struct loop *l, int signum, void (*fire)(void *cookie), void *cookie, struct err *err)
{
	struct signal_watch *s = calloc(1, sizeof(*s));
	int r;

	if (s == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	if ((r = uv_signal_init(&l->uv, &s->uv)) != 0) {
		free(s);
		err_sys(err, r, "wait for a signal");
		return NULL;
	}
	s->uv.data = s;
	s->fire = fire;
	s->cookie = cookie;
	if ((r = uv_signal_start(&s->uv, on_signal, signum)) != 0) {
		uv_close((uv_handle_t *)&s->uv, free_data);
		err_sys(err, r, "wait for a signal");
		return NULL;
	}
	unblock(signum);
	return s;
}

void signal_watch_free(struct signal_watch *s)
{
	if (s != NULL)
		uv_close((uv_handle_t *)&s->uv, free_data);
}

void loop_ignore_sigpipe(void)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	sigaction(SIGPIPE, &ignore, NULL);
}
