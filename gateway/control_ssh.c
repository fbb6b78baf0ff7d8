/* Calls that make, list and revoke SSH sessions. */
#include "gateway/control.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "gateway/gateway.h"
#include "gateway/message.h"
#include "gateway/paging.h"
#include "gateway/workspaces.h"
#include "openshell/v1/openshell.pb-c.h"
#include "towline/v1/ssh.pb-c.h"

static const struct log_area area = { "gateway.ssh" };

#define TTL_DEFAULT_S 900
#define TTL_MAX_S     86400

#define PERMISSIONS TOWLINE__V1__SSH_PERMISSION__SSH_PERMISSION_FORWARD /* numbered from 1 */

/* Create. */

static int read_permissions(
    const Openshell__V1__CreateSshSessionRequest *r, uint32_t *bits, struct err *err)
{
	*bits = r->n_permissions == 0 ? SSH_ACCESS_ALL : 0;
	for (size_t i = 0; i < r->n_permissions; i++) {
		if (r->permissions[i] < 1 || r->permissions[i] > PERMISSIONS)
			return err_set(err, GRPC_INVALID_ARGUMENT,
			    "permissions: %d is no permission; leave the list empty for all of them",
			    (int)r->permissions[i]);
		*bits |= SSH_ACCESS_BIT(r->permissions[i]);
	}
	return 0;
}

static size_t list_permissions(uint32_t bits, Towline__V1__SshPermission list[static PERMISSIONS])
{
	size_t n = 0;

	for (int p = 1; p <= PERMISSIONS; p++)
		if (bits & SSH_ACCESS_BIT(p))
			list[n++] = (Towline__V1__SshPermission)p;
	return n;
}

static int read_ttl(const Openshell__V1__CreateSshSessionRequest *r, int64_t *ms, struct err *err)
{
	if (r->ttl_seconds > TTL_MAX_S)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "ttl_seconds is %" PRIu32 "; it must be 1 to %d, or 0 for %d", r->ttl_seconds,
		    TTL_MAX_S, TTL_DEFAULT_S);
	*ms = (int64_t)(r->ttl_seconds == 0 ? TTL_DEFAULT_S : r->ttl_seconds) * 1000;
	return 0;
}

/* The client's key, or a new one and its private half in ${text}. */
static int choose_key(const Openshell__V1__CreateSshSessionRequest *r, const char *comment,
    char text[static SSH_KEY_FILE_SIZE], struct ssh_key *key, struct err *err)
{
	text[0] = '\0';
	if (r->public_key[0] == '\0')
		return ssh_key_file_make(comment, text, key, err);
	if (ssh_key_parse_line(r->public_key, key, err) != 0)
		return err_wrap(err, "public_key");
	return 0;
}

/* A session is for a sandbox that takes calls. */
static const struct sandbox *find_sandbox(
    struct gateway *g, const Openshell__V1__CreateSshSessionRequest *r, struct err *err)
{
	const char *workspace;
	char id[NAMES_ID_MAX + 1];

	if (control_workspace_of(r->workspace_scope, &workspace, err) != 0 ||
	    directory_admit(g->directory, r->sandbox, workspace, id, err) != 0)
		return NULL;
	return sandboxes_find_id(g->sandboxes, id);
}

static void reply_made(struct control *c, const struct ssh *ssh, const struct ssh_wanted *w,
    const struct ssh_made *made, const char *private_key)
{
	Openshell__V1__CreateSshSessionResponse reply =
	    OPENSHELL__V1__CREATE_SSH_SESSION_RESPONSE__INIT;
	Towline__V1__SshPermission permissions[PERMISSIONS];
	Google__Protobuf__Timestamp expires;

	message_set_time(&expires, made->expires_ms);
	reply.sandbox_id = (char *)w->sandbox_id;
	reply.token = (char *)made->token;
	reply.gateway_host = (char *)ssh->gateway_host;
	reply.gateway_port = ssh->gateway_port;
	reply.gateway_scheme = (char *)ssh->gateway_scheme;
	reply.host_key_fingerprint = (char *)ssh->key.fingerprint;
	reply.expires_at_ms = made->expires_ms;
	reply.expiration_time = &expires;
	reply.host = (char *)ssh->host;
	reply.port = ssh->port;
	reply.username = (char *)made->user;
	reply.private_key = (char *)private_key;
	reply.host_key = (char *)ssh->key.line;
	reply.session_id = (char *)made->id;
	reply.n_permissions = list_permissions(w->permissions, permissions);
	reply.permissions = permissions;
	control_reply_secret(c, &reply.base);
}

