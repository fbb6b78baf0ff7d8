#include "gateway/reflection.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/message.h"
#include "gateway/service.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "proto/codec.h"
#include "proto/descriptors.h"
#include "rpc/reader.h"

/* A file and everything it imports, directly or not. */
#define FILES_MAX      64
#define EXTENSIONS_MAX 64
#define SERVICES_MAX   16

struct reflection {
	struct rpc_call *call;
	struct rpc_reader reader;
	bool ended;    /* the client has no more requests */
	bool finished; /* nothing is sent any more; closed() frees */
};

/* What an answer points to. */
struct answer {
	Grpc__Reflection__V1__ServerReflectionResponse response;
	Grpc__Reflection__V1__FileDescriptorResponse files;
	ProtobufCBinaryData file_data[FILES_MAX];
	const struct descriptors_file *file_list[FILES_MAX];
	Grpc__Reflection__V1__ExtensionNumberResponse extensions;
	int32_t numbers[EXTENSIONS_MAX];
	Grpc__Reflection__V1__ListServiceResponse services;
	Grpc__Reflection__V1__ServiceResponse service_data[SERVICES_MAX];
	Grpc__Reflection__V1__ServiceResponse *service_list[SERVICES_MAX];
	Grpc__Reflection__V1__ErrorResponse error;
};

static void answer_error(struct answer *a, enum grpc_code code, const char *message)
{
	grpc__reflection__v1__error_response__init(&a->error);
	a->error.error_code = (int32_t)code;
	a->error.error_message = (char *)message;
	a->response.message_response_case =
	    GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
	a->response.error_response = &a->error;
}

static size_t add_file(struct answer *a, size_t count, const struct descriptors_file *file)
{
	for (size_t i = 0; i < count; i++)
		if (a->file_list[i] == file)
			return count;
	if (count == FILES_MAX)
		return count;
	a->file_list[count] = file;
	a->file_data[count] = (ProtobufCBinaryData){ file->len, (uint8_t *)file->data };
	return count + 1;
}

static void answer_file(struct answer *a, const struct descriptors_file *file)
{
	size_t count;

	if (file == NULL) {
		answer_error(a, GRPC_NOT_FOUND, "not found");
		return;
	}
	count = add_file(a, 0, file);
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < a->file_list[i]->import_count; k++)
			count = add_file(a, count, a->file_list[i]->imports[k]);
	grpc__reflection__v1__file_descriptor_response__init(&a->files);
	a->files.n_file_descriptor_proto = count;
	a->files.file_descriptor_proto = a->file_data;
	a->response.message_response_case =
	    GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
	a->response.file_descriptor_response = &a->files;
}

static void answer_extensions(struct answer *a, const char *type)
{
	size_t count = descriptors_extensions(type, a->numbers, EXTENSIONS_MAX);

	if (count == 0 && descriptors_find_symbol(type) == NULL) {
		answer_error(a, GRPC_NOT_FOUND, "not found");
		return;
	}
	grpc__reflection__v1__extension_number_response__init(&a->extensions);
	a->extensions.base_type_name = (char *)type;
	a->extensions.n_extension_number = count < EXTENSIONS_MAX ? count : EXTENSIONS_MAX;
	a->extensions.extension_number = a->numbers;
	a->response.message_response_case =
	    GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ALL_EXTENSION_NUMBERS_RESPONSE;
	a->response.all_extension_numbers_response = &a->extensions;
}

static void answer_services(struct answer *a)
{
	size_t count = 0;

	for (size_t i = 0; i < descriptors_service_count() && count < SERVICES_MAX; i++) {
		const char *name = descriptors_service_at(i);

		if (!service_is_service(name))
			continue;
		grpc__reflection__v1__service_response__init(&a->service_data[count]);
		a->service_data[count].name = (char *)name;
		a->service_list[count] = &a->service_data[count];
		count++;
	}
	grpc__reflection__v1__list_service_response__init(&a->services);
	a->services.n_service = count;
	a->services.service = a->service_list;
	a->response.message_response_case =
	    GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
	a->response.list_services_response = &a->services;
}

