#include "gateway/gateway.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "gateway/admit.h"
#include "gateway/health.h"
#include "gateway/service.h"
#include "gateway/watch.h"
#include "gateway/workspaces.h"

static const struct log_area area = { "gateway" };

#define WORKER_THREADS 4
#define WORKER_QUEUE   256
#define IDLE_CHECK_MS  20 /* while draining */

/* Posts travel at most so often between the loops before they come to rest. */
#define SETTLE_ROUNDS 4

/* Parts, in the order in which they need each other. */

static int make_loops(struct gateway *g, struct err *err)
{
	g->loops = calloc(g->options->loops, sizeof(struct loop *));
	if (g->loops == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	while (g->loop_count < g->options->loops) {
		if ((g->loops[g->loop_count] = loop_create((unsigned)g->loop_count, err)) == NULL)
			return -1;
		g->loop_count++;
	}
	return 0;
}

static int open_state(struct gateway *g, struct err *err)
{
	struct sandboxes_options opt = { .ready_ms = g->options->provision_ms };
	char path[sizeof(g->private_dir) + 16];

	snprintf(path, sizeof(path), "%s/gateway.db", g->private_dir);
	if ((g->store = store_open(path, err)) == NULL ||
	    (g->tokens = tokens_create(err)) == NULL ||
	    (g->directory = directory_create(err)) == NULL ||
	    (g->workspaces = workspaces_create(g->store, err)) == NULL)
		return -1;
	if (ssh_open(&g->ssh, g, err) != 0)
		return -1;
	opt.ssh = g->ssh.sessions;
	opt.host_key_fingerprint = g->ssh.key.fingerprint;
	opt.loop = g->loops[0];
	opt.store = g->store;
	opt.tokens = g->tokens;
	opt.directory = g->directory;
	if ((g->sandboxes = sandboxes_create(&opt, err)) == NULL)
		return -1;
	return sandboxes_load(g->sandboxes, err) == 0 ? ssh_load(&g->ssh, g, err) : -1;
}

/* Tunnels are of sandboxes and of SSH endpoints. */

static void on_tunnel_up(void *cookie, const char *id, const char *instance_id, const char *version)
{
	struct gateway *g = cookie;

	if (!ssh_tunnel_changed(&g->ssh, id, true))
		sandboxes_session_up(g->sandboxes, id, instance_id, version);
}

static void on_tunnel_down(void *cookie, const char *id, const struct err *why)
{
	struct gateway *g = cookie;

	if (!ssh_tunnel_changed(&g->ssh, id, false))
		sandboxes_session_down(g->sandboxes, id, why);
}

static int make_server(struct gateway *g, struct err *err)
{
	struct tunnel_options tunnels = {
		.loops = g->loops,
		.loop_count = g->loop_count,
		.events = { on_tunnel_up, on_tunnel_down, g },
	};
	struct rpc_server_options server = {
		.loops = g->loops,
		.loop_count = g->loop_count,
		.app = g,
		.admit = admit_call,
	};
	struct rpc_method *methods;

	if ((g->watches = watches_create(err)) == NULL ||
	    (g->health = health_create(g->loops, g->loop_count, err)) == NULL ||
	    (g->tunnels = tunnels_create(&tunnels, err)) == NULL ||
	    (methods = service_methods(&server.method_count, err)) == NULL)
		return -1;
	server.methods = methods;
	g->server = rpc_server_create(&server, err);
	free(methods);
	return g->server != NULL ? 0 : -1;
}

/* Addresses. */

/* The numbers of "localhost:PORT", so that what is checked is what is listened on. */
static int resolve(const char *text, char out[static ADDRESS_TEXT_MAX], struct err *err)
{
	struct address a;

	if (address_parse(text, &a, err) != 0)
		return -1;
	if (a.is_unix || a.is_numeric) {
		snprintf(out, ADDRESS_TEXT_MAX, "%s", text);
		return 0;
	}
	if (address_resolve(&a, err) != 0)
		return -1;
	if (!address_is_loopback(&a))
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "%s is not a loopback address here", text);
	address_text((const struct sockaddr *)&a.sa, a.sa_len, out);
	return 0;
}

static bool has_port_zero(const char *text)
{
	struct address a;
	struct err err;

	return address_parse(text, &a, &err) == 0 && !a.is_unix && a.port == 0;
}

/* Supervisors and clients have the address of before: a gateway that was told to choose
 * a port chooses the same again, if it can have it. */
static bool listen_as_before(
    struct gateway *g, const char *setting, char bound[static ADDRESS_TEXT_MAX])
{
	char *before;
	struct err err;
	bool done = false;

	if (store_setting_get(g->store, setting, &before, &err) != 0 || before == NULL)
		return false;
	done = rpc_server_listen(g->server, before, NULL, bound, ADDRESS_TEXT_MAX, &err) == 0;
	if (!done)
		log_warn(&area, "address_lost", LOG_STR("address", before), LOG_ERR(&err));
	free(before);
	return done;
}

