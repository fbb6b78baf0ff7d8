#include "gateway/ssh_workers.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "gateway/ssh_host.h"
#include "gateway/ssh_spawn.h"
#include "relay/backoff.h"

static const struct log_area area = { "gateway.ssh" };

#define ARGV_MAX 20

struct worker {
	struct ssh_workers *all;
	unsigned number; /* "sshd-1" is 1 */
	int pidfd;       /* -1: it does not run */
	int report;      /* for when it has ended */
	pid_t pid;
	struct watch *watch;
	struct timer *again;
	struct backoff backoff;
	uint64_t started_ms;
};

struct ssh_workers {
	struct ssh_workers_options opt; /* with copies of the strings */
	int pipe[2];                    /* nobody writes; it closes with us */
	int penalties;                  /* what workers know of sources that failed; theirs */
	struct timer *check;
	bool stopping;
	struct worker list[];
};

/* Starting one. */

static pid_t spawn(struct worker *w, const char *token, int host_key, struct err *err)
{
	const struct ssh_workers_options *o = &w->all->opt;
	char id[NAMES_ID_MAX + 1], fd[SSH_SPAWN_END][24];
	struct ssh_spawn s = { .program = o->program };
	const char *argv[ARGV_MAX] = { "towline-sshd", "--gateway", o->gateway_url, "--endpoint-id",
		id, "--token-file", fd[SSH_SPAWN_TOKEN], "--host-key", fd[SSH_SPAWN_HOST_KEY],
		"--listen-fd", fd[SSH_SPAWN_LISTENER], "--parent-fd", fd[SSH_SPAWN_PARENT],
		"--penalties-fd", fd[SSH_SPAWN_PENALTIES], "--log-level", o->log_level,
		"--log-format", o->log_format, NULL };

	snprintf(id, sizeof(id), "sshd-%u", w->number);
	for (int i = SSH_SPAWN_TOKEN; i < SSH_SPAWN_END; i++)
		snprintf(fd[i], sizeof(fd[i]), "%s%d",
		    i == SSH_SPAWN_TOKEN || i == SSH_SPAWN_HOST_KEY ? "/dev/fd/" : "", i);
	s.argv = (char *const *)argv;
	s.fd[SSH_SPAWN_HOST_KEY] = host_key;
	s.fd[SSH_SPAWN_LISTENER] = o->listener;
	s.fd[SSH_SPAWN_PARENT] = w->all->pipe[0];
	s.fd[SSH_SPAWN_PENALTIES] = w->all->penalties;
	if ((s.fd[SSH_SPAWN_TOKEN] = ssh_spawn_lend(token, strlen(token), err)) < 0)
		return -1;
	w->pidfd = ssh_spawn(&s, &w->pid, &w->report, err);
	close(s.fd[SSH_SPAWN_TOKEN]);
	return w->pidfd;
}

static int begin(struct worker *w, struct err *err)
{
	char token[SSH_ENDPOINTS_TOKEN_SIZE];
	int host_key, result = -1;

	if (ssh_endpoints_renew(w->all->opt.endpoints, w->number, token, err) != 0 ||
	    (host_key = ssh_host_lend(w->all->opt.host_key, err)) < 0)
		return -1;
	if (spawn(w, token, host_key, err) >= 0)
		result = 0;
	explicit_bzero(token, sizeof(token));
	close(host_key);
	return result;
}

/* Whether it has been what it was started to be; if not, ${err} says why. */
static bool reap(struct worker *w, siginfo_t *info, struct err *err)
{
	bool failed;

	while (waitid(P_PIDFD, (id_t)w->pidfd, info, WEXITED) != 0 && errno == EINTR)
		;
	watch_free(w->watch);
	w->watch = NULL;
	close(w->pidfd);
	w->pidfd = -1;
	failed = ssh_spawn_failed(w->report, w->all->opt.program, err);
	close(w->report);
	return !failed;
}

static void kill_and_reap(struct worker *w)
{
	siginfo_t info;
	struct err err;

	pidfd_send_signal(w->pidfd, SIGKILL, NULL, 0);
	reap(w, &info, &err);
}

static void try_again(struct worker *w)
{
	uint32_t wait = backoff_next(&w->backoff);

	log_info(&area, "worker_waits", LOG_U64("worker", w->number), LOG_U64("wait_ms", wait));
	timer_start(w->again, wait);
}

/* It has ended, by itself or by somebody's hand; its connections have ended with it. */
static void on_exit_of(void *cookie, unsigned events)
{
	struct worker *w = cookie;
	siginfo_t info = { 0 };
	struct err err;

	(void)events;
	bool ran = reap(w, &info, &err);
	if (w->all->stopping)
		return;
	if (ran)
		log_warn(&area, "worker_ended", LOG_U64("worker", w->number),
		    LOG_I64("pid", w->pid),
		    LOG_STR("by", info.si_code == CLD_EXITED ? "exit" : "signal"),
		    LOG_I64("status", info.si_status));
	else
		log_fail(&area, "worker_failed", LOG_U64("worker", w->number), LOG_ERR(&err));
	if (loop_now_us() / 1000 - w->started_ms >= SSH_WORKERS_STEADY_MS)
		backoff_reset(&w->backoff);
	try_again(w);
}

static int watch(struct worker *w, struct err *err)
{
	w->watch = watch_create(w->all->opt.loop, w->pidfd, on_exit_of, w, err);
	if (w->watch == NULL) {
		kill_and_reap(w);
		return -1;
	}
	watch_want(w->watch, WATCH_READ);
	return 0;
}