static void log_made(
    const struct ssh_wanted *w, const struct ssh_made *made, const struct ssh_key *key)
{
	char fingerprint[SSH_KEY_FINGERPRINT_SIZE];

	ssh_key_fingerprint(key->blob, key->len, fingerprint);
	log_info(&area, "session_made", LOG_STR("session", made->id),
	    LOG_STR("sandbox", w->sandbox_id), LOG_STR("subject", w->subject),
	    LOG_STR("key", fingerprint), LOG_I64("ttl_s", w->ttl_ms / 1000));
}

/* Checked in the order of what costs more. */
static int prepare(struct gateway *g, const Openshell__V1__CreateSshSessionRequest *r,
    struct ssh_wanted *w, struct err *err)
{
	const struct sandbox *s;

	if (read_ttl(r, &w->ttl_ms, err) != 0 || read_permissions(r, &w->permissions, err) != 0)
		return -1;
	if (g->ssh.off.code != GRPC_OK) {
		*err = g->ssh.off;
		return err_wrap(err, "SSH is not served by this gateway");
	}
	if ((s = find_sandbox(g, r, err)) == NULL)
		return -1;
	w->sandbox_id = sandbox_id(s);
	w->sandbox = sandbox_name(s);
	w->workspace = sandbox_workspace(s);
	w->subject = GATEWAY_LOCAL_SUBJECT;
	return 0;
}

void control_ssh_create(struct control *c, const void *request)
{
	struct gateway *g = control_gateway(c);
	struct ssh_wanted w = { 0 };
	struct ssh_made made;
	struct ssh_key key;
	char text[SSH_KEY_FILE_SIZE], comment[SSH_KEY_COMMENT_MAX];
	struct err err;

	if (prepare(g, request, &w, &err) != 0) {
		control_fail(c, &err);
		return;
	}
	snprintf(comment, sizeof(comment), "towline-%s", w.sandbox);
	w.key = &key;
	if (choose_key(request, comment, text, &key, &err) == 0 &&
	    ssh_sessions_make(g->ssh.sessions, &w, &made, &err) == 0) {
		log_made(&w, &made, &key);
		reply_made(c, &g->ssh, &w, &made, text);
		explicit_bzero(made.token, sizeof(made.token));
	} else {
		control_fail(c, &err);
	}
	explicit_bzero(text, sizeof(text));
}

/* Revoke. */

static int revoke(
    struct gateway *g, const Openshell__V1__RevokeSshSessionRequest *r, struct err *err)
{
	if ((r->token[0] != '\0') == (r->session_id[0] != '\0'))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "give either the token or the session_id of what is to be revoked");
	if (r->token[0] != '\0')
		return ssh_sessions_revoke_token(g->ssh.sessions, r->token, err);
	return ssh_sessions_revoke(g->ssh.sessions, r->session_id, err);
}

void control_ssh_revoke(struct control *c, const void *request)
{
	const Openshell__V1__RevokeSshSessionRequest *r = request;
	Openshell__V1__RevokeSshSessionResponse reply =
	    OPENSHELL__V1__REVOKE_SSH_SESSION_RESPONSE__INIT;
	struct err err = { 0 };

	reply.revoked = revoke(control_gateway(c), r, &err) == 0;
	if (reply.revoked)
		reply.outcome = OPENSHELL__V1__DELETION_OUTCOME__DELETION_OUTCOME_COMPLETED;
	else if (err.code == GRPC_NOT_FOUND && r->allow_missing)
		reply.outcome = OPENSHELL__V1__DELETION_OUTCOME__DELETION_OUTCOME_ALREADY_ABSENT;
	else {
		control_fail(c, &err);
		return;
	}
	control_reply(c, &reply.base);
}

/* Authenticate: what an endpoint asks. */

/* Whatever the reason, the client only gets to hear that it may not. */
static void log_asked(
    const Towline__V1__AuthenticateSshRequest *r, const char *session, const struct err *why)
{
	char fingerprint[SSH_KEY_FINGERPRINT_SIZE] = "";

	if (r->session_id[0] == '\0')
		ssh_key_fingerprint(r->public_key.data, r->public_key.len, fingerprint);
	if (why != NULL)
		log_warn(&area, "ssh_refused", LOG_STR("user", r->username),
		    LOG_STR("key", fingerprint), LOG_STR("peer", r->peer), LOG_ERR(why));
	else if (r->signed_ || r->session_id[0] != '\0')
		log_info(&area, "ssh_admitted", LOG_STR("session", session),
		    LOG_STR("key", fingerprint), LOG_STR("peer", r->peer));
}