static int listen_on(
    struct gateway *g, const char *text, char bound[static ADDRESS_TEXT_MAX], struct err *err)
{
	char setting[ADDRESS_TEXT_MAX + 16], address[ADDRESS_TEXT_MAX];

	if (resolve(text, address, err) != 0)
		return -1;
	snprintf(setting, sizeof(setting), "listen %s", address);
	if (!has_port_zero(address))
		return rpc_server_listen(g->server, address, NULL, bound, ADDRESS_TEXT_MAX, err);
	if (listen_as_before(g, setting, bound))
		return 0;
	if (rpc_server_listen(g->server, address, NULL, bound, ADDRESS_TEXT_MAX, err) != 0)
		return -1;
	return store_setting_set(g->store, setting, bound, err);
}

/* Supervisors dial the first TCP address: it is in reach of every sandbox, which a
 * path may not be. */
static int listen_all(struct gateway *g, struct err *err)
{
	bool is_unix = true;

	for (size_t i = 0; i < g->options->listen.count; i++) {
		char bound[ADDRESS_TEXT_MAX];

		if (listen_on(g, g->options->listen.item[i], bound, err) != 0)
			return err_wrap(err, "listen on %s", g->options->listen.item[i]);
		log_info(&area, "listening", LOG_STR("address", bound));
		if (g->endpoint[0] != '\0' && (!is_unix || strncmp(bound, "unix:", 5) == 0))
			continue;
		is_unix = strncmp(bound, "unix:", 5) == 0;
		snprintf(g->endpoint, sizeof(g->endpoint), "%s%s", is_unix ? "" : "http://", bound);
	}
	return 0;
}

static int open_driver(struct gateway *g, struct err *err)
{
	struct workers_options workers = { .threads = WORKER_THREADS, .max_queued = WORKER_QUEUE };
	struct driver_env env = {
		.loop = g->loops[0],
		.state_dir = g->state_dir,
		.private_dir = g->private_dir,
		.supervisor_path = g->options->supervisor,
		.gateway_url = g->endpoint,
		.log_level = g->options->log_level_text,
		.changed = sandboxes_driver_changed,
		.cookie = g->sandboxes,
	};

	if ((g->workers = workers_create(&workers, err)) == NULL)
		return -1;
	env.workers = g->workers;
	g->driver = driver_find(g->options->driver);
	snprintf(g->state_dir, sizeof(g->state_dir), "%s/%s", g->private_dir, g->driver->name);
	return g->driver->open(&g->driver_self, &env, err);
}

struct gateway *gateway_create(const struct options *options, const char *data_dir, struct err *err)
{
	struct gateway *g = calloc(1, sizeof(*g));

