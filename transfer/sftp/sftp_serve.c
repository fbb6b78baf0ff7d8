/* Files.Sftp: the first message says which sandbox, and the gateway has read it. */
#include <stdlib.h>

#include "proto/codec.h"
#include "towline/v1/files.pb-c.h"
#include "transfer/sftp/sftp.h"

static int run(void *arg, struct talk *talk, struct err *err)
{
	return sftp_run(arg, talk, err);
}

static const struct talk_work sftp_work = { .run = run, .free = free };

static int serve(
    struct transfers *t, struct framed *call, const struct channel_request *r, struct err *err)
{
	struct sftp_env *env = malloc(sizeof(*env));

	if (env == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	*env = (struct sftp_env){
		.workdir = t->workdir, .slash = t->slash, .workdir_path = t->workdir_path
	};
	if (talk_serve(t, call, r->half_closed, &sftp_work, env, err) == 0)
		return 0;
	free(env);
	return -1;
}

void transfer_serve_sftp(struct transfers *t, struct framed *call, const struct channel_request *r)
{
	enum guard_result why;
	struct err err = { 0 };
	Towline__V1__SftpRequest *first = codec_unpack(
	    &towline__v1__sftp_request__descriptor, r->first_message, r->first_len, &why);

	if (first == NULL)
		err_set(
		    &err, (enum grpc_code)guard_status(why), "SftpRequest: %s", guard_text(why));
	else if (first->payload_case != TOWLINE__V1__SFTP_REQUEST__PAYLOAD_INIT)
		err_set(&err, GRPC_INVALID_ARGUMENT, "the first message of Sftp must be init");
	else
		serve(t, call, r, &err);
	codec_free(first);
	if (err.code != GRPC_OK)
		framed_finish(call, &err);
}
