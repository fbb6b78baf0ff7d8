#include "cli/files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/output.h"
#include "cli/sandbox.h"
#include "proto/codec.h"
#include "proto/methods.h"
#include "transfer/client_files.h"

#define TEXT_MAX  ((size_t)256 << 10)
#define PATH_SIZE 64

/* Places. */

int files_parse(const struct cli *cli, const char *verb, const char *word, struct end *end)
{
	struct err err;

	if (end_parse(word, end, &err) != 0)
		return cli_fail(cli, &err);
	if (end->kind == END_KIND_REMOTE)
		return CLI_EXIT_OK;
	end_free(end);
	return cli_usage(
	    cli, "%s: %s: what is in a sandbox is named NAME:PATH, as in box:%s", verb, word, word);
}

static int parse_all(const struct cli *cli, const char *verb, const struct cmd_words *words)
{
	for (int i = 0; i < words->count; i++) {
		struct end end = { 0 };
		int code = files_parse(cli, verb, words->word[i], &end);

		end_free(&end);
		if (code != CLI_EXIT_OK)
			return code;
	}
	return CLI_EXIT_OK;
}

static int run_one(
    struct session *s, const char *word, const void *options, files_one *one, struct err *err)
{
	struct end end;
	int r = end_parse(word, &end, err);

	if (r == 0)
		r = one(s, &end, options, err);
	if (r == 0)
		sandbox_remember(s, end.sandbox);
	end_free(&end);
	return r;
}

int files_each(const struct cli *cli, const char *verb, const struct cmd_words *words,
    const void *options, files_one *one)
{
	struct err err = { 0 };
	int code = parse_all(cli, verb, words);
	struct session *s = code == CLI_EXIT_OK ? session_open(cli, &err) : NULL;

	if (code == CLI_EXIT_OK && s == NULL)
		code = cli_fail(cli, &err);
	for (int i = 0; s != NULL && i < words->count; i++) {
		err = (struct err){ 0 };
		if (run_one(s, words->word[i], options, one, &err) != 0)
			code = cli_fail(cli, &err);
	}
	session_close(s);
	return code;
}

/* Calls. */

struct call {
	struct session_wait wait;
	struct client_files *files; /* NULL: over */
	const ProtobufCMessageDescriptor *type;
	files_message *each;
	void *cookie;
	void *reply; /* without ${each}: the only message */
};

static int take_message(struct call *c, const uint8_t *bytes, size_t len, struct err *err)
{
	enum guard_result why;
	void *message = codec_unpack(c->type, bytes, len, &why);
	int r = 0;

	if (message == NULL)
		return err_set(err, GRPC_INTERNAL, "%s: %s", c->type->name, guard_text(why));
	if (c->each != NULL)
		r = c->each(c->cookie, message, err);
	codec_free(c->each != NULL ? message : c->reply);
	if (c->each == NULL)
		c->reply = message;
	return r;
}

static void on_message(void *cookie, const uint8_t *bytes, size_t len)
{
	struct call *c = cookie;
	struct err err = { 0 };

	if (!c->wait.done && take_message(c, bytes, len, &err) != 0)
		session_done(&c->wait, &err);
}

static void on_done(void *cookie, const struct err *err)
{
	struct call *c = cookie;

	c->files = NULL;
	session_done(&c->wait, err);
}

static const struct client_files_ops ops = { .message = on_message, .done = on_done };

static int call(struct call *c, const char *method, ProtobufCMessage *request, struct err *err)
{
	struct session *s = c->wait.session;
	struct rpc_client *client = session_client(s, err);
	char path[PATH_SIZE];

	if (client == NULL)
		return -1;
	snprintf(path, sizeof(path), "/towline.v1.Files/%s", method);
	c->type = methods_find(path)->reply;
	c->files = client_files_start(client, method, request, &ops, c, err);
	if (c->files == NULL)
		return -1;
	int r = session_wait(s, &c->wait, SESSION_FOREVER, err);
	if (c->files != NULL)
		client_files_cancel(c->files);
	return r;
}

