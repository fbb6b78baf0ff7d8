/*
 * A wire between two programs: forwards TCP connections, delays what goes over them
 * without limiting the rate unless told to, counts it, and cuts it.
 *
 *	wire TARGET_PORT [DELAY_MS]
 *
 * Prints the port it listens on. Lines of its input tell it what to do, its end to go:
 *
 *	count	 prints how many bytes went up (to the target) and down since the last count
 *	each	 prints for each connection since the last time UP:DOWN, in the order of their coming
 *	cut N	 when N more bytes have gone through, either way, resets every connection
 *	snip N	 resets connection N of those that are there, counted from 0
 *	hold N	 when N more bytes have gone through, prints "held" and lets nothing through
 *	go	 lets everything through again
 *	port P	 connects the next ones to this port
 *	rate N	 lets N bytes a second through, each way of each connection; 0: all there are
 *
 * One thread, one poll(): a delayed byte waits in a queue with the time at which it is due.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LINES_MAX  64
#define EACH_MAX   1024 /* connections that are counted apart */
#define CHUNK      ((size_t)256 << 10)
#define QUEUED_MAX ((size_t)1 << 30) /* far more than any window times any delay */
#define NEVER      UINT64_MAX
#define SECOND     1000000000u
#define AHEAD_NS   (SECOND / 20) /* no more is read than goes through so soon */

struct chunk {
	struct chunk *next;
	uint64_t due; /* ns */
	size_t at, len;
	uint8_t data[];
};

struct direction {
	int from, to;
	struct chunk *head, **tail;
	size_t queued;
	uint64_t busy_until; /* ns; with a rate */
	bool ended;          /* nothing more comes */
	bool closed;         /* and the other side was told */
	bool full;           /* the other side takes no more for now */
	int in, out;         /* their places in the poll set */
	uint64_t *count, *own;
};

struct line {
	bool used;
	struct direction way[2]; /* up, down */
};

static struct line lines[LINES_MAX];
static struct pollfd polled[2 + 2 * 2 * LINES_MAX];
static nfds_t polled_count;
static uint64_t counts[2], delay_ns, rate;
static uint64_t each[EACH_MAX + 1][2]; /* the last is of those that are too many */
static size_t opened;
static uint64_t left = NEVER; /* bytes until the cut, or the hold */
static bool holds, held;
static uint16_t target;

static _Noreturn void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static struct sockaddr_in local(uint16_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static int listen_anywhere(void)
{
	struct sockaddr_in sa = local(0);
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0 || listen(fd, 64) != 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &len) != 0)
		die("listen");
	printf("%d\n", ntohs(sa.sin_port));
	fflush(stdout);
	return fd;
}

