#include "gateway/ssh_attend.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/log.h"
#include "base/map.h"
#include "gateway/message.h"
#include "gateway/ssh_access.h"
#include "proto/codec.h"
#include "rpc/limits.h"
#include "rpc/reader.h"
#include "towline/v1/ssh.pb-c.h"

static const struct log_area area = { "gateway.ssh" };

struct ended {
	char id[SSH_NAME_ID_MAX + 1];
	enum ssh_end why;
};

struct connection {
	uint64_t bytes_in, bytes_out; /* counted so far */
	char session[SSH_NAME_ID_MAX + 1];
};

struct stream {
	struct ssh_attends *all;
	char id[NAMES_ID_MAX + 1]; /* the endpoint's */

	/* The stream's loop. */
	struct loop *loop;
	struct rpc_call *call; /* NULL: closed */
	struct rpc_reader reader;
	struct timer *hello_timer;
	struct map *connections; /* by number */
	bool has_hello, finished;

	/* Whoever has the lock. */
	TAILQ_ENTRY(stream) link;
	struct post post; /* to the stream's loop: there is news */
	bool posted;      /* it is on its way; it frees what has closed meanwhile */
	struct ended *news;
	size_t news_count, news_cap;
	struct err end; /* the stream is to end */
};

struct ssh_attends {
	struct ssh_sessions *sessions;
	struct ssh_endpoints *endpoints;
	pthread_mutex_t lock;
	TAILQ_HEAD(, stream) streams;
	size_t count;
	struct err ending;
};

#define STREAM_OF(post) ((struct stream *)((char *)(post)-offsetof(struct stream, post)))

/* What is counted. The stream's loop. */

static bool drop_connection(void *cookie, const char *number, void *value)
{
	struct stream *s = cookie;
	struct connection *c = value;

	(void)number;
	ssh_access_closed(s->all->sessions, c->session);
	free(c);
	return true;
}

static void drop_connections(struct stream *s)
{
	ssh_endpoints_add_connections(s->all->endpoints, s->id, -(int)map_count(s->connections));
	map_each(s->connections, drop_connection, s);
	map_free(s->connections);
}

static void stream_free(struct stream *s)
{
	timer_free(s->hello_timer);
	rpc_reader_free(&s->reader);
	free(s->news);
	free(s);
}

static void finish(struct stream *s, const struct err *why)
{
	if (s->finished)
		return;
	s->finished = true;
	timer_stop(s->hello_timer);
	if (why != NULL)
		log_warn(&area, "endpoint_dropped", LOG_STR("endpoint", s->id), LOG_ERR(why));
	rpc_call_finish(s->call, why);
}

/* Telling. */

static int say_ended(struct stream *s, const char *id, enum ssh_end why)
{
	Towline__V1__SshEndpointEvent event = TOWLINE__V1__SSH_ENDPOINT_EVENT__INIT;
	Towline__V1__SshSessionEnded ended = TOWLINE__V1__SSH_SESSION_ENDED__INIT;
	size_t len;
	uint8_t *packed;
	int result;

	if (rpc_call_queued(s->call) > SSH_ATTEND_QUEUE_MAX)
		return -1;
	ended.session_id = (char *)id;
	ended.reason = (char *)ssh_end_text(why);
	event.event_case = TOWLINE__V1__SSH_ENDPOINT_EVENT__EVENT_ENDED;
	event.ended = &ended;
	if ((packed = codec_pack_new(&event.base, &len)) == NULL)
		return -1;
	result = rpc_call_send(s->call, packed, len);
	free(packed);
	return result;
}

static void say_all(struct stream *s, const struct ended *news, size_t count)
{
	struct err err;

	for (size_t i = 0; i < count && !s->finished; i++) {
		if (say_ended(s, news[i].id, news[i].why) == 0)
			continue;
		err_set(&err, GRPC_RESOURCE_EXHAUSTED,
		    "Attend: the endpoint does not read; begin again, and report what you have");
		finish(s, &err);
	}
}