	if (g == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	g->options = options;
	snprintf(g->private_dir, sizeof(g->private_dir), "%s", data_dir);
	if (make_loops(g, err) == 0 && open_state(g, err) == 0 && make_server(g, err) == 0 &&
	    listen_all(g, err) == 0 && ssh_listen(&g->ssh, g, err) == 0 && open_driver(g, err) == 0)
		return g;
	gateway_free(g);
	return NULL;
}

/* Running. */

struct thread {
	struct post post; /* first */
	sem_t runs;
	pthread_t id;
	struct loop *loop;
};

static void *thread_main(void *arg)
{
	loop_run(((struct thread *)arg)->loop);
	return NULL;
}

static void tell_runs(struct post *post)
{
	sem_post(&((struct thread *)post)->runs);
}

/* Until its loop runs, it is for everybody as if it were theirs (loop_is_current()). */
static int start_thread(struct thread *t, struct loop *loop)
{
	t->loop = loop;
	t->post.run = tell_runs;
	sem_init(&t->runs, 0, 0);
	loop_post(loop, &t->post);
	int failed = pthread_create(&t->id, NULL, thread_main, t);
	if (failed != 0)
		loop_unpost(loop, &t->post);
	while (failed == 0 && sem_wait(&t->runs) != 0)
		continue;
	sem_destroy(&t->runs);
	return failed;
}

static void end_threads(struct thread *threads, size_t count)
{
	for (size_t i = 0; i < count; i++)
		loop_stop(threads[i].loop);
	for (size_t i = 0; i < count; i++)
		pthread_join(threads[i].id, NULL);
}

/* One for each loop but the first. Signals are the first's. */
static int start_threads(struct gateway *g, struct thread *threads, struct err *err)
{
	sigset_t all, old;
	size_t started = 0;
	int failed = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (; failed == 0 && started + 1 < g->loop_count; started += failed == 0)
		failed = start_thread(&threads[started], g->loops[started + 1]);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (failed == 0)
		return 0;
	end_threads(threads, started);
	return err_sys(err, failed, "start a thread for an event loop");
}

struct ready {
	struct post post;
	void (*run)(void *cookie);
	void *cookie;
};

static void tell_ready(struct post *post)
{
	struct ready *r = (struct ready *)post;

	r->run(r->cookie);
}

int gateway_run(struct gateway *g, void (*ready)(void *cookie), void *cookie, struct err *err)
{
	struct thread *threads = calloc(g->loop_count, sizeof(*threads));
	struct ready first = { .post.run = tell_ready, .run = ready, .cookie = cookie };

	if (threads == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	sandboxes_reconcile(g->sandboxes, g->driver, g->driver_self, g->tunnels);
	ssh_start(&g->ssh, g);
	loop_post(g->loops[0], &first.post);
	if (start_threads(g, threads, err) != 0) {
		free(threads);
		return -1;
	}
	loop_run(g->loops[0]);
	end_threads(threads, g->loop_count - 1);
	free(threads);
	return 0;
}

void gateway_log_counters(struct gateway *g)
{
	struct rpc_server_stats server;
	struct tunnel_stats tunnels;
	struct ssh_sessions_stats ssh;

	ssh_sessions_stats(g->ssh.sessions, &ssh);
	rpc_server_stats(g->server, &server);
	tunnels_stats(g->tunnels, &tunnels);
	log_info(&area, "counters", LOG_U64("connections", server.connections),
	    LOG_U64("connections_open", server.open_connections),
	    LOG_U64("connections_refused", server.refused), LOG_U64("floods", server.floods),
	    LOG_U64("calls", server.calls), LOG_U64("sessions_open", tunnels.sessions),
	    LOG_U64("channels", tunnels.opened), LOG_U64("channels_open", tunnels.channels),
	    LOG_U64("channels_unclaimed", tunnels.unclaimed),
	    LOG_U64("channels_expired", tunnels.expired),
	    LOG_U64("channels_refused", tunnels.refused),
	    LOG_U64("channels_cross_loop", tunnels.cross_loop), LOG_U64("ssh_sessions", ssh.made),
	    LOG_U64("ssh_sessions_live", ssh.live), LOG_U64("ssh_sessions_expired", ssh.expired),
	    LOG_U64("ssh_sessions_revoked", ssh.revoked),
	    LOG_U64("ssh_connections_open", ssh.connections),
	    LOG_U64("ssh_connections_refused", ssh.refused));
}

/* Ending. */

static const struct err leaving = { .code = GRPC_UNAVAILABLE,
	.text = "the gateway is shutting down" };

/* Tunnels are calls that never end by themselves: they go when nothing uses them. */
static void drop_idle_tunnels(void *cookie)
{
	struct gateway *g = cookie;
	struct tunnel_stats stats;

	tunnels_stats(g->tunnels, &stats);
	if (stats.channels == 0 && stats.unclaimed == 0) {
		sandboxes_drop_sessions(g->sandboxes, &leaving);
		ssh_drop(&g->ssh, g, &leaving);
	}
	timer_start(g->idle_check, IDLE_CHECK_MS);
}

static void on_drained(void *cookie)
{
	struct gateway *g = cookie;

	timer_stop(g->idle_check);
	gateway_log_counters(g);
	loop_stop(g->loops[0]);
}

void gateway_stop(struct gateway *g)
{
	if (g->idle_check != NULL)
		return;
	log_info(&area, "stopping", LOG_U64("wait_ms", GATEWAY_DRAIN_MS));
	health_end(g->health);
	watches_end(g->watches, &leaving);
	ssh_end(&g->ssh, &leaving);
	sandboxes_stop_work(g->sandboxes);
	g->idle_check = timer_create_on(g->loops[0], drop_idle_tunnels, g);
	if (g->idle_check != NULL)
		timer_start(g->idle_check, 0);
	rpc_server_drain(g->server, GATEWAY_DRAIN_MS, on_drained, g);
}

/* Runs what has been posted to a loop that no thread runs any more. */
static void run_out(struct post *post)
{
	loop_stop(((struct ready *)post)->cookie);
}

static void settle(struct gateway *g)
{
	for (size_t round = 0; round < SETTLE_ROUNDS; round++) {
		for (size_t i = g->loop_count; i-- > 0;) {
			struct ready last = { .post.run = run_out, .cookie = g->loops[i] };

			loop_post(g->loops[i], &last.post);
			loop_run(g->loops[i]);
		}
	}
}

void gateway_free(struct gateway *g)
{
	if (g == NULL)
		return;
	settle(g);
	rpc_server_free(g->server);
	tunnels_free(g->tunnels);
	workers_free(g->workers);
	settle(g); /* what the workers have said last */
	sandboxes_free(g->sandboxes);
	if (g->driver_self != NULL)
		g->driver->close(g->driver_self);
	timer_free(g->idle_check);
	ssh_close(&g->ssh);
	watches_free(g->watches);
	health_free(g->health);
	workspaces_free(g->workspaces);
	directory_free(g->directory);
	tokens_free(g->tokens);
	store_close(g->store);
	for (size_t i = 0; i < g->loop_count; i++)
		loop_free(g->loops[i]);
	free(g->loops);
	free(g);
}
