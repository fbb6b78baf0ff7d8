/*
 * The embedded .proto files, as server reflection hands them out: each can be read, its
 * imports are there, and what they say is what the compiled code does.
 */
#include <google/protobuf/descriptor.pb-c.h>

#include "proto/codec.h"
#include "proto/descriptors.h"
#include "proto/messages.h"
#include "tsv.h"

static Google__Protobuf__FileDescriptorProto *read_file(const struct descriptors_file *f)
{
	static const struct guard_limits generous = {
		.bytes = (size_t)16 << 20,
		.memory = (size_t)64 << 20,
		.fields = (size_t)1 << 20,
		.depth = GUARD_DEPTH_MAX,
	};
	enum guard_result why;
	Google__Protobuf__FileDescriptorProto *proto = codec_unpack_within(
	    &google__protobuf__file_descriptor_proto__descriptor, f->data, f->len, &generous, &why);

	if (proto == NULL)
		fail_msg("%s: %s", f->name, guard_text(why));
	return proto;
}

static void check_file(const struct descriptors_file *f)
{
	Google__Protobuf__FileDescriptorProto *proto = read_file(f);

	assert_string_equal(proto->name, f->name);
	assert_int_equal(proto->n_dependency, f->import_count);
	for (size_t i = 0; i < f->import_count; i++) {
		assert_string_equal(proto->dependency[i], f->imports[i]->name);
		assert_ptr_equal(descriptors_find_file(f->imports[i]->name), f->imports[i]);
		check_file(f->imports[i]);
	}
	codec_free(proto);
}

static void test_files_and_their_imports(void **state)
{
	static const char *const names[] = {
		"openshell/v1/openshell.proto",
		"openshell/options/v1/options.proto",
		"openshell/datamodel/v1/datamodel.proto",
		"openshell/sandbox/v1/sandbox.proto",
		"openshell/compute/v1/compute.proto",
		"openshell/credentials/v1/credentials.proto",
		"openshell/inference/v1/inference.proto",
		"openshell/middleware/v1/middleware.proto",
		"openshell/gateway_interceptor/v1/gateway_interceptor.proto",
		"towline/v1/files.proto",
		"towline/v1/tunnel.proto",
		"grpc/health/v1/health.proto",
		"grpc/reflection/v1/reflection.proto",
		"grpc/testing/test.proto",
		"google/protobuf/struct.proto",
		"google/protobuf/descriptor.proto",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct descriptors_file *f = descriptors_find_file(names[i]);

		if (f == NULL)
			fail_msg("%s is not embedded", names[i]);
		check_file(f);
	}
	assert_null(descriptors_find_file("openshell.proto"));
	assert_null(descriptors_find_file(""));
}