static int authenticate(struct gateway *g, const Towline__V1__AuthenticateSshRequest *r,
    struct ssh_grant *grant, struct err *err)
{
	if (r->session_id[0] != '\0')
		return ssh_access_id(g->ssh.sessions, r->session_id, grant, err);
	return ssh_access_key(g->ssh.sessions, r->username, r->public_key.data, r->public_key.len,
	    r->signed_, grant, err);
}

void control_ssh_authenticate(struct control *c, const void *request)
{
	Towline__V1__AuthenticateSshResponse reply = TOWLINE__V1__AUTHENTICATE_SSH_RESPONSE__INIT;
	Google__Protobuf__Duration left = GOOGLE__PROTOBUF__DURATION__INIT;
	Google__Protobuf__Timestamp expires;
	Towline__V1__SshPermission permissions[PERMISSIONS];
	struct ssh_grant grant;
	struct err err;

	if (authenticate(control_gateway(c), request, &grant, &err) != 0) {
		log_asked(request, NULL, &err);
		control_fail(c, &err);
		return;
	}
	log_asked(request, grant.id, NULL);
	message_set_time(&expires, grant.expires_ms);
	left.seconds = (int64_t)(grant.left_ms / 1000);
	left.nanos = (int32_t)(grant.left_ms % 1000) * 1000000;
	reply.session_id = grant.id;
	reply.sandbox_id = grant.sandbox_id;
	reply.sandbox = grant.sandbox;
	reply.n_permissions = list_permissions(grant.permissions, permissions);
	reply.permissions = permissions;
	reply.expiration_time = &expires;
	reply.time_left = &left;
	control_reply(c, &reply.base);
}

/* List. */

/* One of the list, with what it points to. */
struct item {
	Towline__V1__SshSessionInfo info; /* first */
	Towline__V1__SshPermission permissions[PERMISSIONS];
	Google__Protobuf__Timestamp created, expires, revoked;
	char user[SSH_NAME_USER_MAX + 1];
	char fingerprint[SSH_KEY_FINGERPRINT_SIZE];
	char *copies[5]; /* the table's texts are good for a moment only */
};

struct listing {
	const char *workspace;             /* NULL: all */
	char sandbox_id[NAMES_ID_MAX + 1]; /* "": of all */
	bool ended;
	size_t size;
	uint64_t after, last;
	char *scope; /* for paging.h */

	Towline__V1__SshSessionInfo **infos; /* of struct item; there is room for ${size} */
	size_t count;
	bool more, failed;
};

static void item_free(struct item *item)
{
	for (size_t i = 0; item != NULL && i < sizeof(item->copies) / sizeof(item->copies[0]); i++)
		free(item->copies[i]);
	free(item);
}

static void listing_free(struct listing *l)
{
	for (size_t i = 0; l->infos != NULL && i < l->count; i++)
		item_free((struct item *)l->infos[i]);
	free(l->infos);
	free(l->scope);
}

/* By name or id, of one that may have been deleted if ended ones are asked for. */
static int listing_sandbox(
    struct listing *l, struct gateway *g, const char *sandbox, struct err *err)
{
	if (sandbox[0] == '\0')
		return 0;
	if (directory_resolve(g->directory, sandbox, l->workspace, l->sandbox_id, err) == 0)
		return 0;
	if (err->code != GRPC_NOT_FOUND || !l->ended || strlen(sandbox) != NAMES_ID_MAX)
		return -1;
	memcpy(l->sandbox_id, sandbox, NAMES_ID_MAX + 1);
	return 0;
}

static int listing_scope(struct listing *l, struct gateway *g,
    const Towline__V1__ListSshSessionsRequest *r, struct err *err)
{
	const Openshell__Datamodel__V1__WorkspaceSelector *selector = r->workspace_scope;

	if (selector != NULL &&
	    selector->selection_case ==
		OPENSHELL__DATAMODEL__V1__WORKSPACE_SELECTOR__SELECTION_ALL_WORKSPACES)
		return 0;
	if (control_workspace_of(selector, &l->workspace, err) != 0)
		return -1;
	if (l->workspace == NULL && strlen(r->sandbox) == NAMES_ID_MAX)
		return 0; /* an id is good in every workspace */
	if (l->workspace == NULL)
		l->workspace = WORKSPACES_DEFAULT;
	return workspaces_find(g->workspaces, l->workspace, err) != NULL ? 0 : -1;
}

