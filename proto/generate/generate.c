/*
 * Writes the tables of proto/tables.h. Runs at build time:
 *
 *	towline-proto-generate SET TABLES HEADER...
 *
 * SET is what `protoc --include_imports --descriptor_set_out=SET` made of all .proto
 * files; TABLES is the .c file to write, which includes each HEADER. Like any build tool
 * it ends at the first thing that is wrong and leaves its memory to the system.
 */
#include <ctype.h>
#include <google/protobuf/descriptor.pb-c.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openshell/options/v1/options.pb-c.h"

/* Number of the extension openshell.options.v1.authorization. */
#define AUTHORIZATION 50000

enum kind { KIND_MESSAGE, KIND_ENUM, KIND_SERVICE, KIND_METHOD, KIND_EXTENSION };

struct symbol {
	enum kind kind;
	char *name; /* full */
	size_t file;
};

struct method {
	char *path;
	char *service;
	const Google__Protobuf__MethodDescriptorProto *proto;
	const Openshell__Options__V1__AuthorizationRule *rule; /* NULL: none */
};

struct extension {
	const char *type;
	int32_t number;
	size_t file;
};

struct file {
	const uint8_t *data; /* the serialized FileDescriptorProto */
	size_t len;
	Google__Protobuf__FileDescriptorProto *proto;
};

/* Everything the set declares. */
struct set {
	struct file *files;
	size_t file_count;
	struct symbol *symbols;
	size_t symbol_count;
	struct method *methods;
	size_t method_count;
	struct extension *extensions;
	size_t extension_count;
};

static const char *output; /* to be removed when it is not whole */

static _Noreturn void die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fputs("towline-proto-generate: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
	if (output != NULL)
		remove(output);
	exit(1);
}

/* Room for one more element behind ${count}, cleared. */
static void *grow(void *array, size_t count, size_t size)
{
	uint8_t *grown = realloc(array, (count + 1) * size);

	if (grown == NULL)
		die("out of memory");
	memset(grown + count * size, 0, size);
	return grown;
}

static char *format(const char *fmt, ...)
{
	char *text = NULL;
	va_list args;
	int n;

	va_start(args, fmt);
	n = vasprintf(&text, fmt, args);
	va_end(args);
	if (n < 0)
		die("out of memory");
	return text;
}

static uint8_t *read_file(const char *name, size_t *len)
{
	FILE *f = fopen(name, "rb");
	uint8_t *data = NULL;
	int byte;

	if (f == NULL)
		die("cannot open %s", name);
	for (*len = 0; (byte = getc(f)) != EOF; (*len)++) {
		if ((*len & (*len - 1)) == 0)
			data = realloc(data, *len > 0 ? 2 * *len : 1);
		if (data == NULL)
			die("out of memory");
		data[*len] = (uint8_t)byte;
	}
	if (ferror(f) != 0)
		die("cannot read %s", name);
	fclose(f);
	return data;
}

/* Reads a varint and moves ${at} behind it. */
static uint64_t varint(const uint8_t **at, const uint8_t *end)
{
	uint64_t value = 0;

	for (unsigned shift = 0; *at < end && shift < 64; shift += 7) {
		uint8_t byte = *(*at)++;

		value |= (uint64_t)(byte & 0x7f) << shift;
		if ((byte & 0x80) == 0)
			return value;
	}
	die("the descriptor set is cut off");
}

static void add_symbol(struct set *s, enum kind kind, const char *scope, const char *name)
{
	s->symbols = grow(s->symbols, s->symbol_count, sizeof(*s->symbols));
	s->symbols[s->symbol_count++] = (struct symbol){
		.kind = kind,
		.name = format("%s.%s", scope, name),
		.file = s->file_count,
	};
}

static void add_message(
    struct set *s, const char *scope, const Google__Protobuf__DescriptorProto *m)
{
	char *inner = format("%s.%s", scope, m->name);

	add_symbol(s, KIND_MESSAGE, scope, m->name);
	for (size_t i = 0; i < m->n_enum_type; i++)
		add_symbol(s, KIND_ENUM, inner, m->enum_type[i]->name);
	for (size_t i = 0; i < m->n_nested_type; i++)
		add_message(s, inner, m->nested_type[i]);
	free(inner);
}