/* There is news, or the stream is to end. */
static void on_news(struct post *post)
{
	struct stream *s = STREAM_OF(post);
	struct ended *news;
	struct err end;
	size_t count;

	pthread_mutex_lock(&s->all->lock);
	s->posted = false;
	news = s->news;
	count = s->news_count;
	s->news = NULL;
	s->news_count = s->news_cap = 0;
	end = s->end;
	pthread_mutex_unlock(&s->all->lock);
	if (s->call == NULL) {
		free(news);
		stream_free(s);
		return;
	}
	say_all(s, news, count);
	free(news);
	if (end.code != GRPC_OK)
		finish(s, &end);
}

/* These under the lock. */

static void wake(struct stream *s)
{
	if (s->posted)
		return;
	s->posted = true;
	loop_post(s->loop, &s->post);
}

static void end_stream(struct stream *s, const struct err *why)
{
	if (s->end.code == GRPC_OK)
		s->end = *why;
	wake(s);
}

static void add_news(struct stream *s, const char *id, enum ssh_end why)
{
	static const struct err behind = {
		.code = GRPC_RESOURCE_EXHAUSTED,
		.text =
		    "Attend: too much has happened at once; begin again, and report what you have"
	};

	if (s->news_count == s->news_cap) {
		size_t cap = s->news_cap == 0 ? 16 : s->news_cap * 2;
		struct ended *news =
		    cap > SSH_ATTEND_EVENTS_MAX ? NULL : realloc(s->news, cap * sizeof(*news));

		if (news == NULL) {
			end_stream(s, &behind);
			return;
		}
		s->news = news;
		s->news_cap = cap;
	}
	snprintf(s->news[s->news_count].id, sizeof(s->news[0].id), "%s", id);
	s->news[s->news_count++].why = why;
	wake(s);
}

void ssh_attends_tell(struct ssh_attends *all, const char *session_id, enum ssh_end why)
{
	struct stream *s;

	pthread_mutex_lock(&all->lock);
	TAILQ_FOREACH(s, &all->streams, link)
	add_news(s, session_id, why);
	pthread_mutex_unlock(&all->lock);
}

void ssh_attends_end(struct ssh_attends *all, const struct err *why)
{
	struct stream *s;

	pthread_mutex_lock(&all->lock);
	all->ending = *why;
	TAILQ_FOREACH(s, &all->streams, link)
	end_stream(s, why);
	pthread_mutex_unlock(&all->lock);
}

/* Reports. */

static int take_hello(struct stream *s, const Towline__V1__SshEndpointHello *hello, struct err *err)
{
	static const struct err newer = { .code = GRPC_ABORTED,
		.text = "Attend: the endpoint has begun another" };
	struct stream *other;

	if (s->has_hello)
		return err_set(err, GRPC_INVALID_ARGUMENT, "Attend: a second hello");
	s->has_hello = true;
	timer_stop(s->hello_timer);
	pthread_mutex_lock(&s->all->lock);
	TAILQ_FOREACH(other, &s->all->streams, link)
	if (other != s && strcmp(other->id, s->id) == 0)
		end_stream(other, &newer);
	pthread_mutex_unlock(&s->all->lock);
	ssh_endpoints_attends(s->all->endpoints, s->id, true, loop_now_us() / 1000);
	log_info(&area, "endpoint_attends", LOG_STR("endpoint", s->id),
	    LOG_STR("instance", hello->instance_id));
	return 0;
}

static void number_text(uint64_t number, char text[static 24])
{
	snprintf(text, 24, "%" PRIu64, number);
}

static int take_opened(
    struct stream *s, const Towline__V1__SshConnectionOpened *opened, struct err *err)
{
	struct connection *c = calloc(1, sizeof(*c));
	enum ssh_end why;
	char number[24];

