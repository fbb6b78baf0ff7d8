#include "rpc/listener.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

static const struct log_area area = { "rpc" };

struct listener {
	struct loop *loop;
	int fd;
	char *path; /* of a Unix socket */
	struct rpc_tls *tls;
	struct watch *watch;
	struct timer *pause;
	void (*accepted)(void *cookie, int fd, struct rpc_tls *);
	void *cookie;
};

static void on_resume(void *cookie)
{
	watch_want(((struct listener *)cookie)->watch, WATCH_READ);
}

static void on_ready(void *cookie, unsigned events)
{
	struct listener *l = cookie;
	struct err err;

	(void)events;
	for (int i = 0; i < LISTENER_BACKLOG_BUDGET; i++) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			l->accepted(l->cookie, fd, l->tls);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			err_sys(&err, errno, "accept");
			log_fail(&area, "accept_paused", LOG_ERR(&err));
			watch_want(l->watch, WATCH_NONE);
			timer_start(l->pause, LISTENER_PAUSE_MS);
		}
		if (errno != EINTR && errno != ECONNABORTED)
			return;
	}
}

struct listener *listener_create(struct loop *loop, const char *text, struct rpc_tls *tls,
    void (*accepted)(void *cookie, int fd, struct rpc_tls *), void *cookie,
    char bound[static ADDRESS_TEXT_MAX], struct err *err)
{
	struct address address;
	struct listener *l;

	if (address_parse(text, &address, err) != 0 ||
	    (!address.is_numeric && address_resolve(&address, err) != 0))
		return NULL;
	if ((l = calloc(1, sizeof(*l))) == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	l->loop = loop;
	l->tls = tls;
	l->accepted = accepted;
	l->cookie = cookie;
	l->fd = -1;
	l->pause = timer_create_on(loop, on_resume, l);
	if (address.is_unix)
		l->path = strdup(address.host);
	if (l->pause == NULL || (address.is_unix && l->path == NULL))
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	else if ((l->fd = address_listen(&address, bound, err)) >= 0)
		l->watch = watch_create(loop, l->fd, on_ready, l, err);
	if (l->watch == NULL) {
		listener_free(l);
		return NULL;
	}
	watch_want(l->watch, WATCH_READ);
	return l;
}

void listener_free(struct listener *l)
{
	if (l == NULL)
		return;
	watch_free(l->watch);
	timer_free(l->pause);
	if (l->fd >= 0) {
		close(l->fd);
		if (l->path != NULL)
			unlink(l->path);
	}
	free(l->path);
	free(l);
}
