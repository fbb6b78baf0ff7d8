/*
 * TLS: who is let in, who is trusted, and that bytes arrive whole whatever the records, the
 * keys and the sockets do meanwhile.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "certs.h"
#include "net.h"
#include "peer.h"
#include "rpc/conn.h"
#include "rpc/tls.h"
#include "support/leak.h"

#define ANY  "127.0.0.1:0"
#define MUCH ((uint64_t)50 << 20)

static const unsigned char alpn_h2[] = { 2, 'h', '2' };

/* Certificates of one test: two authorities that do not know each other. */
struct papers {
	struct certs_pair ca, other_ca;
	struct certs_pair server; /* for 127.0.0.1 and test.example */
	struct certs_pair client, stranger, expired;
};

struct scene {
	struct papers papers;
	struct rpc_tls *server, *client;
	struct net net;
	struct net_client conn;
};

static void make_papers(struct papers *p, struct leak *leak)
{
	const char *folder = leak_folder(leak);

	certs_authority(folder, "authority", &p->ca);
	certs_authority(folder, "other-authority", &p->other_ca);
	certs_issue(folder, "server", &p->ca, "DNS:test.example,IP:127.0.0.1", 3600, &p->server);
	certs_issue(folder, "client", &p->ca, "DNS:client", 3600, &p->client);
	certs_issue(folder, "stranger", &p->other_ca, "DNS:client", 3600, &p->stranger);
	certs_issue(folder, "expired", &p->ca, "DNS:client,IP:127.0.0.1", -60, &p->expired);
}

static void remove_papers(const struct papers *p)
{
	const struct certs_pair *const all[] = { &p->ca, &p->other_ca, &p->server, &p->client,
		&p->stranger, &p->expired };

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		certs_remove(all[i]);
}

static void begin_as(
    struct scene *s, struct leak *leak, const struct certs_pair *server, bool mutual)
{
	struct rpc_tls_options o = { 0 };
	struct err err;

	o.cert_file = server->cert;
	o.key_file = server->key;
	if (mutual)
		o.ca_file = s->papers.ca.cert;
	o.require_client_cert = mutual;
	(void)leak;
	s->server = rpc_tls_server(&o, &err);
	if (s->server == NULL)
		fail_msg("%s", err.text);
	net_open(&s->net, ANY, NULL, s->server);
}

static void begin(struct scene *s, struct leak *leak)
{
	memset(s, 0, sizeof(*s));
	make_papers(&s->papers, leak);
	begin_as(s, leak, &s->papers.server, false);
}

static void begin_mutual(struct scene *s, struct leak *leak)
{
	memset(s, 0, sizeof(*s));
	make_papers(&s->papers, leak);
	begin_as(s, leak, &s->papers.server, true);
}

/* ${pair} may be NULL: no certificate of its own. */
static void dial(
    struct scene *s, const struct certs_pair *ca, const char *name, const struct certs_pair *pair)
{
	const struct rpc_tls_options o = {
		.ca_file = ca->cert,
		.server_name = name,
		.cert_file = pair != NULL ? pair->cert : NULL,
		.key_file = pair != NULL ? pair->key : NULL,
	};
	struct err err;

	rpc_tls_free(s->client);
	s->client = rpc_tls_client(&o, &err);
	if (s->client == NULL)
		fail_msg("%s", err.text);
	net_connect(&s->net, &s->conn, s->client);
}

static void end(struct scene *s)
{
	if (s->conn.client != NULL)
		net_hang_up(&s->conn);
	net_close(&s->net);
	rpc_tls_free(s->client);
	rpc_tls_free(s->server);
	remove_papers(&s->papers);
}

static void expect_talk(struct scene *s)
{
	struct err err;
	char reply[64];

	if (net_unary(&s->conn, "/test/Echo", "hello", 5, reply, &err) != GRPC_OK)
		fail_msg("%s", err.text);
	assert_string_equal(reply, "hello");
}