/* protobuf-c takes an extension for an unknown field, which it keeps with the length
 * in front. */
static const Openshell__Options__V1__AuthorizationRule *rule_of(
    const Google__Protobuf__MethodOptions *options)
{
	if (options == NULL)
		return NULL;
	for (size_t i = 0; i < options->base.n_unknown_fields; i++) {
		const ProtobufCMessageUnknownField *field = &options->base.unknown_fields[i];
		const uint8_t *at = field->data, *end = field->data + field->len;
		const Openshell__Options__V1__AuthorizationRule *rule;

		if (field->tag != AUTHORIZATION)
			continue;
		if (varint(&at, end) != (uint64_t)(end - at))
			die("an authorization option is malformed");
		rule = openshell__options__v1__authorization_rule__unpack(
		    NULL, (size_t)(end - at), at);
		if (rule == NULL)
			die("an authorization option is malformed");
		return rule;
	}
	return NULL;
}

static void add_service(
    struct set *s, const char *scope, const Google__Protobuf__ServiceDescriptorProto *service)
{
	char *name = format("%s.%s", scope, service->name);

	add_symbol(s, KIND_SERVICE, scope, service->name);
	for (size_t i = 0; i < service->n_method; i++) {
		const Google__Protobuf__MethodDescriptorProto *m = service->method[i];

		add_symbol(s, KIND_METHOD, name, m->name);
		s->methods = grow(s->methods, s->method_count, sizeof(*s->methods));
		s->methods[s->method_count++] = (struct method){
			.path = format("/%s/%s", name, m->name),
			.service = name,
			.proto = m,
			.rule = rule_of(m->options),
		};
	}
}

static void add_extension(
    struct set *s, const char *scope, const Google__Protobuf__FieldDescriptorProto *x)
{
	add_symbol(s, KIND_EXTENSION, scope, x->name);
	s->extensions = grow(s->extensions, s->extension_count, sizeof(*s->extensions));
	s->extensions[s->extension_count++] = (struct extension){
		.type = x->extendee + 1, /* behind the dot */
		.number = x->number,
		.file = s->file_count,
	};
}

static void add_file(struct set *s, const uint8_t *data, size_t len)
{
	Google__Protobuf__FileDescriptorProto *f =
	    google__protobuf__file_descriptor_proto__unpack(NULL, len, data);

	if (f == NULL)
		die("file %zu of the descriptor set is malformed", s->file_count);
	for (size_t i = 0; i < f->n_message_type; i++)
		add_message(s, f->package, f->message_type[i]);
	for (size_t i = 0; i < f->n_enum_type; i++)
		add_symbol(s, KIND_ENUM, f->package, f->enum_type[i]->name);
	for (size_t i = 0; i < f->n_service; i++)
		add_service(s, f->package, f->service[i]);
	for (size_t i = 0; i < f->n_extension; i++)
		add_extension(s, f->package, f->extension[i]);
	s->files = grow(s->files, s->file_count, sizeof(*s->files));
	s->files[s->file_count++] = (struct file){ .data = data, .len = len, .proto = f };
}

/* A FileDescriptorSet is field 1, a file, again and again. Files are taken as they lie
 * there, so that reflection hands out protoc's bytes and not our copy of them. */
static void read_set(struct set *s, const uint8_t *data, size_t len)
{
	const uint8_t *at = data, *end = data + len;

	while (at < end) {
		uint64_t file_len;

		if (varint(&at, end) != (1 << 3 | 2))
			die("the descriptor set has something else than files in it");
		file_len = varint(&at, end);
		if (file_len > (uint64_t)(end - at))
			die("the descriptor set is cut off");
		add_file(s, at, (size_t)file_len);
		at += file_len;
	}
}

static int compare_symbols(const void *a, const void *b)
{
	return strcmp(((const struct symbol *)a)->name, ((const struct symbol *)b)->name);
}

static int compare_methods(const void *a, const void *b)
{
	return strcmp(((const struct method *)a)->path, ((const struct method *)b)->path);
}

/* Writes the C name of a type's descriptor, by protoc-c's rules: openshell.v1.OpenShell
 * is openshell__v1__open_shell__descriptor. */
