/*
 * Who is it? The gateway knows; here is only made sure that what it is asked about is what
 * the client has proved. One request at a time: while the gateway is asked, nothing is read.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "rpc/ssh_key.h"
#include "sshd/client_parts.h"
#include "sshd/user.h"

#define AUTH_REQUESTS_MAX 32 /* of any kind, also those that offer a key and never sign */

/* libssh would rather have callbacks, which have to know at once. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

static const struct log_area area = { "auth" };

static void auth_answer(
    void *cookie, const Towline__V1__AuthenticateSshResponse *reply, const struct err *why);

void auth_free(struct auth *a)
{
	gate_ask_cancel(a->ask);
	ssh_message_free(a->asked);
	ssh_message_free(a->kept);
	*a = (struct auth){ 0 };
}

/* Answers. */

static void keep(struct auth *a, ssh_message msg)
{
	ssh_message_free(a->kept);
	a->kept = msg;
}

static void too_many(struct client *c)
{
	struct err err;

	err_set(&err, GRPC_UNAUTHENTICATED,
	    "too many authentication failures; name the right key with -i and IdentitiesOnly=yes");
	client_fail(c, &err);
}

/* Says no to ${msg}, which it takes, or to one that libssh kept to itself. */
static void refuse(struct client *c, ssh_message msg, const char *why)
{
	struct auth *a = &c->auth;

	if (msg != NULL)
		keep(a, msg);
	log_info(&area, "auth_refused", LOG_U64("client", c->id), LOG_STR("peer", c->peer),
	    LOG_STR("user", a->kept != NULL ? ssh_message_auth_user(a->kept) : NULL),
	    LOG_STR("reason", why));
	c->sshd->counters.auth_failed++;
	a->failures++;
	/* Whoever begins with what libssh drops is not answered, but told to come again. */
	if (a->failures >= c->sshd->limits.auth_tries || a->kept == NULL)
		too_many(c);
	else
		ssh_message_reply_default(a->kept);
}

bool auth_count(struct client *c)
{
	if (++c->auth.requests <= AUTH_REQUESTS_MAX)
		return true;
	too_many(c);
	return false;
}

/* What `none` is for: which methods are there? */
static void answer_methods(struct client *c, ssh_message msg)
{
	ssh_message_reply_default(msg);
	keep(&c->auth, msg);
}

/* Asking. */

static void ask(struct client *c, ssh_message msg, Towline__V1__AuthenticateSshRequest *q)
{
	struct err err;

	q->peer = c->peer;
	c->auth.asked_ms = loop_now_ms(c->sshd->loop);
	c->auth.asked = msg;
	c->auth.ask = gate_authenticate(c->sshd->gate, q, auth_answer, c, &err);
	if (c->auth.ask != NULL)
		return;
	c->auth.asked = NULL;
	keep(&c->auth, msg);
	client_fail(c, &err);
}

static bool is_signed(ssh_message msg)
{
	return ssh_message_auth_publickey_state(msg) == SSH_PUBLICKEY_STATE_VALID;
}

/* The key of this very request, as SSH encodes it. */
static int read_key(ssh_message msg, struct ssh_key *key, struct err *err)
{
	ssh_key theirs = ssh_message_auth_pubkey(msg);
	const char *type = ssh_key_type_to_char(ssh_key_type(theirs));
	char line[SSH_KEY_LINE_MAX];
	char *base64 = NULL;

	if (type == NULL || ssh_pki_export_pubkey_base64(theirs, &base64) != SSH_OK)
		return err_set(err, GRPC_INVALID_ARGUMENT, "the key cannot be read");
	int len = snprintf(line, sizeof(line), "%s %s", type, base64);
	ssh_string_free_char(base64);
	if (len < 0 || (size_t)len >= sizeof(line))
		return err_set(err, GRPC_INVALID_ARGUMENT, "the key is too long");
	return ssh_key_parse_line(line, key, err);
}

static void ask_about_key(struct client *c, ssh_message msg)
{
	Towline__V1__AuthenticateSshRequest q = TOWLINE__V1__AUTHENTICATE_SSH_REQUEST__INIT;
	enum ssh_publickey_state_e state = ssh_message_auth_publickey_state(msg);
	const char *user = ssh_message_auth_user(msg);
	struct ssh_key key;
	struct err err;

	if (state != SSH_PUBLICKEY_STATE_NONE && state != SSH_PUBLICKEY_STATE_VALID) {
		refuse(c, msg, "the signature is wrong");
	} else if (user_parse(user, &err) != 0 || read_key(msg, &key, &err) != 0) {
		refuse(c, msg, err.text);
	} else {
		q.username = (char *)user;
		q.public_key = (ProtobufCBinaryData){ .data = key.blob, .len = key.len };
		q.signed_ = is_signed(msg);
		ask(c, msg, &q);
	}
}

static void ask_about_token(struct client *c, ssh_message msg)
{
	Towline__V1__AuthenticateSshRequest q = TOWLINE__V1__AUTHENTICATE_SSH_REQUEST__INIT;

	q.session_id = c->token_session;
	ask(c, msg, &q);
}