/* ${part} may be NULL: how it learns of it is the system's. */
static void expect_refusal(struct scene *s, const char *part)
{
	net_wait(s->net.loop, &s->conn.closed);
	assert_int_equal(s->conn.why.code, GRPC_UNAVAILABLE);
	assert_false(s->conn.ready);
	if (part != NULL && strstr(s->conn.why.text, part) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", part, s->conn.why.text);
}

/* Whom a client trusts. */

static void a_server_that_is_trusted(void **state)
{
	struct scene s;

	begin(&s, *state);
	dial(&s, &s.papers.ca, NULL, NULL);
	expect_talk(&s);
	net_hang_up(&s.conn);
	dial(&s, &s.papers.ca, "test.example", NULL);
	expect_talk(&s);
	end(&s);
}

static void a_server_of_another_name(void **state)
{
	struct scene s;

	begin(&s, *state);
	dial(&s, &s.papers.ca, "other.example", NULL);
	expect_refusal(&s, "hostname mismatch");
	dial(&s, &s.papers.ca, "127.0.0.2", NULL);
	expect_refusal(&s, "IP address mismatch");
	end(&s);
}

static void a_server_of_another_authority(void **state)
{
	struct scene s;

	begin(&s, *state);
	dial(&s, &s.papers.other_ca, NULL, NULL);
	expect_refusal(&s, "local issuer certificate");
	end(&s);
}

static void a_server_whose_certificate_has_expired(void **state)
{
	struct scene s;

	memset(&s, 0, sizeof(s));
	make_papers(&s.papers, *state);
	begin_as(&s, *state, &s.papers.expired, false);
	dial(&s, &s.papers.ca, NULL, NULL);
	expect_refusal(&s, "expired");
	end(&s);
}

/* Calls that wait for the connection hear of it. */
static void a_call_of_a_connection_that_is_refused(void **state)
{
	struct net_call call;
	struct scene s;

	begin(&s, *state);
	dial(&s, &s.papers.other_ca, NULL, NULL);
	net_start(&s.conn, &call, "/test/Echo", NULL, 0);
	net_ask(&call, "secret", 6);
	net_expect(&s.net, &call, GRPC_UNAVAILABLE, "certificate");
	assert_int_equal(call.sent, 0);
	net_call_free(&call);
	end(&s);
}

/* Whom a server lets in. */

static void a_client_has_to_have_a_certificate(void **state)
{
	struct scene s;

	begin_mutual(&s, *state);
	dial(&s, &s.papers.ca, NULL, &s.papers.client);
	expect_talk(&s);
	net_hang_up(&s.conn);
	dial(&s, &s.papers.ca, NULL, NULL);
	expect_refusal(&s, NULL);
	dial(&s, &s.papers.ca, NULL, &s.papers.stranger);
	expect_refusal(&s, NULL);
	dial(&s, &s.papers.ca, NULL, &s.papers.expired);
	expect_refusal(&s, NULL);
	end(&s);
}

static void files_that_are_wrong_are_named(void **state)
{
	struct papers p;
	struct err err;

	make_papers(&p, *state);
	const struct {
		struct rpc_tls_options o;
		const char *part;
	} cases[] = {
		{ { .cert_file = p.server.cert }, "needs a certificate and a key" },
		{ { .cert_file = "/none.pem", .key_file = p.server.key }, "/none.pem" },
		{ { .cert_file = p.server.cert, .key_file = "/none.key" }, "/none.key" },
		{ { .cert_file = p.server.cert, .key_file = p.client.key }, p.client.key },
		{ { .cert_file = p.server.cert, .key_file = p.server.key, .ca_file = "/none.ca" },
		    "/none.ca" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_null(rpc_tls_server(&cases[i].o, &err));
		assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
		if (strstr(err.text, cases[i].part) == NULL)
			fail_msg("\"%s\" is not in \"%s\"", cases[i].part, err.text);
	}
	remove_papers(&p);
}

/* A client by hand. */

static SSL *open_ssl(const struct certs_pair *pair, const unsigned char *alpn, unsigned alpn_len)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	assert_non_null(ctx);
	if (pair != NULL) {
		assert_int_equal(SSL_CTX_use_certificate_chain_file(ctx, pair->cert), 1);
		assert_int_equal(SSL_CTX_use_PrivateKey_file(ctx, pair->key, SSL_FILETYPE_PEM), 1);
	}
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL *ssl = SSL_new(ctx);
	assert_non_null(ssl);
	SSL_CTX_free(ctx);
	if (alpn_len > 0)
		SSL_set_alpn_protos(ssl, alpn, alpn_len);
	SSL_set_connect_state(ssl);
	return ssl;
}

static bool is_eof(void *cookie)
{
	return ((struct peer *)cookie)->eof;
}

static bool is_answered(void *cookie)
{
	struct peer *p = cookie;

	return p->streams[0].ended || p->eof;
}

static void who_does_not_offer_h2_is_refused(void **state)
{
	static const unsigned char http1[] = "\x08http/1.1";
	struct scene s;
	struct peer peer;

	begin(&s, *state);
	for (size_t i = 0; i < 2; i++) {
		peer_connect(&peer, s.net.loop, s.net.bound, open_ssl(NULL, http1, i == 0 ? 9 : 0));
		peer_begin(&peer, true, PEER_WINDOW_MAX);
		peer_request(&peer, 1, "/test/Hold", NULL);
		net_until(s.net.loop, is_eof, &peer);
		assert_int_equal(peer.frames[PEER_SETTINGS], 0);
		peer_free(&peer);
	}
	assert_int_equal(s.net.opened, 0);
	end(&s);
}

static void h2_is_chosen_among_others(void **state)
{
	static const unsigned char many[] = "\x08http/1.1\x02h3\x02h2";
	const unsigned char *chosen;
	unsigned len;
	struct scene s;
	struct peer peer;

	begin(&s, *state);
	peer_connect(&peer, s.net.loop, s.net.bound, open_ssl(NULL, many, sizeof(many) - 1));
	peer_begin(&peer, true, PEER_WINDOW_MAX);
	peer_request(&peer, 1, "/test/Echo", NULL);
	peer_message(&peer, PEER_END_STREAM, 1, "x");
	net_until(s.net.loop, is_answered, &peer);
	SSL_get0_alpn_selected(peer.ssl, &chosen, &len);
	assert_int_equal(len, 2);
	assert_memory_equal(chosen, "h2", 2);
	assert_non_null(strstr(peer.streams[0].head, "grpc-status: 0"));
	peer_free(&peer);
	end(&s);
}

static void versions_before_1_2_are_refused(void **state)
{
	struct scene s;
	struct peer peer;
	SSL *ssl;

	begin(&s, *state);
	ssl = open_ssl(NULL, alpn_h2, sizeof(alpn_h2));
	SSL_set_security_level(ssl, 0);
	SSL_set_min_proto_version(ssl, TLS1_VERSION);
	SSL_set_max_proto_version(ssl, TLS1_1_VERSION);
	peer_connect(&peer, s.net.loop, s.net.bound, ssl);
	peer_begin(&peer, true, PEER_WINDOW_MAX);
	net_until(s.net.loop, is_eof, &peer);
	assert_int_equal(peer.frames[PEER_SETTINGS], 0);
	peer_free(&peer);
	end(&s);
}

/* What other clients do: the second connection goes on with the first one's session. */
static void resume(struct scene *s, const struct certs_pair *pair, int version)
{
	SSL_SESSION *session = NULL;
	struct peer peer;

	for (size_t i = 0; i < 2; i++) {
		SSL *ssl = open_ssl(pair, alpn_h2, sizeof(alpn_h2));

		SSL_set_max_proto_version(ssl, version);
		if (session != NULL)
			assert_int_equal(SSL_set_session(ssl, session), 1);
		peer_connect(&peer, s->net.loop, s->net.bound, ssl);
		peer_begin(&peer, true, PEER_WINDOW_MAX);
		peer_request(&peer, 1, "/test/Echo", NULL);
		peer_message(&peer, PEER_END_STREAM, 1, "x");
		net_until(s->net.loop, is_answered, &peer);
		assert_false(peer.eof);
		assert_non_null(strstr(peer.streams[0].head, "grpc-status: 0"));
		assert_int_equal(SSL_session_reused(ssl), i);
		SSL_SESSION_free(session);
		session = SSL_get1_session(ssl);
		assert_non_null(session);
		peer_free(&peer);
	}
	SSL_SESSION_free(session);
}

static void a_session_is_resumed(void **state)
{
	struct scene s;

	begin(&s, *state);
	resume(&s, NULL, TLS1_2_VERSION);
	resume(&s, NULL, TLS1_3_VERSION);
	end(&s);
}

static void a_session_with_a_certificate_is_resumed(void **state)
{
	struct scene s;

	begin_mutual(&s, *state);
	resume(&s, &s.papers.client, TLS1_2_VERSION);
	resume(&s, &s.papers.client, TLS1_3_VERSION);
	end(&s);
}

/* Bytes. */

static void much_both_ways(void **state)
{
	struct scene s;

	begin(&s, *state);
	dial(&s, &s.papers.ca, NULL, NULL);
	net_echo_many(&s.conn, MUCH);
	assert_in_range(s.net.stored, 1, 2 << 20);
	expect_talk(&s);
	end(&s);
}

/* Streams bytes by hand, asking for new keys of both sides now and then. */
struct stream {
	struct peer peer;
	uint64_t left, sum, next_update;
	unsigned updates;
};

#define PIECE ((size_t)16 << 10)

static bool stream_goes_on(void *cookie)
{
	struct stream *t = cookie;
	struct peer_stream *s = &t->peer.streams[0];
	uint8_t piece[PIECE];

	while (t->left > 0 && s->window >= (int64_t)PIECE && t->peer.window >= (int64_t)PIECE &&
	    t->peer.out_len < 64 * PIECE) {
		memset(piece, (int)(t->left / PIECE % 251), PIECE);
		t->sum = net_sum(t->sum, piece, PIECE);
		t->left -= PIECE;
		s->window -= (int64_t)PIECE;
		t->peer.window -= (int64_t)PIECE;
		peer_frame(
		    &t->peer, PEER_DATA, t->left == 0 ? PEER_END_STREAM : 0, 1, piece, PIECE);
	}
	if (t->left < t->next_update && SSL_is_init_finished(t->peer.ssl)) {
		t->next_update -= MUCH / 20;
		t->updates += SSL_key_update(t->peer.ssl, SSL_KEY_UPDATE_REQUESTED) == 1;
	}
	return is_answered(&t->peer);
}

static void new_keys_in_the_middle(void **state)
{
	struct stream t = { .left = MUCH / 2, .next_update = MUCH / 2 - MUCH / 20 };
	struct scene s;

	begin(&s, *state);
	peer_connect(&t.peer, s.net.loop, s.net.bound, open_ssl(NULL, alpn_h2, sizeof(alpn_h2)));
	peer_begin(&t.peer, true, 1 << 20);
	peer_request(&t.peer, 1, "/test/Stream", NULL);
	net_until(s.net.loop, stream_goes_on, &t);
	assert_false(t.peer.eof);
	assert_int_equal(t.peer.streams[0].data, MUCH / 2);
	assert_int_equal(t.peer.streams[0].sum, t.sum);
	assert_true(t.updates >= 5);
	peer_free(&t.peer);
	end(&s);
}

/* A wire between two sockets, which carries a byte whenever there is one. */
struct wire {
	struct wire_end {
		struct wire *wire;
		struct watch *watch;
		int fd, other;
	} ends[2];
	uint64_t carried;
};

static void on_wire(void *cookie, unsigned events)
{
	struct wire_end *e = cookie;
	char byte;
	ssize_t n = recv(e->fd, &byte, 1, MSG_PEEK);

	(void)events;
	watch_want(e->watch, WATCH_READ); /* after an error it has to be asked for again */
	if (n < 0 && errno == EAGAIN)
		return;
	if (n == 1) {
		/* The other end's socket may be full: the byte stays for the next time. */
		if (write(e->other, &byte, 1) == 1)
			e->wire->carried += (uint64_t)read(e->fd, &byte, 1);
		else if (errno == EPIPE)
			watch_want(e->watch, WATCH_NONE);
	} else {
		watch_want(e->watch, WATCH_NONE);
		shutdown(e->other, SHUT_WR);
	}
}

/* ${fds}: what the two ends of the wire are plugged into. */
static void wire_open(struct wire *w, struct loop *loop, int fds[2])
{
	struct err err;

	*w = (struct wire){ 0 };
	for (size_t i = 0; i < 2; i++) {
		int pair[2];

		assert_int_equal(
		    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
		fds[i] = pair[0];
		w->ends[i].wire = w;
		w->ends[i].fd = w->ends[!i].other = pair[1];
		w->ends[i].watch = watch_create(loop, pair[1], on_wire, &w->ends[i], &err);
		assert_non_null(w->ends[i].watch);
		watch_want(w->ends[i].watch, WATCH_READ);
	}
}

static void wire_close(struct wire *w)
{
	for (size_t i = 0; i < 2; i++) {
		watch_free(w->ends[i].watch);
		close(w->ends[i].fd);
	}
}

static void on_conn_call(void *cookie, struct rpc_call *call)
{
	(void)cookie;
	rpc_call_finish(call, NULL);
}

/* One end of the connection under test. */
struct side {
	bool ready, closed;
	struct err why;
};

static void conn_ready(void *cookie)
{
	((struct side *)cookie)->ready = true;
}

static void conn_closed(void *cookie, const struct err *why)
{
	struct side *side = cookie;

	side->closed = true;
	side->why = *why;
}

static const struct rpc_call_ops side_call = { .closed = conn_closed };

static void a_handshake_a_byte_at_a_time(void **state)
{
	static const struct conn_ops ops = {
		.call = on_conn_call, .ready = conn_ready, .closed = conn_closed
	};
	struct rpc_options options = rpc_options_default();
	struct rpc_conn *conns[2];
	struct side sides[2] = { 0 };
	struct scene s;
	struct err err;
	struct wire w;
	int fds[2];

	begin(&s, *state);
	const struct rpc_tls_options o = { .ca_file = s.papers.ca.cert };
	s.client = rpc_tls_client(&o, &err);
	assert_non_null(s.client);
	wire_open(&w, s.net.loop, fds);
	for (size_t i = 0; i < 2; i++) {
		const struct conn_options c = {
			.fd = fds[i],
			.is_server = i == 1,
			.tls = i == 1 ? s.server : s.client,
			.host = "test.example",
			.authority = "test.example",
			.options = &options,
			.ops = &ops,
			.cookie = &sides[i],
		};
		conns[i] = conn_create(s.net.loop, &c, &err);
		assert_non_null(conns[i]);
	}
	net_wait(s.net.loop, &sides[0].ready);
	net_wait(s.net.loop, &sides[1].ready);
	assert_true(w.carried > 1000);
	conn_close(conns[0], NULL);
	net_wait(s.net.loop, &sides[0].closed);
	net_wait(s.net.loop, &sides[1].closed); /* it hears of it through the wire */
	wire_close(&w);
	end(&s);
}

/* Of a server whose client says nothing, or begins a record; of a client whose server says
 * nothing, and which has a call already. */
static void a_handshake_that_does_not_end(void **state)
{
	static const struct conn_ops ops = {
		.call = on_conn_call, .ready = conn_ready, .closed = conn_closed
	};
	struct rpc_options options = rpc_options_default();
	struct scene s;
	struct err err;

	begin(&s, *state);
	const struct rpc_tls_options o = { .ca_file = s.papers.ca.cert };
	s.client = rpc_tls_client(&o, &err);
	assert_non_null(s.client);
	options.handshake_ms = 60;
	for (size_t i = 0; i < 3; i++) {
		struct side side = { 0 }, call = { 0 };
		int fds[2];

		assert_int_equal(
		    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
		const struct conn_options c = {
			.fd = fds[0],
			.is_server = i < 2,
			.tls = i < 2 ? s.server : s.client,
			.host = "test.example",
			.authority = "test.example",
			.options = &options,
			.ops = &ops,
			.cookie = &side,
		};
		uint64_t begun = loop_now_us();
		struct rpc_conn *conn = conn_create(s.net.loop, &c, &err);
		assert_non_null(conn);
		if (i == 1) /* the beginning of a record */
			assert_int_equal(write(fds[1], "\x16\3\1\2\0\1", 6), 6);
		if (i == 2)
			assert_non_null(
			    call_create(conn, "/test/Echo", NULL, 0, &side_call, &call, &err));
		net_wait(s.net.loop, &side.closed);
		assert_true(loop_now_us() - begun > 40000);
		assert_int_equal(side.why.code, GRPC_UNAVAILABLE);
		assert_non_null(strstr(side.why.text, "took too long for the TLS handshake"));
		if (i == 2) {
			assert_true(call.closed);
			assert_int_equal(call.why.code, GRPC_UNAVAILABLE);
		}
		close(fds[1]);
	}
	end(&s);
}

/* Noise where a handshake should be. */
static void noise_is_refused(void **state)
{
	struct scene s;
	struct peer peer;

	begin(&s, *state);
	peer_connect(&peer, s.net.loop, s.net.bound, NULL);
	peer_begin(&peer, true, PEER_WINDOW_MAX);
	net_until(s.net.loop, is_eof, &peer);
	peer_free(&peer);
	dial(&s, &s.papers.ca, NULL, NULL);
	expect_talk(&s);
	end(&s);
}

/* Both ends write to sockets whose other end is gone, with the signal as a program finds it. */
static void no_signal_for_a_broken_pipe(void **state)
{
	static uint8_t much[4 << 20];
	const struct sigaction ends_us = { .sa_handler = SIG_DFL };
	struct scene s;
	struct peer peer;
	struct net_call call;

	begin(&s, *state);
	sigaction(SIGPIPE, &ends_us, NULL);
	for (unsigned i = 0; i < 4; i++) {
		unsigned lost = s.net.lost;

		peer_connect(
		    &peer, s.net.loop, s.net.bound, open_ssl(NULL, alpn_h2, sizeof(alpn_h2)));
		peer_begin(&peer, true, PEER_WINDOW_MAX);
		peer_request(&peer, 1, "/test/Hold", NULL);
		net_wait_count(s.net.loop, &s.net.opened, i + 1);
		peer.deaf = true;
		assert_int_equal(rpc_call_copy(s.net.held, much, sizeof(much)), 0);
		net_run(s.net.loop, 5);
		peer_close(&peer); /* with bytes unread: a reset */
		net_wait_count(s.net.loop, &s.net.lost, lost + 1);
		peer_free(&peer);
	}
	dial(&s, &s.papers.ca, NULL, NULL);
	net_start(&s.conn, &call, "/test/Stream", NULL, 0);
	net_wait(s.net.loop, &s.conn.ready);
	assert_int_equal(rpc_call_copy(call.call, much, sizeof(much)), 0);
	net_drain(&s.net, 1);
	net_expect(&s.net, &call, GRPC_UNAVAILABLE, NULL);
	net_call_free(&call);
	end(&s);
	loop_ignore_sigpipe();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, net_setup, net_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_server_that_is_trusted),
		TEST(a_server_of_another_name),
		TEST(a_server_of_another_authority),
		TEST(a_server_whose_certificate_has_expired),
		TEST(a_call_of_a_connection_that_is_refused),
		TEST(a_client_has_to_have_a_certificate),
		TEST(files_that_are_wrong_are_named),
		TEST(who_does_not_offer_h2_is_refused),
		TEST(h2_is_chosen_among_others),
		TEST(versions_before_1_2_are_refused),
		TEST(a_session_is_resumed),
		TEST(a_session_with_a_certificate_is_resumed),
		TEST(much_both_ways),
		TEST(new_keys_in_the_middle),
		TEST(a_handshake_a_byte_at_a_time),
		TEST(a_handshake_that_does_not_end),
		TEST(noise_is_refused),
		TEST(no_signal_for_a_broken_pipe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