static void write_descriptor_name(const char *name)
{
	bool was_upper = true;

	for (; *name != '\0'; name++) {
		bool is_upper = isupper((unsigned char)*name) != 0;

		if (*name == '.')
			putchar('_');
		else if (is_upper && !was_upper)
			putchar('_');
		putchar(*name == '.' ? '_' : tolower((unsigned char)*name));
		was_upper = is_upper || *name == '.';
	}
	fputs("__descriptor", stdout);
}

static void write_descriptors(
    const struct set *s, enum kind kind, const char *type, const char *table)
{
	size_t count = 0;

	printf("const %s *const %ss[] = {\n", type, table);
	for (size_t i = 0; i < s->symbol_count; i++) {
		if (s->symbols[i].kind != kind)
			continue;
		fputs("\t&", stdout);
		write_descriptor_name(s->symbols[i].name);
		fputs(",\n", stdout);
		count++;
	}
	printf("};\nconst size_t %s_count = %zu;\n\n", table, count);
}

static void write_services(const struct set *s)
{
	size_t count = 0;

	printf("const char *const tables_services[] = {\n");
	for (size_t i = 0; i < s->symbol_count; i++) {
		if (s->symbols[i].kind != KIND_SERVICE)
			continue;
		printf("\t\"%s\",\n", s->symbols[i].name);
		count++;
	}
	printf("};\nconst size_t tables_service_count = %zu;\n\n", count);
}

static void write_symbols(const struct set *s)
{
	printf("const struct tables_symbol tables_symbols[] = {\n");
	for (size_t i = 0; i < s->symbol_count; i++)
		printf("\t{ \"%s\", &file_%zu },\n", s->symbols[i].name, s->symbols[i].file);
	printf("};\nconst size_t tables_symbol_count = %zu;\n\n", s->symbol_count);
}

static const char *auth_of(const struct method *m)
{
	static const struct {
		const char *name;
		const char *constant;
	} auths[] = {
		{ "unauthenticated", "METHODS_AUTH_NONE" },
		{ "bearer", "METHODS_AUTH_BEARER" },
		{ "sandbox", "METHODS_AUTH_SANDBOX" },
		{ "dual", "METHODS_AUTH_DUAL" },
		{ "peer", "METHODS_AUTH_PEER" },
		{ "operator", "METHODS_AUTH_OPERATOR" },
	};

	if (m->rule == NULL)
		return "METHODS_AUTH_UNSTATED";
	for (size_t i = 0; i < sizeof(auths) / sizeof(auths[0]); i++) {
		if (strcmp(m->rule->auth_mode, auths[i].name) == 0)
			return auths[i].constant;
	}
	die("%s: auth_mode \"%s\" is none that methods.h knows", m->path, m->rule->auth_mode);
}

static const char *role_of(const struct method *m)
{
	const char *role = m->rule != NULL ? m->rule->workspace_role : "";

	if (strcmp(role, "") == 0)
		return "METHODS_ROLE_NONE";
	if (strcmp(role, "user") == 0)
		return "METHODS_ROLE_USER";
	if (strcmp(role, "admin") == 0)
		return "METHODS_ROLE_ADMIN";
	die("%s: workspace_role \"%s\" is none that methods.h knows", m->path, role);
}

static bool needs_platform_admin(const struct method *m)
{
	const char *role = m->rule != NULL ? m->rule->global_role : "";

	if (strcmp(role, "") != 0 && strcmp(role, "platform_admin") != 0)
		die("%s: global_role \"%s\" is none that methods.h knows", m->path, role);
	return strcmp(role, "") != 0;
}

static void write_methods(const struct set *s)
{
	printf("const struct method_info tables_methods[] = {\n");
	for (size_t i = 0; i < s->method_count; i++) {
		const struct method *m = &s->methods[i];

		printf("\t{ \"%s\", \"%s\", \"%s\",\n", m->path, m->service, m->proto->name);
		fputs("\t    &", stdout);
		write_descriptor_name(m->proto->input_type + 1);
		fputs(", &", stdout);
		write_descriptor_name(m->proto->output_type + 1);
		printf(",\n\t    %d, %d, %s, %s, %d, \"%s\" },\n", m->proto->client_streaming != 0,
		    m->proto->server_streaming != 0, auth_of(m), role_of(m),
		    needs_platform_admin(m), m->rule != NULL ? m->rule->scope : "");
	}
	printf("};\nconst size_t tables_method_count = %zu;\n\n", s->method_count);
}