	number_text(opened->connection, number);
	if (map_count(s->connections) >= SSH_ATTEND_CONNECTIONS_MAX) {
		free(c);
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "Attend: more than %d connections",
		    SSH_ATTEND_CONNECTIONS_MAX);
	}
	if (c == NULL || map_put(s->connections, number, c) != 0) {
		bool twice = map_get(s->connections, number) != NULL;

		free(c);
		return twice ? err_set(err, GRPC_INVALID_ARGUMENT,
				   "Attend: connection %s was opened twice", number)
			     : err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	}
	snprintf(c->session, sizeof(c->session), "%s", opened->session_id);
	ssh_endpoints_add_connections(s->all->endpoints, s->id, 1);
	why = ssh_access_opened(s->all->sessions, c->session);
	log_info(&area, "connection_opened", LOG_STR("endpoint", s->id),
	    LOG_U64("connection", opened->connection), LOG_STR("session", c->session),
	    LOG_STR("peer", opened->peer));
	if (why != SSH_END_NONE && say_ended(s, c->session, why) != 0)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "Attend: the endpoint does not read");
	return 0;
}

/* Bytes since it was opened; what is less than before is a mistake that counts nothing. */
static void take_usage(struct stream *s, const Towline__V1__SshConnectionUsage *usage)
{
	char number[24];
	struct connection *c;

	number_text(usage->connection, number);
	c = map_get(s->connections, number);
	if (c == NULL || usage->bytes_in < c->bytes_in || usage->bytes_out < c->bytes_out)
		return;
	ssh_access_count(s->all->sessions, c->session, usage->bytes_in - c->bytes_in,
	    usage->bytes_out - c->bytes_out);
	c->bytes_in = usage->bytes_in;
	c->bytes_out = usage->bytes_out;
}

static void take_closed(struct stream *s, const Towline__V1__SshConnectionClosed *closed)
{
	char number[24];
	struct connection *c;

	number_text(closed->connection, number);
	if ((c = map_remove(s->connections, number)) == NULL)
		return;
	ssh_endpoints_add_connections(s->all->endpoints, s->id, -1);
	ssh_access_closed(s->all->sessions, c->session);
	log_info(&area, "connection_closed", LOG_STR("endpoint", s->id),
	    LOG_U64("connection", closed->connection), LOG_STR("session", c->session),
	    LOG_U64("bytes_in", c->bytes_in), LOG_U64("bytes_out", c->bytes_out));
	free(c);
}

static int take(struct stream *s, const Towline__V1__SshEndpointReport *report, struct err *err)
{
	if (!s->has_hello && report->report_case != TOWLINE__V1__SSH_ENDPOINT_REPORT__REPORT_HELLO)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "Attend: the first report must be hello");
	switch (report->report_case) {
	case TOWLINE__V1__SSH_ENDPOINT_REPORT__REPORT_HELLO:
		return take_hello(s, report->hello, err);
	case TOWLINE__V1__SSH_ENDPOINT_REPORT__REPORT_OPENED:
		return take_opened(s, report->opened, err);
	case TOWLINE__V1__SSH_ENDPOINT_REPORT__REPORT_USAGE:
		take_usage(s, report->usage);
		return 0;
	case TOWLINE__V1__SSH_ENDPOINT_REPORT__REPORT_CLOSED:
		take_closed(s, report->closed);
		return 0;
	default:
		return 0; /* what a newer endpoint may say */
	}
}

static int take_bytes(struct stream *s, const uint8_t *data, size_t len, struct err *err)
{
	Towline__V1__SshEndpointReport *report =
	    message_unpack(&towline__v1__ssh_endpoint_report__descriptor, data, len, err);
	int result = report != NULL ? take(s, report, err) : -1;

	codec_free(report);
	return result;
}

static void on_data(void *cookie, struct slice bytes)
{
	struct stream *s = cookie;
	const uint8_t *message;
	struct err err;
	size_t len;
	int got;

	if (s->finished) {
		slice_release(&bytes);
		return;
	}
	rpc_call_credit(s->call, bytes.len);
	got = rpc_reader_push(&s->reader, bytes, &err);
	while (got == 0 && !s->finished) {
		got = rpc_reader_next(&s->reader, &message, &len, &err);
		if (got == 0)
			return;
		if (got > 0)
			got = take_bytes(s, message, len, &err);
	}
	if (got < 0)
		finish(s, &err);
}

