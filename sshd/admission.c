#include "sshd/admission.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/random.h"
#include "rpc/address.h"
#include "sshd/client.h"

static const struct log_area area = { "admission" };

struct admission {
	struct sshd *sshd;
	int fd;
	struct watch *watch;
	struct timer *pause;
};

unsigned admission_drop_rate(const struct sshd_limits *l, size_t count)
{
	if (count < l->startups_start)
		return 0;
	if (count >= l->startups_full)
		return 100;
	return l->startups_rate +
	    (unsigned)((100 - l->startups_rate) * (count - l->startups_start) /
		(l->startups_full - l->startups_start));
}

int admission_parse_startups(const char *text, struct sshd_limits *l, struct err *err)
{
	unsigned start, rate, full;
	char more;

	if (sscanf(text, "%5u:%3u:%5u%c", &start, &rate, &full, &more) != 3 || rate > 100 ||
	    start > full || full == 0)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "\"%s\" is not START:RATE:FULL; 512:30:1024 would be, and START is no more than "
		    "FULL, RATE no more than 100",
		    text);
	l->startups_start = start;
	l->startups_rate = rate;
	l->startups_full = full;
	return 0;
}

/* Whether the new one may come; it may cost an old one its place. */
static bool make_place(struct sshd *s)
{
	unsigned rate = admission_drop_rate(&s->limits, s->unauthenticated);

	if (rate == 0 || random_below(100) >= rate)
		return true;
	struct client *oldest = client_oldest_startup(s);
	if (oldest == NULL || client_age_ms(oldest) < ADMISSION_EVICT_MS)
		return false;
	s->counters.evicted++;
	client_drop(oldest, "it did not log in, and others wait");
	return true;
}

static bool is_welcome(struct sshd *s, const struct sockaddr *address)
{
	const char *why = NULL;

	if (penalties_refuse(s->penalties, address, loop_now_ms(s->loop))) {
		s->counters.refused_source++;
		why = "its source failed too often";
	} else if (s->clients >= s->limits.connections) {
		s->counters.refused_full++;
		why = "there are too many";
	} else if (!make_place(s)) {
		s->counters.refused_early++;
		why = "too many are logging in";
	}
	if (why != NULL) {
		char peer[ADDRESS_TEXT_MAX];

		address_text(address, sizeof(struct sockaddr_in6), peer);
		log_info(&area, "client_refused", LOG_STR("peer", peer), LOG_STR("reason", why));
	}
	return why == NULL;
}

static void let_in(struct sshd *s, int fd, const struct sockaddr *address, socklen_t len)
{
	char peer[ADDRESS_TEXT_MAX];
	struct client_options o = { .fd = fd, .address = address, .peer = peer };
	struct err err;
	int on = 1;

	address_text(address, len, peer);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	s->counters.accepted++;
	if (client_create(s, &o, &err) == NULL)
		log_warn(&area, "client_failed", LOG_STR("peer", peer), LOG_ERR(&err));
}

/* -1: no more now. */
static int accept_one(struct admission *l)
{
	struct sockaddr_storage sa;
	struct sockaddr *address = (struct sockaddr *)&sa;
	socklen_t len = sizeof(sa);
	int fd = accept4(l->fd, address, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
		log_warn(&area, "accept_paused", LOG_STR("reason", "no descriptor or memory left"));
		watch_want(l->watch, WATCH_NONE);
		timer_start(l->pause, ADMISSION_PAUSE_MS);
		return -1;
	}
	if (fd < 0) /* another process took it, or it has gone again */
		return errno == EAGAIN ? -1 : 0;
	if (is_welcome(l->sshd, address))
		let_in(l->sshd, fd, address, len);
	else
		close(fd);
	return 0;
}

static void on_ready(void *cookie, unsigned events)
{
	(void)events;
	for (int i = 0; i < ADMISSION_ACCEPTS_PER_TURN; i++)
		if (accept_one(cookie) != 0)
			break;
}

static void on_pause_over(void *cookie)
{
	struct admission *l = cookie;

	watch_want(l->watch, WATCH_READ);
}

struct admission *admission_create(struct sshd *s, int fd, struct err *err)
{
	struct admission *l = calloc(1, sizeof(*l));

	if (l == NULL) {
		close(fd);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	l->sshd = s;
	l->fd = fd;
	if ((l->watch = watch_create(s->loop, fd, on_ready, l, err)) == NULL ||
	    (l->pause = timer_create_on(s->loop, on_pause_over, l)) == NULL) {
		admission_free(l);
		return NULL;
	}
	watch_want(l->watch, WATCH_READ);
	return l;
}

void admission_free(struct admission *l)
{
	if (l == NULL)
		return;
	watch_free(l->watch);
	timer_free(l->pause);
	close(l->fd);
	free(l);
}