static size_t file_index(const struct set *s, const char *name)
{
	for (size_t i = 0; i < s->file_count; i++) {
		if (strcmp(s->files[i].proto->name, name) == 0)
			return i;
	}
	die("%s is imported and not in the descriptor set: use --include_imports", name);
}

/* protoc puts a file behind those it imports, so that each can point at those before. */
static void write_file(const struct set *s, size_t index)
{
	const struct file *f = &s->files[index];

	printf("static const uint8_t data_%zu[] = {", index);
	for (size_t i = 0; i < f->len; i++)
		printf("%s%u,", i % 24 == 0 ? "\n\t" : "", f->data[i]);
	printf("\n};\n");
	if (f->proto->n_dependency > 0) {
		printf("static const struct descriptors_file *const imports_%zu[] = {\n", index);
		for (size_t i = 0; i < f->proto->n_dependency; i++)
			printf("\t&file_%zu,\n", file_index(s, f->proto->dependency[i]));
		printf("};\n");
	}
	printf("static const struct descriptors_file file_%zu = {\n", index);
	printf("\t\"%s\", data_%zu, sizeof(data_%zu),\n", f->proto->name, index, index);
	if (f->proto->n_dependency > 0)
		printf("\timports_%zu, %zu\n};\n\n", index, f->proto->n_dependency);
	else
		printf("\tNULL, 0\n};\n\n");
}

static const struct set *sorting; /* qsort() has no cookie */

static int compare_files(const void *a, const void *b)
{
	return strcmp(sorting->files[*(const size_t *)a].proto->name,
	    sorting->files[*(const size_t *)b].proto->name);
}

static void write_files(const struct set *s)
{
	size_t *order = calloc(s->file_count, sizeof(*order));

	if (order == NULL)
		die("out of memory");
	for (size_t i = 0; i < s->file_count; i++) {
		write_file(s, i);
		order[i] = i;
	}
	sorting = s;
	qsort(order, s->file_count, sizeof(*order), compare_files);
	printf("const struct descriptors_file *const tables_files[] = {\n");
	for (size_t i = 0; i < s->file_count; i++)
		printf("\t&file_%zu,\n", order[i]);
	printf("};\nconst size_t tables_file_count = %zu;\n\n", s->file_count);
	free(order);
}

static void write_extensions(const struct set *s)
{
	printf("const struct tables_extension tables_extensions[] = {\n");
	for (size_t i = 0; i < s->extension_count; i++) {
		const struct extension *x = &s->extensions[i];

		printf("\t{ \"%s\", %" PRId32 ", &file_%zu },\n", x->type, x->number, x->file);
	}
	printf("};\nconst size_t tables_extension_count = %zu;\n\n", s->extension_count);
}

static void write_tables(const struct set *s, char *const *headers)
{
	printf("/* Made from the .proto files by proto/generate/generate.c. */\n");
	printf("#include \"proto/tables.h\"\n\n");
	for (; *headers != NULL; headers++)
		printf("#include \"%s\"\n", *headers);
	printf("\n");
	write_files(s);
	write_symbols(s);
	write_extensions(s);
	write_services(s);
	write_descriptors(s, KIND_MESSAGE, "ProtobufCMessageDescriptor", "tables_message");
	write_descriptors(s, KIND_ENUM, "ProtobufCEnumDescriptor", "tables_enum");
	write_methods(s);
}

int main(int argc, char **argv)
{
	static struct set s; /* static, so that leak checkers see what it holds */
	static uint8_t *data;
	size_t len;

	if (argc < 3)
		die("usage: towline-proto-generate SET TABLES HEADER...");
	data = read_file(argv[1], &len);
	read_set(&s, data, len);
	qsort(s.symbols, s.symbol_count, sizeof(*s.symbols), compare_symbols);
	qsort(s.methods, s.method_count, sizeof(*s.methods), compare_methods);
	if (freopen(argv[2], "w", stdout) == NULL)
		die("cannot write %s", argv[2]);
	output = argv[2];
	write_tables(&s, argv + 3);
	if (fflush(stdout) != 0 || ferror(stdout) != 0)
		die("cannot write %s", argv[2]);
	return 0;
}