static void make_answer(struct answer *a, Grpc__Reflection__V1__ServerReflectionRequest *r)
{
	grpc__reflection__v1__server_reflection_response__init(&a->response);
	a->response.valid_host = r->host;
	a->response.original_request = r;
	switch (r->message_request_case) {
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
		answer_file(a, descriptors_find_file(r->file_by_filename));
		break;
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
		answer_file(a, descriptors_find_symbol(r->file_containing_symbol));
		break;
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_EXTENSION:
		answer_file(a,
		    descriptors_find_extension(r->file_containing_extension->containing_type,
			r->file_containing_extension->extension_number));
		break;
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE:
		answer_extensions(a, r->all_extension_numbers_of_type);
		break;
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
		answer_services(a);
		break;
	default:
		answer_error(a, GRPC_INVALID_ARGUMENT, "the request asks nothing");
		break;
	}
}

static int answer(struct reflection *r, const uint8_t *data, size_t len, struct err *err)
{
	Grpc__Reflection__V1__ServerReflectionRequest *request = message_unpack(
	    &grpc__reflection__v1__server_reflection_request__descriptor, data, len, err);
	struct answer *a = request != NULL ? calloc(1, sizeof(*a)) : NULL;
	uint8_t *packed = NULL;
	size_t packed_len;
	int result = -1;

	if (request == NULL)
		return -1;
	if (a != NULL) {
		make_answer(a, request);
		packed = codec_pack_new(&a->response.base, &packed_len);
	}
	if (packed == NULL)
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	else
		result = rpc_call_send(r->call, packed, packed_len) == 0
		    ? 0
		    : err_set(err, GRPC_RESOURCE_EXHAUSTED, "too many answers wait to be read");
	free(packed);
	free(a);
	codec_free(request);
	return result;
}

static void finish(struct reflection *r, const struct err *err)
{
	r->finished = true;
	rpc_call_finish(r->call, err);
}

/* Answers as many requests as there are and as the client keeps up with. */
static void work(struct reflection *r)
{
	const uint8_t *data;
	size_t len;
	struct err err;
	int got;

	while (rpc_call_queued(r->call) < REFLECTION_QUEUE_MAX) {
		got = rpc_reader_next(&r->reader, &data, &len, &err);
		if (got > 0)
			got = answer(r, data, len, &err);
		else if (got == 0 && !r->ended)
			return;
		else if (got == 0 && rpc_reader_is_partial(&r->reader))
			got = err_set(
			    &err, GRPC_INVALID_ARGUMENT, "the stream ended within a message");
		else if (got == 0) {
			finish(r, NULL);
			return;
		}
		if (got < 0) {
			finish(r, &err);
			return;
		}
		rpc_call_credit(r->call, RPC_PREFIX_SIZE + len);
	}
}

static void on_data(void *cookie, struct slice slice)
{
	struct reflection *r = cookie;
	struct err err;

	if (rpc_reader_push(&r->reader, slice, &err) != 0) {
		finish(r, &err);
		return;
	}
	work(r);
}

static void on_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	struct reflection *r = cookie;

	(void)status;
	(void)trailers;
	r->ended = true;
	if (!r->finished)
		work(r);
}

static void on_sent(void *cookie, size_t bytes)
{
	struct reflection *r = cookie;

	(void)bytes;
	if (!r->finished)
		work(r);
}

static void on_closed(void *cookie, const struct err *why)
{
	struct reflection *r = cookie;

	(void)why;
	rpc_reader_free(&r->reader);
	free(r);
}

static const struct rpc_call_ops ops = {
	.data = on_data,
	.end = on_end,
	.sent = on_sent,
	.closed = on_closed,
};

void reflection_open(struct rpc_call *call, void *gateway)
{
	struct reflection *r = calloc(1, sizeof(*r));
	struct err err;

	(void)gateway;
	if (r == NULL) {
		err_set(&err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		rpc_call_finish(call, &err);
		return;
	}
	r->call = call;
	rpc_reader_init(&r->reader, REFLECTION_REQUEST_MAX);
	rpc_call_bind(call, &ops, r);
}
