/* Files.Scp: init says what `scp -t` or `scp -f` is told on its command line. */
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "towline/v1/files.pb-c.h"
#include "transfer/sftp/scp.h"

struct serving {
	struct scp_options options;
	int exit_code;
};

static void serving_free(void *arg)
{
	struct serving *s = arg;

	for (size_t i = 0; i < s->options.count; i++)
		free(s->options.paths[i]);
	free(s->options.paths);
	free(s);
}

static int run(void *arg, struct talk *talk, struct err *err)
{
	struct serving *s = arg;

	return scp_run(&s->options, talk, &s->exit_code, err);
}

static void send_exit(void *arg, struct framed *call)
{
	Towline__V1__ScpResponse r = TOWLINE__V1__SCP_RESPONSE__INIT;
	Towline__V1__ScpExit exit = TOWLINE__V1__SCP_EXIT__INIT;
	uint8_t packed[32];

	exit.exit_code = ((struct serving *)arg)->exit_code;
	r.payload_case = TOWLINE__V1__SCP_RESPONSE__PAYLOAD_EXIT;
	r.exit = &exit;
	framed_send(call, packed, codec_pack(&r.base, packed));
}

static const struct talk_work scp_work = { .run = run, .last = send_exit, .free = serving_free };

static int copy_paths(struct scp_options *o, const Towline__V1__ScpInit *init, struct err *err)
{
	o->paths = calloc(init->n_paths + 1, sizeof(*o->paths));
	for (size_t i = 0; o->paths != NULL && i < init->n_paths; i++) {
		const ProtobufCBinaryData *path = &init->paths[i];

		if (path->len >= PATH_MAX ||
		    (path->len > 0 && memchr(path->data, '\0', path->len) != NULL))
			return err_set(err, GRPC_INVALID_ARGUMENT,
			    "paths: one of %zu bytes, or with a NUL in it", path->len);
		o->paths[i] = strndup(path->len > 0 ? (const char *)path->data : "", path->len);
		if (o->paths[i] == NULL)
			return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		o->count++;
	}
	return o->paths != NULL ? 0 : err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

static int serve(struct transfers *t, struct framed *call, const Towline__V1__ScpInit *init,
    bool half_closed, struct err *err)
{
	struct serving *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	s->options = (struct scp_options){
		.workdir = t->workdir,
		.slash = t->slash,
		.workdir_path = t->workdir_path,
		.claims = t->claims,
		.sink = init->sink,
		.recursive = init->recursive,
		.preserve = init->preserve,
		.directory = init->directory,
	};
	if (copy_paths(&s->options, init, err) == 0 &&
	    talk_serve(t, call, half_closed, &scp_work, s, err) == 0)
		return 0;
	serving_free(s);
	return -1;
}

void transfer_serve_scp(struct transfers *t, struct framed *call, const struct channel_request *r)
{
	enum guard_result why;
	struct err err = { 0 };
	Towline__V1__ScpRequest *first = codec_unpack(
	    &towline__v1__scp_request__descriptor, r->first_message, r->first_len, &why);

	if (first == NULL)
		err_set(&err, (enum grpc_code)guard_status(why), "ScpRequest: %s", guard_text(why));
	else if (first->payload_case != TOWLINE__V1__SCP_REQUEST__PAYLOAD_INIT)
		err_set(&err, GRPC_INVALID_ARGUMENT, "the first message of Scp must be init");
	else if (first->init->n_paths == 0)
		err_set(&err, GRPC_INVALID_ARGUMENT, "paths: empty; name a target, or sources");
	else
		serve(t, call, first->init, r->half_closed, &err);
	codec_free(first);
	if (err.code != GRPC_OK)
		framed_finish(call, &err);
}