static void start(void *cookie)
{
	struct worker *w = cookie;
	struct err err;

	if (w->all->stopping)
		return;
	w->started_ms = loop_now_us() / 1000;
	if (begin(w, &err) == 0 && watch(w, &err) == 0) {
		log_info(
		    &area, "worker_started", LOG_U64("worker", w->number), LOG_I64("pid", w->pid));
		return;
	}
	log_fail(&area, "worker_failed", LOG_U64("worker", w->number), LOG_ERR(&err));
	try_again(w);
}

/* One that hangs would keep what it has accepted, and accept no more; or its program cannot be
 * read, and it has not even begun. */
static bool hangs(const struct worker *w, uint64_t now_ms)
{
	char id[NAMES_ID_MAX + 1];
	uint64_t left;

	if (w->pidfd < 0 || now_ms - w->started_ms < SSH_WORKERS_ATTEND_MS)
		return false;
	snprintf(id, sizeof(id), "sshd-%u", w->number);
	left = ssh_endpoints_left_ms(w->all->opt.endpoints, id);
	return left != UINT64_MAX && now_ms - left >= SSH_WORKERS_ATTEND_MS;
}

static void on_check(void *cookie)
{
	struct ssh_workers *all = cookie;

	for (unsigned i = 0; i < all->opt.count && !all->stopping; i++) {
		struct worker *w = &all->list[i];

		if (!hangs(w, loop_now_us() / 1000))
			continue;
		log_fail(
		    &area, "worker_hangs", LOG_U64("worker", w->number), LOG_I64("pid", w->pid));
		pidfd_send_signal(w->pidfd, SIGKILL, NULL, 0); /* on_exit_of() does the rest */
	}
	timer_start(all->check, SSH_WORKERS_CHECK_MS);
}

/* All of them. */

static bool copy_strings(struct ssh_workers_options *o)
{
	const char **texts[] = { &o->program, &o->gateway_url, &o->host_key, &o->log_level,
		&o->log_format };
	bool good = true;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		*texts[i] = strdup(*texts[i]);
		good = good && *texts[i] != NULL;
	}
	return good;
}

static void free_all(struct ssh_workers *all)
{
	const char *texts[] = { all->opt.program, all->opt.gateway_url, all->opt.host_key,
		all->opt.log_level, all->opt.log_format };

	timer_free(all->check);
	for (size_t i = 0; i < all->opt.count; i++)
		timer_free(all->list[i].again);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		free((void *)texts[i]);
	for (int i = 0; i < 2; i++)
		if (all->pipe[i] >= 0)
			close(all->pipe[i]);
	if (all->penalties >= 0)
		close(all->penalties);
	free(all);
}

static bool make_workers(struct ssh_workers *all)
{
	for (unsigned i = 0; i < all->opt.count; i++) {
		struct worker *w = &all->list[i];

		*w = (struct worker){ .all = all, .number = i + 1, .pidfd = -1 };
		w->backoff.min_ms = SSH_WORKERS_RETRY_MIN_MS;
		w->backoff.max_ms = SSH_WORKERS_RETRY_MAX_MS;
		if ((w->again = timer_create_on(all->opt.loop, start, w)) == NULL)
			return false;
	}
	all->check = timer_create_on(all->opt.loop, on_check, all);
	return all->check != NULL;
}

struct ssh_workers *ssh_workers_create(const struct ssh_workers_options *opt, struct err *err)
{
	struct ssh_workers *all = calloc(1, sizeof(*all) + opt->count * sizeof(all->list[0]));

	if (all == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	all->opt = *opt;
	all->pipe[0] = all->pipe[1] = all->penalties = -1;
	if (!copy_strings(&all->opt) || !make_workers(all)) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		free_all(all);
		return NULL;
	}
	if (pipe2(all->pipe, O_CLOEXEC) != 0) {
		err_sys(err, errno, "make a pipe");
		free_all(all);
		return NULL;
	}
	if ((all->penalties = ssh_spawn_share(err)) < 0) {
		free_all(all);
		return NULL;
	}
	for (unsigned i = 0; i < opt->count; i++)
		start(&all->list[i]);
	timer_start(all->check, SSH_WORKERS_CHECK_MS);
	return all;
}

void ssh_workers_stop(struct ssh_workers *all)
{
	if (all->stopping)
		return;
	all->stopping = true;
	timer_stop(all->check);
	for (unsigned i = 0; i < all->opt.count; i++) {
		timer_stop(all->list[i].again);
		if (all->list[i].pidfd >= 0)
			pidfd_send_signal(all->list[i].pidfd, SIGTERM, NULL, 0);
	}
}

/* The loop does not run any more. */
static void await(struct worker *w, uint64_t until_ms)
{
	struct pollfd p = { .fd = w->pidfd, .events = POLLIN };
	siginfo_t info;
	struct err err;

	while (w->pidfd >= 0) {
		uint64_t now = loop_now_us() / 1000;
		int ready = poll(&p, 1, now < until_ms ? (int)(until_ms - now) : 0);

		if (ready > 0)
			reap(w, &info, &err);
		else if (ready == 0)
			kill_and_reap(w);
	}
}

void ssh_workers_free(struct ssh_workers *all)
{
	if (all == NULL)
		return;
	ssh_workers_stop(all);
	uint64_t until_ms = loop_now_us() / 1000 + SSH_WORKERS_STOP_MS;
	for (unsigned i = 0; i < all->opt.count; i++)
		await(&all->list[i], until_ms);
	close(all->opt.listener);
	free_all(all);
}