static int listing_init(struct listing *l, struct gateway *g,
    const Towline__V1__ListSshSessionsRequest *r, struct err *err)
{
	char *after = NULL;
	int result;

	*l = (struct listing){ .ended = r->include_ended };
	if (listing_scope(l, g, r, err) != 0 || listing_sandbox(l, g, r->sandbox, err) != 0 ||
	    paging_size(r->page_size > INT_MAX ? INT_MAX : (int32_t)r->page_size, &l->size, err) !=
		0)
		return -1;
	if (asprintf(&l->scope, "ssh\n%s\n%s\n%d", l->workspace != NULL ? l->workspace : "*",
		r->sandbox, l->ended) < 0) {
		l->scope = NULL;
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	}
	result = paging_after(r->page_token, l->scope, &after, err);
	if (result == 0 && after[0] != '\0')
		result = text_to_u64(after, 0, UINT64_MAX, &l->after, err);
	free(after);
	if (result == 0 && (l->infos = calloc(l->size, sizeof(*l->infos))) == NULL)
		result = err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	return result;
}

static bool is_listed(const struct listing *l, const struct ssh_shown *s)
{
	if (s->why != SSH_END_NONE && !l->ended)
		return false;
	if (l->workspace != NULL && strcmp(s->workspace, l->workspace) != 0)
		return false;
	return l->sandbox_id[0] == '\0' || strcmp(s->sandbox_id, l->sandbox_id) == 0;
}

static void fill_info(struct item *item, const struct ssh_shown *s)
{
	Towline__V1__SshSessionInfo *info = &item->info;

	towline__v1__ssh_session_info__init(info);
	info->session_id = item->copies[0];
	info->sandbox_id = item->copies[1];
	info->sandbox = item->copies[2];
	info->workspace = item->copies[3];
	info->subject = item->copies[4];
	info->username = item->user;
	info->key_fingerprint = item->fingerprint;
	message_set_time(&item->created, s->created_ms);
	message_set_time(&item->expires, s->expires_ms);
	message_set_time(&item->revoked, s->ended_ms);
	info->created_time = &item->created;
	info->expiration_time = &item->expires;
	if (s->why == SSH_END_REVOKED || s->why == SSH_END_DELETED)
		info->revoked_time = &item->revoked;
	info->n_permissions = list_permissions(s->permissions, item->permissions);
	info->permissions = item->permissions;
	info->connections = s->connections;
	info->bytes_in = s->bytes_in;
	info->bytes_out = s->bytes_out;
}

static struct item *item_create(const struct ssh_shown *s)
{
	const char *texts[] = { s->id, s->sandbox_id, s->sandbox, s->workspace, s->subject };
	struct item *item = calloc(1, sizeof(*item));

	for (size_t i = 0; item != NULL && i < sizeof(texts) / sizeof(texts[0]); i++) {
		if ((item->copies[i] = strdup(texts[i])) != NULL)
			continue;
		item_free(item);
		return NULL;
	}
	if (item == NULL)
		return NULL;
	snprintf(item->user, sizeof(item->user), "%s.%s", s->sandbox, s->id);
	ssh_key_fingerprint(s->key, s->key_len, item->fingerprint);
	fill_info(item, s);
	return item;
}

static bool list_one(void *cookie, const struct ssh_shown *s)
{
	struct listing *l = cookie;
	struct item *item;

	if (!is_listed(l, s))
		return true;
	l->more = l->count == l->size;
	if (l->more)
		return false;
	if ((item = item_create(s)) == NULL) {
		l->failed = true;
		return false;
	}
	l->infos[l->count++] = &item->info;
	l->last = s->serial;
	return true;
}

static void reply_list(struct control *c, const struct listing *l)
{
	Towline__V1__ListSshSessionsResponse reply = TOWLINE__V1__LIST_SSH_SESSIONS_RESPONSE__INIT;
	char last[24], *token = NULL;

	if (l->more) {
		snprintf(last, sizeof(last), "%" PRIu64, l->last);
		if ((token = paging_token(l->scope, last)) != NULL)
			reply.next_page_token = token;
	}
	reply.sessions = l->infos;
	reply.n_sessions = l->count;
	control_reply(c, &reply.base);
	free(token);
}

void control_ssh_list(struct control *c, const void *request)
{
	struct gateway *g = control_gateway(c);
	struct listing l;
	struct err err;

	if (listing_init(&l, g, request, &err) != 0) {
		control_fail(c, &err);
		listing_free(&l);
		return;
	}
	ssh_sessions_each(g->ssh.sessions, l.after, list_one, &l);
	if (l.failed) {
		err_set(&err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		control_fail(c, &err);
	} else {
		reply_list(c, &l);
	}
	listing_free(&l);
}
