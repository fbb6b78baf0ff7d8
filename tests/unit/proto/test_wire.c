/*
 * The compiled messages and enums against the tables: every name, number, type, label
 * and oneof that OpenShell has, and nothing that it has not and we did not mean to add.
 */
#include <protobuf-c/protobuf-c.h>

#include "proto/messages.h"
#include "tsv.h"

/* Columns of tables/fields.tsv and tables/enums.tsv. */
enum { FIELD_API, FIELD_MESSAGE, FIELD_NUMBER, FIELD_NAME, FIELD_LABEL, FIELD_TYPE, FIELD_ONEOF };
enum { ENUM_API, ENUM_NAME, ENUM_NUMBER, ENUM_VALUE };

/* Numbers from here on in openshell.v1 are ours. */
#define OURS_FROM 1000

static const ProtobufCMessageDescriptor *need_message(const struct tsv *t, const char *name)
{
	const ProtobufCMessageDescriptor *m = messages_find(name);

	if (m == NULL)
		fail_msg("line %u: message %s is not declared", t->number, name);
	return m;
}

static const ProtobufCFieldDescriptor *field_at(
    const ProtobufCMessageDescriptor *m, const char *number)
{
	return protobuf_c_message_descriptor_get_field(m, (unsigned)strtoul(number, NULL, 10));
}

/* The type of a field as the tables write it. */
static const char *type_name(const ProtobufCFieldDescriptor *f)
{
	static const char *const names[] = {
		[PROTOBUF_C_TYPE_INT32] = "int32",
		[PROTOBUF_C_TYPE_SINT32] = "sint32",
		[PROTOBUF_C_TYPE_SFIXED32] = "sfixed32",
		[PROTOBUF_C_TYPE_INT64] = "int64",
		[PROTOBUF_C_TYPE_SINT64] = "sint64",
		[PROTOBUF_C_TYPE_SFIXED64] = "sfixed64",
		[PROTOBUF_C_TYPE_UINT32] = "uint32",
		[PROTOBUF_C_TYPE_FIXED32] = "fixed32",
		[PROTOBUF_C_TYPE_UINT64] = "uint64",
		[PROTOBUF_C_TYPE_FIXED64] = "fixed64",
		[PROTOBUF_C_TYPE_FLOAT] = "float",
		[PROTOBUF_C_TYPE_DOUBLE] = "double",
		[PROTOBUF_C_TYPE_BOOL] = "bool",
		[PROTOBUF_C_TYPE_STRING] = "string",
		[PROTOBUF_C_TYPE_BYTES] = "bytes",
	};

	if (f->type == PROTOBUF_C_TYPE_MESSAGE)
		return ((const ProtobufCMessageDescriptor *)f->descriptor)->name;
	if (f->type == PROTOBUF_C_TYPE_ENUM)
		return ((const ProtobufCEnumDescriptor *)f->descriptor)->name;
	return names[f->type];
}