void auth_message(struct client *c, ssh_message msg)
{
	int method = ssh_message_subtype(msg);

	c->auth.got++;
	if (!auth_count(c))
		ssh_message_free(msg);
	else if (method == SSH_AUTH_METHOD_NONE && c->token_session != NULL)
		ask_about_token(c, msg);
	else if (method == SSH_AUTH_METHOD_NONE)
		answer_methods(c, msg);
	else if (method == SSH_AUTH_METHOD_PUBLICKEY && c->token_session == NULL)
		ask_about_key(c, msg);
	else
		refuse(c, msg, "no method of ours");
}

void auth_check_dropped(struct client *c)
{
	while (c->auth.seen > c->auth.got && !c->failing) {
		c->auth.got++;
		if (auth_count(c))
			refuse(c, NULL, "the signature is wrong, or the key is none of ours");
	}
}

/* The answer. */

static unsigned permissions_of(const Towline__V1__AuthenticateSshResponse *r)
{
	static const unsigned bits[] = {
		[TOWLINE__V1__SSH_PERMISSION__SSH_PERMISSION_EXEC] = CLIENT_PERMISSION_EXEC,
		[TOWLINE__V1__SSH_PERMISSION__SSH_PERMISSION_PTY] = CLIENT_PERMISSION_PTY,
		[TOWLINE__V1__SSH_PERMISSION__SSH_PERMISSION_SFTP] = CLIENT_PERMISSION_SFTP,
		[TOWLINE__V1__SSH_PERMISSION__SSH_PERMISSION_FORWARD] = CLIENT_PERMISSION_FORWARD,
	};
	unsigned all = 0;

	for (size_t i = 0; i < r->n_permissions; i++)
		if ((unsigned)r->permissions[i] < sizeof(bits) / sizeof(bits[0]))
			all |= bits[r->permissions[i]];
	return all;
}

/* What the gateway says about the session becomes the connection's. */
static int take_session(
    struct client *c, const Towline__V1__AuthenticateSshResponse *r, struct err *err)
{
	const Google__Protobuf__Duration *left = r->time_left;
	const Google__Protobuf__Timestamp *end = r->expiration_time;
	struct client_session *s = &c->session;

	if (strlen(r->session_id) != sizeof(s->id) - 1 || left == NULL || end == NULL ||
	    (c->token_session != NULL && strcmp(c->token_session, r->session_id) != 0))
		return err_set(
		    err, GRPC_INTERNAL, "the gateway's answer is not about this session");
	if (left->seconds < 0 || left->seconds > INT32_MAX || left->nanos < 0 ||
	    end->seconds <= (int64_t)time(NULL))
		return err_set(err, GRPC_UNAUTHENTICATED, "the session has expired");
	memcpy(s->id, r->session_id, sizeof(s->id));
	s->sandbox_id = strdup(r->sandbox_id);
	s->sandbox = strdup(r->sandbox);
	s->permissions = permissions_of(r);
	if (s->sandbox_id == NULL || s->sandbox == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	/* From before the question: the answer took a while, too. */
	c->expires_ms =
	    c->auth.asked_ms + (uint64_t)left->seconds * 1000 + (uint64_t)left->nanos / 1000000;
	c->expires_wall = end->seconds;
	return 0;
}

static bool is_refusal(const struct err *why)
{
	return why->code == GRPC_UNAUTHENTICATED || why->code == GRPC_PERMISSION_DENIED ||
	    why->code == GRPC_NOT_FOUND || why->code == GRPC_INVALID_ARGUMENT;
}

static void accept_it(struct client *c, ssh_message msg)
{
	/* A key that was only offered opens nothing: the client is asked to sign. */
	if (ssh_message_subtype(msg) == SSH_AUTH_METHOD_PUBLICKEY && !is_signed(msg)) {
		ssh_message_auth_reply_pk_ok_simple(msg);
		return;
	}
	ssh_message_auth_reply_success(msg, 0);
	client_became_open(c);
}

static void auth_answer(
    void *cookie, const Towline__V1__AuthenticateSshResponse *reply, const struct err *why)
{
	struct client *c = cookie;
	ssh_message msg = c->auth.asked;
	bool opens = ssh_message_subtype(msg) == SSH_AUTH_METHOD_NONE || is_signed(msg);
	struct err err = *why;

	c->auth.asked = NULL;
	c->auth.ask = NULL;
	if (err.code == GRPC_OK &&
	    (reply == NULL || (opens && take_session(c, reply, &err) != 0)) && err.code == GRPC_OK)
		err_set(&err, GRPC_INTERNAL, "the gateway's answer is empty");
	if (err.code == GRPC_OK) {
		accept_it(c, msg);
		keep(&c->auth, msg);
	} else if (is_refusal(&err)) {
		refuse(c, msg, err.text);
	} else {
		keep(&c->auth, msg);
		client_fail(c, &err);
	}
	client_flush(c);
}