static void test_symbols(void **state)
{
	static const struct {
		const char *symbol;
		const char *file;
	} rows[] = {
		{ "openshell.v1.OpenShell", "openshell/v1/openshell.proto" },
		{ "openshell.v1.OpenShell.GetSandbox", "openshell/v1/openshell.proto" },
		{ "openshell.v1.Sandbox", "openshell/v1/openshell.proto" },
		{ "openshell.v1.SandboxSpec.EnvironmentEntry", "openshell/v1/openshell.proto" },
		{ "openshell.v1.SandboxPhase", "openshell/v1/openshell.proto" },
		{ "openshell.options.v1.authorization", "openshell/options/v1/options.proto" },
		{ "towline.v1.Files.QueryUpload", "towline/v1/files.proto" },
		{ "grpc.health.v1.HealthCheckResponse.ServingStatus",
		    "grpc/health/v1/health.proto" },
		{ "google.protobuf.Struct", "google/protobuf/struct.proto" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct descriptors_file *f = descriptors_find_symbol(rows[i].symbol);

		if (f == NULL)
			fail_msg("%s is not found", rows[i].symbol);
		assert_string_equal(f->name, rows[i].file);
	}
	assert_null(descriptors_find_symbol("openshell.v1"));
	assert_null(descriptors_find_symbol("openshell.v1.openshell"));
	assert_null(descriptors_find_symbol(""));
}

static void test_every_message_is_a_symbol(void **state)
{
	(void)state;
	assert_true(messages_count() > 400);
	for (size_t i = 0; i < messages_count(); i++) {
		const ProtobufCMessageDescriptor *m = messages_at(i);

		assert_non_null(descriptors_find_symbol(m->name));
		assert_ptr_equal(messages_find(m->name), m);
	}
	assert_null(messages_find("openshell.v1.NoSuchMessage"));
	assert_null(messages_find_enum("openshell.v1.Sandbox"));
}

static void test_services(void **state)
{
	size_t n = descriptors_service_count();
	bool found = false;

	(void)state;
	for (size_t i = 0; i < n; i++) {
		found |= strcmp(descriptors_service_at(i), "openshell.v1.OpenShell") == 0;
		assert_non_null(descriptors_find_symbol(descriptors_service_at(i)));
		if (i > 0)
			assert_true(
			    strcmp(descriptors_service_at(i - 1), descriptors_service_at(i)) < 0);
	}
	assert_true(found);
}

static void test_extensions(void **state)
{
	const struct descriptors_file *f =
	    descriptors_find_extension("google.protobuf.MethodOptions", 50000);
	int32_t numbers[2] = { 0, 0 };

	(void)state;
	assert_non_null(f);
	assert_string_equal(f->name, "openshell/options/v1/options.proto");
	assert_null(descriptors_find_extension("google.protobuf.MethodOptions", 50001));
	assert_null(descriptors_find_extension("google.protobuf.FieldOptions", 50000));
	assert_int_equal(descriptors_extensions("google.protobuf.MethodOptions", numbers, 2), 1);
	assert_int_equal(numbers[0], 50000);
	assert_int_equal(descriptors_extensions("google.protobuf.MethodOptions", NULL, 0), 1);
	assert_int_equal(descriptors_extensions("openshell.v1.Sandbox", numbers, 2), 0);
}

/* The message ${name} in what file ${f} declares at its top level. */
static const Google__Protobuf__DescriptorProto *find_message(
    const Google__Protobuf__FileDescriptorProto *f, const char *name)
{
	for (size_t i = 0; i < f->n_message_type; i++) {
		if (strcmp(f->message_type[i]->name, name) == 0)
			return f->message_type[i];
	}
	return NULL;
}

static const char *oneof_name(const Google__Protobuf__DescriptorProto *m, const char *field)
{
	for (size_t i = 0; i < m->n_field; i++) {
		if (strcmp(m->field[i]->name, field) == 0 && m->field[i]->has_oneof_index)
			return m->oneof_decl[m->field[i]->oneof_index]->name;
	}
	return "";
}

/* protobuf-c's descriptors do not keep the names of oneofs; clients see them. */
static void test_oneofs_have_the_names_of_the_table(void **state)
{
	enum { MESSAGE = 1, FIELD = 3, ONEOF = 6 };
	struct tsv t;
	size_t rows = 0;

	(void)state;
	tsv_open(&t, "fields.tsv");
	while (tsv_next(&t)) {
		const struct descriptors_file *file;
		Google__Protobuf__FileDescriptorProto *proto;
		const Google__Protobuf__DescriptorProto *m;

		if (!tsv_is_declared(tsv_column(&t, 0)) || *tsv_column(&t, ONEOF) == '\0')
			continue;
		file = descriptors_find_symbol(tsv_column(&t, MESSAGE));
		assert_non_null(file);
		proto = read_file(file);
		m = find_message(proto, strrchr(tsv_column(&t, MESSAGE), '.') + 1);
		assert_non_null(m);
		assert_string_equal(oneof_name(m, tsv_column(&t, FIELD)), tsv_column(&t, ONEOF));
		codec_free(proto);
		rows++;
	}
	tsv_close(&t);
	assert_true(rows > 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files_and_their_imports),
		cmocka_unit_test(test_symbols),
		cmocka_unit_test(test_every_message_is_a_symbol),
		cmocka_unit_test(test_services),
		cmocka_unit_test(test_extensions),
		cmocka_unit_test(test_oneofs_have_the_names_of_the_table),
	};

	return cmocka_run_group_tests(tests, tsv_setup, tsv_teardown);
}