/* The endpoint ends well. */
static void on_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	(void)status;
	(void)trailers;
	finish(cookie, NULL);
}

static void on_closed(void *cookie, const struct err *why)
{
	struct stream *s = cookie;
	bool posted;

	s->call = NULL;
	log_info(&area, "endpoint_left", LOG_STR("endpoint", s->id), LOG_ERR(why));
	if (s->has_hello)
		ssh_endpoints_attends(s->all->endpoints, s->id, false, loop_now_us() / 1000);
	drop_connections(s);
	pthread_mutex_lock(&s->all->lock);
	TAILQ_REMOVE(&s->all->streams, s, link);
	s->all->count--;
	posted = s->posted;
	pthread_mutex_unlock(&s->all->lock);
	if (!posted)
		stream_free(s);
}

static void on_late(void *cookie)
{
	struct err err;

	err_set(&err, GRPC_DEADLINE_EXCEEDED, "Attend: hello did not come within %d s",
	    SSH_ATTEND_HELLO_MS / 1000);
	finish(cookie, &err);
}

static const struct rpc_call_ops call_ops = {
	.data = on_data,
	.end = on_end,
	.closed = on_closed,
};

static struct stream *stream_create(
    struct ssh_attends *all, struct rpc_call *call, const char *id, struct err *err)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (s == NULL || (s->connections = map_create()) == NULL ||
	    (s->hello_timer = timer_create_on(rpc_call_loop(call), on_late, s)) == NULL) {
		if (s != NULL)
			map_free(s->connections);
		free(s);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	s->all = all;
	s->loop = rpc_call_loop(call);
	s->call = call;
	s->post.run = on_news;
	rpc_reader_init(&s->reader, SSH_ATTEND_MESSAGE_MAX);
	snprintf(s->id, sizeof(s->id), "%s", id);
	return s;
}

static int enlist(struct ssh_attends *all, struct stream *s, struct err *err)
{
	int result = 0;

	pthread_mutex_lock(&all->lock);
	if (all->ending.code != GRPC_OK) {
		*err = all->ending;
		result = -1;
	} else if (all->count >= SSH_ATTEND_STREAMS_MAX) {
		result = err_set(err, GRPC_RESOURCE_EXHAUSTED, "more than %d streams of endpoints",
		    SSH_ATTEND_STREAMS_MAX);
	} else {
		TAILQ_INSERT_TAIL(&all->streams, s, link);
		all->count++;
	}
	pthread_mutex_unlock(&all->lock);
	return result;
}

void ssh_attend(struct ssh_attends *all, struct rpc_call *call, const char *id)
{
	struct err err;
	struct stream *s = stream_create(all, call, id, &err);

	if (s == NULL || enlist(all, s, &err) != 0) {
		if (s != NULL) {
			map_free(s->connections);
			stream_free(s);
		}
		rpc_call_finish(call, &err);
		return;
	}
	timer_start(s->hello_timer, SSH_ATTEND_HELLO_MS);
	/* On this connection are the calls of all its clients. */
	rpc_conn_allow_streams(rpc_call_conn(call), RPC_MAX_TUNNEL_STREAMS);
	rpc_call_bind(call, &call_ops, s);
}

struct ssh_attends *ssh_attends_create(
    struct ssh_sessions *sessions, struct ssh_endpoints *endpoints, struct err *err)
{
	struct ssh_attends *all = calloc(1, sizeof(*all));

	if (all == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	all->sessions = sessions;
	all->endpoints = endpoints;
	pthread_mutex_init(&all->lock, NULL);
	TAILQ_INIT(&all->streams);
	return all;
}

void ssh_attends_free(struct ssh_attends *all)
{
	if (all == NULL)
		return;
	assert(TAILQ_EMPTY(&all->streams));
	pthread_mutex_destroy(&all->lock);
	free(all);
}
