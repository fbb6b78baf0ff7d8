/* The subsystem sftp, and scp in its old form. */
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "sshd/channel_parts.h"
#include "sshd/scp_line.h"
#include "towline/v1/files.pb-c.h"

static const struct channel_kind sftp_kind = {
	.name = "sftp",
	.path = "/towline.v1.Files/Sftp",
	.is_session = true,
};

static void begin(struct channel *c, const struct channel_kind *kind, const ProtobufCMessage *first)
{
	struct err err;
	size_t len;
	uint8_t *packed;

	if (!client_permits(c->all->client, CLIENT_PERMISSION_SFTP)) {
		channel_refuse(c, GRPC_PERMISSION_DENIED,
		    "this session does not permit the transfer of files");
		return;
	}
	if ((packed = codec_pack_new(first, &len)) == NULL)
		channel_refuse(c, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	else if (channel_start(c, kind, packed, len, &err) != 0)
		channel_refuse(c, err.code, err.text);
	free(packed);
}

bool channel_sftp_subsystem(struct channel *c, const char *name)
{
	Towline__V1__SftpInit init = TOWLINE__V1__SFTP_INIT__INIT;
	Towline__V1__SftpRequest request = TOWLINE__V1__SFTP_REQUEST__INIT;

	if (name == NULL || strcmp(name, "sftp") != 0)
		return false;
	init.sandbox = client_session(c->all->client)->sandbox_id;
	request.payload_case = TOWLINE__V1__SFTP_REQUEST__PAYLOAD_INIT;
	request.init = &init;
	begin(c, &sftp_kind, &request.base);
	return true;
}

static void scp_message(struct channel *c, const uint8_t *message, size_t len)
{
	Towline__V1__ScpResponse *response =
	    codec_unpack(&towline__v1__scp_response__descriptor, message, len, NULL);

	if (response != NULL && response->payload_case == TOWLINE__V1__SCP_RESPONSE__PAYLOAD_EXIT) {
		c->has_exit = true;
		c->exit_code = response->exit->exit_code;
	}
	codec_free(response);
}

static const struct channel_kind scp_kind = {
	.name = "scp",
	.path = "/towline.v1.Files/Scp",
	.is_session = true,
	.message = scp_message,
};

static void begin_scp(struct channel *c, const struct scp_line *line)
{
	Towline__V1__ScpInit init = TOWLINE__V1__SCP_INIT__INIT;
	Towline__V1__ScpRequest request = TOWLINE__V1__SCP_REQUEST__INIT;
	ProtobufCBinaryData paths[SCP_LINE_PATHS_MAX];

	for (size_t i = 0; i < line->count; i++)
		paths[i] = (ProtobufCBinaryData){ .data = (uint8_t *)line->paths[i],
			.len = strlen(line->paths[i]) };
	init.sandbox = client_session(c->all->client)->sandbox_id;
	init.sink = line->sink;
	init.recursive = line->recursive;
	init.preserve = line->preserve;
	init.directory = line->directory;
	init.paths = paths;
	init.n_paths = line->count;
	request.payload_case = TOWLINE__V1__SCP_REQUEST__PAYLOAD_INIT;
	request.init = &init;
	begin(c, &scp_kind, &request.base);
}

bool channel_scp_run(struct channel *c, const char *command)
{
	struct scp_line line;

	if (!scp_line_parse(command, &line))
		return false;
	begin_scp(c, &line);
	scp_line_free(&line);
	return true;
}