static void make_ready(int fd)
{
	const int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static void direction_init(struct direction *d, int from, int to, int way)
{
	*d = (struct direction){
		.from = from, .to = to, .count = &counts[way], .own = &each[opened][way]
	};
	d->tail = &d->head;
}

static void line_open(int listener)
{
	struct sockaddr_in sa = local(target);
	int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct line *l = lines;

	if (client < 0 || server < 0)
		die("accept");
	while (l < lines + LINES_MAX && l->used)
		l++;
	if (l == lines + LINES_MAX || connect(server, (struct sockaddr *)&sa, sizeof(sa)) != 0) {
		close(client);
		close(server);
		return;
	}
	make_ready(client);
	make_ready(server);
	l->used = true;
	direction_init(&l->way[0], client, server, 0);
	direction_init(&l->way[1], server, client, 1);
	opened += opened < EACH_MAX;
}

static void drop_head(struct direction *d)
{
	struct chunk *c = d->head;

	d->head = c->next;
	if (d->head == NULL)
		d->tail = &d->head;
	free(c);
}

static void line_close(struct line *l, bool reset)
{
	const struct linger hard = { .l_onoff = 1 };

	for (int i = 0; i < 2; i++) {
		while (l->way[i].head != NULL)
			drop_head(&l->way[i]);
		if (reset)
			setsockopt(l->way[i].from, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
		close(l->way[i].from);
	}
	l->used = false;
}

static void cut(void)
{
	left = NEVER;
	for (struct line *l = lines; l < lines + LINES_MAX; l++)
		if (l->used)
			line_close(l, true);
}

static void snip(unsigned long long n)
{
	for (struct line *l = lines; l < lines + LINES_MAX; l++)
		if (l->used && n-- == 0) {
			line_close(l, true);
			return;
		}
}

static void stop(void)
{
	if (!holds) {
		cut();
	} else if (!held) {
		held = true;
		printf("held\n");
		fflush(stdout);
	}
}

/* When so many more bytes are through. */
static uint64_t go_through(struct direction *d, size_t n)
{
	uint64_t time = now();

	if (rate == 0)
		return time;
	d->busy_until = (d->busy_until > time ? d->busy_until : time) + n * SECOND / rate;
	return d->busy_until;
}

/* False: the line has failed. */
static bool take(struct direction *d)
{
	struct chunk *c = malloc(sizeof(*c) + CHUNK);

	if (c == NULL)
		die("malloc");
	ssize_t n = recv(d->from, c->data, CHUNK, 0);
	if (n <= 0) {
		free(c);
		d->ended |= n == 0;
		return n == 0 || errno == EAGAIN;
	}
	*c = (struct chunk){ .due = go_through(d, (size_t)n) + delay_ns, .len = (size_t)n };
	struct chunk *fit = realloc(c, sizeof(*c) + (size_t)n); /* small ones are many */
	c = fit != NULL ? fit : c;
	*d->tail = c;
	d->tail = &c->next;
	d->queued += (size_t)n;
	return true;
}

/* What goes through before the cut is what was asked for, to the byte. */
static size_t allowed(size_t len)
{
	return len < left ? len : (size_t)left;
}

static bool give(struct direction *d, uint64_t time)
{
	d->full = false;
	while (d->head != NULL && d->head->due <= time && left > 0) {
		struct chunk *c = d->head;
		ssize_t n = send(d->to, c->data + c->at, allowed(c->len - c->at), MSG_NOSIGNAL);
		if (n < 0) {
			d->full = errno == EAGAIN;
			return d->full;
		}
		*d->count += (uint64_t)n;
		*d->own += (uint64_t)n;
		left -= left == NEVER ? 0 : (uint64_t)n;
		d->queued -= (size_t)n;
		c->at += (size_t)n;
		if (c->at == c->len)
			drop_head(d);
	}
	if (d->head == NULL && d->ended && !d->closed && !held) {
		shutdown(d->to, SHUT_WR);
		d->closed = true;
	}
	return true;
}

static int watch(int fd, short events)
{
	polled[polled_count] = (struct pollfd){ .fd = fd, .events = events };
	return (int)polled_count++;
}

/* What to wait for, and how long. */
static int prepare(int listener)
{
	uint64_t soonest = NEVER, time = now();

	polled_count = 0;
	watch(STDIN_FILENO, POLLIN);
	watch(listener, POLLIN);
	for (struct line *l = lines; l < lines + LINES_MAX; l++)
		for (int i = 0; i < 2 && l->used; i++) {
			struct direction *d = &l->way[i];
			bool reads = !d->ended && d->queued < QUEUED_MAX &&
			    (rate == 0 || d->busy_until < time + AHEAD_NS);
			d->in = watch(reads ? d->from : -1, POLLIN);
			d->out = watch(d->full ? d->to : -1, POLLOUT);
			if (d->head != NULL && !d->full && !held && d->head->due < soonest)
				soonest = d->head->due;
		}
	if (soonest == NEVER)
		return -1;
	return soonest <= time ? 0 : (int)((soonest - time) / 1000000 + 1);
}

static bool move(struct line *l)
{
	for (int i = 0; i < 2; i++) {
		struct direction *d = &l->way[i];
		if (polled[d->in].revents != 0 && !take(d))
			return false;
		if ((!d->full || polled[d->out].revents != 0) && !give(d, now()))
			return false;
	}
	return true;
}

/* Those that are still there count on where nobody looks. */
static void tell_each(void)
{
	for (size_t i = 0; i < opened; i++)
		printf(
		    "%llu:%llu ", (unsigned long long)each[i][0], (unsigned long long)each[i][1]);
	printf("\n");
	fflush(stdout);
	memset(each, 0, sizeof(each));
	for (struct line *l = lines; l < lines + LINES_MAX; l++)
		for (int way = 0; way < 2 && l->used; way++)
			l->way[way].own = &each[EACH_MAX][way];
	opened = 0;
}

static void obey(const char *order)
{
	unsigned long long n;

	if (sscanf(order, "cut %llu", &n) == 1 || sscanf(order, "hold %llu", &n) == 1) {
		left = n;
		holds = order[0] == 'h';
		held = false;
	} else if (strcmp(order, "go") == 0) {
		left = NEVER;
		held = false;
	} else if (sscanf(order, "snip %llu", &n) == 1)
		snip(n);
	else if (sscanf(order, "port %llu", &n) == 1)
		target = (uint16_t)n;
	else if (sscanf(order, "rate %llu", &n) == 1)
		rate = n;
	else if (strcmp(order, "each") == 0)
		tell_each();
	else if (strncmp(order, "count", 5) == 0) {
		printf("%llu %llu\n", (unsigned long long)counts[0], (unsigned long long)counts[1]);
		fflush(stdout);
		counts[0] = counts[1] = 0;
	}
}

static bool listen_to_orders(void)
{
	static char text[256];
	static size_t len;
	ssize_t n = read(STDIN_FILENO, text + len, sizeof(text) - 1 - len);

	if (n <= 0)
		return false;
	len += (size_t)n;
	for (char *end; (end = memchr(text, '\n', len)) != NULL;) {
		*end = '\0';
		obey(text);
		len -= (size_t)(end + 1 - text);
		memmove(text, end + 1, len);
	}
	return true;
}

int main(int argc, char *argv[])
{
	if (argc < 2 || argc > 3) {
		fputs("usage: wire TARGET_PORT [DELAY_MS]\n", stderr);
		return 2;
	}
	target = (uint16_t)strtoul(argv[1], NULL, 10);
	delay_ns = argc > 2 ? strtoull(argv[2], NULL, 10) * 1000000u : 0;
	int listener = listen_anywhere();
	for (;;) {
		int timeout = prepare(listener);
		if (poll(polled, polled_count, timeout) < 0 && errno != EINTR)
			die("poll");
		bool more = (polled[0].revents & (POLLIN | POLLHUP)) == 0 || listen_to_orders();
		for (struct line *l = lines; l < lines + LINES_MAX; l++)
			if (l->used) {
				bool over = !move(l);
				if (over || (l->way[0].closed && l->way[1].closed))
					line_close(l, over);
			}
		if (left == 0)
			stop();
		if (!more)
			return 0;
		if (polled[1].revents != 0)
			line_open(listener);
	}
}