int files_call(
    struct session *s, const char *method, ProtobufCMessage *request, void **reply, struct err *err)
{
	struct call c = { .wait.session = s };
	int r = call(&c, method, request, err);

	if (r == 0 && c.reply == NULL)
		r = err_set(err, GRPC_INTERNAL, "%s: an end without an answer", method);
	if (r != 0)
		codec_free(c.reply);
	else
		*reply = c.reply;
	return r;
}

int files_stream(struct session *s, const char *method, ProtobufCMessage *request,
    files_message *each, void *cookie, struct err *err)
{
	struct call c = { .wait.session = s, .each = each, .cookie = cookie };

	return call(&c, method, request, err);
}

/* In print. */

const char *files_type(const Towline__V1__FileInfo *f)
{
	switch (f->type) {
	case TOWLINE__V1__FILE_TYPE__FILE_TYPE_FILE:
		return "file";
	case TOWLINE__V1__FILE_TYPE__FILE_TYPE_DIRECTORY:
		return "directory";
	case TOWLINE__V1__FILE_TYPE__FILE_TYPE_SYMLINK:
		return "symlink";
	default:
		return "other";
	}
}

void files_mode(const Towline__V1__FileInfo *f, char out[static FILES_MODE_SIZE])
{
	static const char letters[] = "rwxrwxrwx";
	static const struct {
		uint32_t bit;
		size_t at;
		char with, without; /* the x that it stands over */
	} special[] = { { 04000, 3, 's', 'S' }, { 02000, 6, 's', 'S' }, { 01000, 9, 't', 'T' } };
	static const char types[] = { '?', '-', 'd', 'l', '?' };

	out[0] = (unsigned)f->type < sizeof(types) ? types[f->type] : '?';
	for (size_t i = 0; i < 9; i++)
		out[i + 1] = (f->mode >> (8 - i) & 1) != 0 ? letters[i] : '-';
	for (size_t i = 0; i < 3; i++)
		if ((f->mode & special[i].bit) != 0)
			out[special[i].at] =
			    out[special[i].at] == 'x' ? special[i].with : special[i].without;
	out[10] = '\0';
}

void files_print_text(const char *text, FILE *out)
{
	struct text t;

	text_init(&t, TEXT_MAX);
	text_add_plain(&t, text, strlen(text));
	if (!t.failed && t.len > 0)
		fwrite(t.data, 1, t.len, out);
	text_free(&t);
}

/* Bytes, of which a JSON string would have to be text, in hexadecimal digits. */
static json_t *json_hex(const ProtobufCBinaryData *bytes)
{
	char *hex = malloc(2 * bytes->len + 1);
	json_t *json = NULL;

	if (hex != NULL) {
		text_hex(bytes->data, bytes->len, hex);
		json = json_string(hex);
	}
	free(hex);
	return json;
}

json_t *files_json(const Towline__V1__FileInfo *f)
{
	json_t *json = json_object();
	char mode[8], modified[21];

	snprintf(mode, sizeof(mode), "%04o", (unsigned)f->mode & 07777);
	json_object_set_new(json, "name", output_json_text(f->name));
	json_object_set_new(json, "path", output_json_text(f->path));
	if (f->raw_path.len > 0)
		json_object_set_new(json, "raw_path", json_hex(&f->raw_path));
	json_object_set_new(json, "type", json_string(files_type(f)));
	json_object_set_new(json, "size", json_integer((json_int_t)f->size_bytes));
	json_object_set_new(json, "mode", json_string(mode));
	json_object_set_new(json, "uid", json_integer(f->uid));
	json_object_set_new(json, "gid", json_integer(f->gid));
	json_object_set_new(json, "owner", output_json_text(f->owner));
	json_object_set_new(json, "group", output_json_text(f->group));
	if (f->modified_time != NULL) {
		text_time(f->modified_time->seconds, modified);
		json_object_set_new(json, "modified", json_string(modified));
	}
	if (f->symlink_target[0] != '\0')
		json_object_set_new(json, "symlink_target", output_json_text(f->symlink_target));
	if (f->etag[0] != '\0')
		json_object_set_new(json, "etag", output_json_text(f->etag));
	return json;
}