static bool in_oneof(const ProtobufCFieldDescriptor *f)
{
	return (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
}

/* How many fields share the oneof of ${f}; they share where its case is kept. */
static size_t oneof_size(const ProtobufCMessageDescriptor *m, const ProtobufCFieldDescriptor *f)
{
	size_t n = 0;

	for (unsigned i = 0; i < m->n_fields; i++)
		n += in_oneof(&m->fields[i]) &&
		    m->fields[i].quantifier_offset == f->quantifier_offset;
	return n;
}

/* Fields of a message that live in oneofs with names, as one line of the table after
 * another tells, and where each is kept. */
struct oneofs {
	char message[256];
	char names[4][64];
	unsigned places[4];
	size_t count;
};

/* The same oneof in the table is the same place in the struct, and only then. */
static void check_place(struct oneofs *o, const struct tsv *t, const ProtobufCFieldDescriptor *f)
{
	if (strcmp(o->message, tsv_column(t, FIELD_MESSAGE)) != 0) {
		o->count = 0;
		snprintf(o->message, sizeof(o->message), "%s", tsv_column(t, FIELD_MESSAGE));
	}
	for (size_t i = 0; i < o->count; i++) {
		bool same_name = strcmp(o->names[i], tsv_column(t, FIELD_ONEOF)) == 0;

		assert_int_equal(same_name, o->places[i] == f->quantifier_offset);
		if (same_name)
			return;
	}
	assert_true(o->count < 4);
	snprintf(o->names[o->count], sizeof(o->names[0]), "%s", tsv_column(t, FIELD_ONEOF));
	o->places[o->count++] = f->quantifier_offset;
}

static void check_label(struct oneofs *o, const struct tsv *t, const ProtobufCMessageDescriptor *m,
    const ProtobufCFieldDescriptor *f)
{
	const char *label = tsv_column(t, FIELD_LABEL);

	if (strcmp(label, "repeated") == 0) {
		assert_int_equal(f->label, PROTOBUF_C_LABEL_REPEATED);
	} else if (strcmp(label, "optional") == 0) {
		assert_true(in_oneof(f));
		assert_int_equal(oneof_size(m, f), 1);
	} else {
		assert_string_equal(label, "single");
		assert_int_equal(f->label, PROTOBUF_C_LABEL_NONE);
		assert_int_equal(in_oneof(f), *tsv_column(t, FIELD_ONEOF) != '\0');
		if (in_oneof(f))
			check_place(o, t, f);
	}
}

static void check_declared(struct oneofs *o, const struct tsv *t)
{
	const ProtobufCMessageDescriptor *m = need_message(t, tsv_column(t, FIELD_MESSAGE));
	const ProtobufCFieldDescriptor *f;

	if (*tsv_column(t, FIELD_NUMBER) == '\0')
		return; /* a message without fields */
	f = field_at(m, tsv_column(t, FIELD_NUMBER));
	if (f == NULL || strcmp(f->name, tsv_column(t, FIELD_NAME)) != 0 ||
	    strcmp(type_name(f), tsv_column(t, FIELD_TYPE)) != 0)
		fail_msg("line %u: %s.%s = %s is not declared so", t->number, m->name,
		    tsv_column(t, FIELD_NAME), tsv_column(t, FIELD_NUMBER));
	check_label(o, t, m, f);
}

/* The number means something else now, under this name or another. */
static void check_not_declared(const struct tsv *t)
{
	const ProtobufCMessageDescriptor *m = need_message(t, tsv_column(t, FIELD_MESSAGE));
	const ProtobufCFieldDescriptor *f = field_at(m, tsv_column(t, FIELD_NUMBER));

	assert_non_null(f);
	if (strcmp(f->name, tsv_column(t, FIELD_NAME)) == 0 &&
	    strcmp(type_name(f), tsv_column(t, FIELD_TYPE)) == 0)
		fail_msg("line %u: %s.%s was given up upstream", t->number, m->name, f->name);
}

/* An older name of a number that is declared under its newer one. */
static void check_renamed(const struct tsv *t)
{
	const ProtobufCMessageDescriptor *m = need_message(t, tsv_column(t, FIELD_MESSAGE));
	const ProtobufCFieldDescriptor *f = field_at(m, tsv_column(t, FIELD_NUMBER));

	assert_non_null(f);
	assert_string_equal(type_name(f), tsv_column(t, FIELD_TYPE));
	assert_string_not_equal(f->name, tsv_column(t, FIELD_NAME));
}

static void test_fields_are_those_of_the_table(void **state)
{
	struct oneofs oneofs = { 0 };
	struct tsv t;
	size_t rows = 0;

	(void)state;
	tsv_open(&t, "fields.tsv");
	for (; tsv_next(&t); rows++) {
		const char *api = tsv_column(&t, FIELD_API);

		if (tsv_is_declared(api))
			check_declared(&oneofs, &t);
		else if (strcmp(api, "legacy-conflict") == 0)
			check_not_declared(&t);
		else if (strcmp(api, "legacy-name") == 0)
			check_renamed(&t);
		else
			fail_msg("line %u: api %s", t.number, api);
	}
	tsv_close(&t);
	assert_true(rows > 1700);
}

/* Whether the table has field ${number} of ${message}. */
static bool table_has(const char *message, unsigned number)
{
	struct tsv t;
	bool found = false;

	tsv_open(&t, "fields.tsv");
	while (!found && tsv_next(&t))
		found = tsv_is_declared(tsv_column(&t, FIELD_API)) &&
		    strcmp(tsv_column(&t, FIELD_MESSAGE), message) == 0 &&
		    strtoul(tsv_column(&t, FIELD_NUMBER), NULL, 10) == number;
	tsv_close(&t);
	return found;
}

/* Messages of the file transfer calls, which the table does not have. */
static bool is_ours(const char *message)
{
	return strncmp(message, "openshell.v1.UploadFile", 23) == 0 ||
	    strncmp(message, "openshell.v1.DownloadFile", 25) == 0;
}

static void test_nothing_else_is_declared(void **state)
{
	(void)state;
	for (size_t i = 0; i < messages_count(); i++) {
		const ProtobufCMessageDescriptor *m = messages_at(i);

		if (strncmp(m->name, "openshell.", 10) != 0 || is_ours(m->name))
			continue;
		for (unsigned k = 0; k < m->n_fields; k++) {
			unsigned number = m->fields[k].id;

			if (number < OURS_FROM && !table_has(m->name, number))
				fail_msg("%s.%s = %u is not in the table", m->name,
				    m->fields[k].name, number);
		}
	}
}

static void test_enums_are_those_of_the_table(void **state)
{
	struct tsv t;
	size_t rows = 0;

	(void)state;
	tsv_open(&t, "enums.tsv");
	for (; tsv_next(&t); rows++) {
		const ProtobufCEnumDescriptor *e = messages_find_enum(tsv_column(&t, ENUM_NAME));
		const ProtobufCEnumValue *v;

		if (e == NULL)
			fail_msg("line %u: enum %s is not declared", t.number,
			    tsv_column(&t, ENUM_NAME));
		assert_true(tsv_is_declared(tsv_column(&t, ENUM_API)));
		v = protobuf_c_enum_descriptor_get_value_by_name(e, tsv_column(&t, ENUM_VALUE));
		if (v == NULL || v->value != (int)strtol(tsv_column(&t, ENUM_NUMBER), NULL, 10))
			fail_msg("line %u: %s = %s is not declared so", t.number,
			    tsv_column(&t, ENUM_VALUE), tsv_column(&t, ENUM_NUMBER));
	}
	tsv_close(&t);
	assert_true(rows > 150);
}

/* What Towline adds, by its numbers: they are on the wire between versions of ours. */
static void test_additions(void **state)
{
	static const struct {
		const char *message;
		unsigned number;
		const char *name;
		const char *type;
	} rows[] = {
		{ "openshell.v1.RelayOpen", 1000, "call", "towline.v1.CallTarget" },
		{ "openshell.v1.RelayOpen", 1001, "loop", "uint32" },
		{ "openshell.v1.SupervisorHello", 1000, "features", "string" },
		{ "openshell.v1.TcpForwardInit", 1000, "confirm", "bool" },
		{ "openshell.v1.SessionAccepted", 1000, "data_connections", "uint32" },
		{ "openshell.v1.SessionAccepted", 1001, "loop", "uint32" },
		{ "openshell.v1.UploadFileRequest", 1, "metadata",
		    "openshell.v1.UploadFileMetadata" },
		{ "openshell.v1.UploadFileRequest", 2, "chunk", "bytes" },
		{ "openshell.v1.UploadFileMetadata", 1, "sandbox", "string" },
		{ "openshell.v1.UploadFileMetadata", 2, "remote_path", "string" },
		{ "openshell.v1.UploadFileMetadata", 3, "size_bytes", "uint64" },
		{ "openshell.v1.UploadFileMetadata", 4, "mode", "uint32" },
		{ "openshell.v1.UploadFileMetadata", 5, "is_archive", "bool" },
		{ "openshell.v1.UploadFileMetadata", 16, "upload_id", "string" },
		{ "openshell.v1.UploadFileMetadata", 17, "offset", "uint64" },
		{ "openshell.v1.UploadFileMetadata", 18, "digest", "towline.v1.Digest" },
		{ "openshell.v1.UploadFileMetadata", 19, "modified_time",
		    "google.protobuf.Timestamp" },
		{ "openshell.v1.UploadFileMetadata", 20, "if_exists", "towline.v1.IfExists" },
		{ "openshell.v1.UploadFileMetadata", 21, "no_parents", "bool" },
		{ "openshell.v1.UploadFileMetadata", 22, "workspace_scope",
		    "openshell.datamodel.v1.WorkspaceSelector" },
		{ "openshell.v1.UploadFileMetadata", 23, "size_unknown", "bool" },
		{ "openshell.v1.UploadFileMetadata", 24, "piece_bytes", "uint64" },
		{ "openshell.v1.UploadFileMetadata", 25, "writer", "uint64" },
		{ "openshell.v1.UploadFileMetadata", 26, "adds_digest", "bool" },
		{ "openshell.v1.UploadFileResponse", 1, "bytes_written", "uint64" },
		{ "openshell.v1.UploadFileResponse", 16, "digest", "towline.v1.Digest" },
		{ "openshell.v1.UploadFileResponse", 17, "entries", "uint64" },
		{ "openshell.v1.UploadFileResponse", 18, "skipped", "bool" },
		{ "openshell.v1.DownloadFileRequest", 1, "sandbox", "string" },
		{ "openshell.v1.DownloadFileRequest", 2, "remote_path", "string" },
		{ "openshell.v1.DownloadFileRequest", 3, "as_archive", "bool" },
		{ "openshell.v1.DownloadFileRequest", 16, "offset", "uint64" },
		{ "openshell.v1.DownloadFileRequest", 17, "length", "uint64" },
		{ "openshell.v1.DownloadFileRequest", 18, "if_match", "string" },
		{ "openshell.v1.DownloadFileRequest", 19, "compression", "towline.v1.Compression" },
		{ "openshell.v1.DownloadFileRequest", 20, "exclude", "string" },
		{ "openshell.v1.DownloadFileRequest", 22, "workspace_scope",
		    "openshell.datamodel.v1.WorkspaceSelector" },
		{ "openshell.v1.DownloadFileRequest", 23, "sparse_ok", "bool" },
		{ "openshell.v1.DownloadFileRequest", 24, "prefix_bytes", "uint64" },
		{ "openshell.v1.DownloadFileResponse", 1, "header",
		    "openshell.v1.DownloadFileHeader" },
		{ "openshell.v1.DownloadFileResponse", 2, "chunk", "bytes" },
		{ "openshell.v1.DownloadFileResponse", 16, "trailer",
		    "openshell.v1.DownloadFileTrailer" },
		{ "openshell.v1.DownloadFileResponse", 17, "hole_bytes", "uint64" },
		{ "openshell.v1.DownloadFileHeader", 1, "size_bytes", "uint64" },
		{ "openshell.v1.DownloadFileHeader", 2, "mode", "uint32" },
		{ "openshell.v1.DownloadFileHeader", 3, "is_archive", "bool" },
		{ "openshell.v1.DownloadFileHeader", 16, "modified_time",
		    "google.protobuf.Timestamp" },
		{ "openshell.v1.DownloadFileHeader", 17, "etag", "string" },
		{ "openshell.v1.DownloadFileHeader", 18, "total_bytes", "uint64" },
		{ "openshell.v1.DownloadFileHeader", 19, "sparse", "bool" },
		{ "openshell.v1.DownloadFileTrailer", 1, "digest", "towline.v1.Digest" },
		{ "openshell.v1.DownloadFileTrailer", 2, "bytes", "uint64" },
		{ "openshell.v1.DownloadFileTrailer", 3, "entries", "uint64" },
		{ "openshell.v1.DownloadFileTrailer", 16, "digest_bytes", "uint64" },
		{ "towline.v1.CallTarget", 1, "method", "string" },
		{ "towline.v1.CallTarget", 2, "first_message", "bytes" },
		{ "towline.v1.CallTarget", 3, "half_closed", "bool" },
		{ "towline.v1.CallTarget", 4, "deadline", "google.protobuf.Duration" },
		{ "towline.v1.CallTarget", 5, "subject", "string" },
		{ "towline.v1.Digest", 1, "algorithm", "towline.v1.DigestAlgorithm" },
		{ "towline.v1.Digest", 2, "value", "bytes" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const ProtobufCMessageDescriptor *m = messages_find(rows[i].message);
		const ProtobufCFieldDescriptor *f;

		assert_non_null(m);
		f = protobuf_c_message_descriptor_get_field(m, rows[i].number);
		if (f == NULL)
			fail_msg("%s has no field %u", rows[i].message, rows[i].number);
		assert_string_equal(f->name, rows[i].name);
		assert_string_equal(type_name(f), rows[i].type);
	}
}

/* The payload of every message on the byte path is the same bytes on the wire. */
static void test_payloads_are_field_2(void **state)
{
	static const char *const messages[] = {
		"openshell.v1.TcpForwardFrame",
		"openshell.v1.RelayFrame",
		"openshell.v1.PeerRelayFrame",
		"openshell.v1.ExecSandboxInput",
		"openshell.v1.UploadFileRequest",
		"openshell.v1.DownloadFileResponse",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		const ProtobufCMessageDescriptor *m = messages_find(messages[i]);
		const ProtobufCFieldDescriptor *f;

		assert_non_null(m);
		f = protobuf_c_message_descriptor_get_field(m, 2);
		assert_non_null(f);
		assert_int_equal(f->type, PROTOBUF_C_TYPE_BYTES);
		assert_int_equal(oneof_size(m, f), m->n_fields);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields_are_those_of_the_table),
		cmocka_unit_test(test_nothing_else_is_declared),
		cmocka_unit_test(test_enums_are_those_of_the_table),
		cmocka_unit_test(test_additions),
		cmocka_unit_test(test_payloads_are_field_2),
	};

	return cmocka_run_group_tests(tests, tsv_setup, tsv_teardown);
}
