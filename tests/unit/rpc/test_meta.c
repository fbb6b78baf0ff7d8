/* Metadata: what may be in it, and how it looks on the wire. */
#include "rpc/meta.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/meta_wire.h"

static int from_wire(struct rpc_meta *meta, const char *name, const char *value, struct err *err)
{
	struct meta_field field = {
		.name = name,
		.name_len = strlen(name),
		.value = value,
		.value_len = strlen(value),
	};

	return meta_from_wire(meta, &field, err);
}

static void keeps_what_was_added_in_order(void **state)
{
	struct rpc_meta meta;
	struct err err = { 0 };

	(void)state;
	rpc_meta_init(&meta);
	for (int i = 0; i < 20; i++) {
		char value[24];

		snprintf(value, sizeof(value), "value %d", i);
		assert_int_equal(rpc_meta_add_text(&meta, i % 2 ? "odd" : "even", value, &err), 0);
	}
	assert_int_equal(meta.count, 20);
	assert_int_equal(meta.bytes, 5 * (4 + 7) + 5 * (4 + 8) + 5 * (3 + 7) + 5 * (3 + 8));
	assert_string_equal(rpc_meta_get(&meta, "odd"), "value 1");
	assert_string_equal(rpc_meta_get(&meta, "even"), "value 0");
	assert_null(rpc_meta_get(&meta, "od"));
	assert_string_equal(meta.items[19].value, "value 19");
	rpc_meta_free(&meta);
	assert_int_equal(meta.count, 0);
	rpc_meta_free(&meta);
}

static void bytes_are_kept_whole(void **state)
{
	static const uint8_t bytes[] = { 0, 1, 0xff, '\n', 0 };
	struct rpc_meta meta;
	struct err err = { 0 };

	(void)state;
	rpc_meta_init(&meta);
	assert_int_equal(rpc_meta_add(&meta, "x-bin", bytes, sizeof(bytes), &err), 0);
	assert_int_equal(rpc_meta_add(&meta, "empty-bin", NULL, 0, &err), 0);
	assert_int_equal(meta.items[0].len, sizeof(bytes));
	assert_memory_equal(meta.items[0].value, bytes, sizeof(bytes));
	assert_int_equal(meta.items[0].value[sizeof(bytes)], 0);
	assert_int_equal(meta.items[1].len, 0);
	rpc_meta_free(&meta);
}

static void refuses_names_and_values_http2_forbids(void **state)
{
	static const char *const names[] = { "", "Upper", "a b", "a:b", ":path", "a\x7f",
		"\xc3\xa4" };
	static const char *const values[] = { "a\nb", "a\rb", "\x01", "a\x7f", " a", "a ", "\ta" };
	struct rpc_meta meta;

	(void)state;
	rpc_meta_init(&meta);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct err err = { 0 };

		assert_int_equal(rpc_meta_add_text(&meta, names[i], "v", &err), -1);
		assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
	}
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		struct err err = { 0 };

		assert_int_equal(rpc_meta_add_text(&meta, "name", values[i], &err), -1);
		assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
		assert_non_null(strstr(err.text, "name"));
	}
	assert_int_equal(rpc_meta_add(&meta, "name", "a\0b", 3, NULL), -1);
	assert_int_equal(meta.count, 0);
	assert_int_equal(rpc_meta_add_text(&meta, "n-a_m.e1", "a\tb \xc3\xa4", NULL), 0);
	rpc_meta_free(&meta);
}

static void stops_at_the_item_limit(void **state)
{
	struct rpc_meta meta;
	struct err err = { 0 };

	(void)state;
	rpc_meta_init(&meta);
	for (int i = 0; i < RPC_META_ITEMS_MAX; i++)
		assert_int_equal(rpc_meta_add_text(&meta, "a", "", &err), 0);
	assert_int_equal(rpc_meta_add_text(&meta, "a", "", &err), -1);
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	assert_int_equal(meta.count, RPC_META_ITEMS_MAX);
	rpc_meta_free(&meta);
}

static void stops_at_the_byte_limit(void **state)
{
	static const char zeros[RPC_META_BYTES_MAX];
	struct rpc_meta meta;
	struct err err = { 0 };

	(void)state;
	rpc_meta_init(&meta);
	assert_int_equal(rpc_meta_add(&meta, "x-bin", zeros, RPC_META_BYTES_MAX - 4, &err), -1);
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	assert_int_equal(rpc_meta_add(&meta, "x-bin", zeros, SIZE_MAX, &err), -1);
	assert_int_equal(rpc_meta_add(&meta, "x-bin", zeros, RPC_META_BYTES_MAX - 5, &err), 0);
	assert_int_equal(meta.bytes, RPC_META_BYTES_MAX);
	assert_int_equal(rpc_meta_add_text(&meta, "a", "", &err), -1);
	rpc_meta_free(&meta);
}

static void reserved_fields_stay_out(void **state)
{
	static const char *const names[] = { ":path", ":status", "te", "content-type",
		"content-length", "host", "grpc-timeout", "grpc-status", "grpc-message",
		"grpc-encoding" };
	struct rpc_meta meta;
	struct err err = { 0 };

	(void)state;
	rpc_meta_init(&meta);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_int_equal(from_wire(&meta, names[i], "1", &err), 0);
	assert_int_equal(meta.count, 0);
	assert_int_equal(from_wire(&meta, "grpc-status-details-bin", "AAE", &err), 0);
	assert_int_equal(from_wire(&meta, "user-agent", "test/1", &err), 0);
	assert_int_equal(from_wire(&meta, "ten", "1", &err), 0);
	assert_int_equal(meta.count, 3);
	assert_int_equal(rpc_meta_add_text(&meta, "grpc-own-use", "1", &err), 0);
	rpc_meta_free(&meta);
}

static void text_comes_stripped_of_blanks(void **state)
{
	struct rpc_meta meta;
	struct err err = { 0 };

	(void)state;
	rpc_meta_init(&meta);
	assert_int_equal(from_wire(&meta, "a", " \tv w\t ", &err), 0);
	assert_string_equal(rpc_meta_get(&meta, "a"), "v w");
	assert_int_equal(from_wire(&meta, "b", "  ", &err), 0);
	assert_string_equal(rpc_meta_get(&meta, "b"), "");
	assert_int_equal(from_wire(&meta, "c", "a\x01", &err), -1);
	assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
	rpc_meta_free(&meta);
}

static void a_name_with_a_nul_is_refused(void **state)
{
	struct meta_field field = { .name = "a\0b", .name_len = 3, .value = "", .value_len = 0 };
	struct rpc_meta meta;
	struct err err = { 0 };

	(void)state;
	rpc_meta_init(&meta);
	assert_int_equal(meta_from_wire(&meta, &field, &err), -1);
	assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
	rpc_meta_free(&meta);
}

static void base64_comes_padded_or_not(void **state)
{
	static const struct {
		const char *wire, *bytes;
	} cases[] = {
		{ "", "" },
		{ "Zg==", "f" },
		{ "Zg", "f" },
		{ "Zm8=", "fo" },
		{ "Zm8", "fo" },
		{ "Zm9v", "foo" },
		{ "Zm9vYg==", "foob" },
		{ "Zm9vYmE", "fooba" },
		{ "+/+/", "\xfb\xff\xbf" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rpc_meta meta;
		struct err err = { 0 };

		rpc_meta_init(&meta);
		assert_int_equal(from_wire(&meta, "k-bin", cases[i].wire, &err), 0);
		assert_int_equal(meta.items[0].len, strlen(cases[i].bytes));
		assert_string_equal(meta.items[0].value, cases[i].bytes);
		rpc_meta_free(&meta);
	}
}

static void bad_base64_is_refused(void **state)
{
	static const char *const values[] = { "A", "AAAAA", "A===", "=",
		"==", "Zg=", "Zm8==", "Zm9v=", "Z=g=", "Zm-_", "Zm 9v", "Zm9v\xff" };

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		struct rpc_meta meta;
		struct err err = { 0 };

		rpc_meta_init(&meta);
		assert_int_equal(from_wire(&meta, "k-bin", values[i], &err), -1);
		assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
		assert_int_equal(meta.count, 0);
		rpc_meta_free(&meta);
	}
}

static void joined_values_come_apart(void **state)
{
	struct rpc_meta meta;
	struct err err = { 0 };

	(void)state;
	rpc_meta_init(&meta);
	assert_int_equal(from_wire(&meta, "k-bin", "Zg==, Zm8 ,Zm9v", &err), 0);
	assert_int_equal(meta.count, 3);
	assert_string_equal(meta.items[0].value, "f");
	assert_string_equal(meta.items[1].value, "fo");
	assert_string_equal(meta.items[2].value, "foo");
	assert_int_equal(from_wire(&meta, "text", "a, b", &err), 0);
	assert_string_equal(meta.items[3].value, "a, b");
	rpc_meta_free(&meta);
}

/* Every length and every byte value goes out and comes in as it was. */
static void the_wire_changes_nothing(void **state)
{
	struct rpc_meta sent, received;
	struct meta_field fields[RPC_META_ITEMS_MAX];
	struct meta_wire wire;
	struct err err = { 0 };
	uint8_t bytes[RPC_META_ITEMS_MAX];
	size_t n = 0;

	(void)state;
	rpc_meta_init(&sent);
	rpc_meta_init(&received);
	for (size_t i = 0; i < RPC_META_ITEMS_MAX; i++) {
		bytes[i] = (uint8_t)(i * 37);
		assert_int_equal(rpc_meta_add(&sent, i % 3 ? "k-bin" : "k",
				     i % 3 ? (void *)bytes : "text", i % 3 ? i : 4, &err),
		    0);
	}
	assert_int_equal(meta_wire_begin(&wire, &sent, &err), 0);
	while (meta_wire_next(&wire, &fields[n]))
		n++;
	assert_int_equal(n, RPC_META_ITEMS_MAX);
	for (size_t i = 0; i < n; i++) {
		assert_null(memchr(fields[i].value, '=', fields[i].value_len));
		assert_int_equal(meta_from_wire(&received, &fields[i], &err), 0);
	}
	for (size_t i = 0; i < n; i++) {
		assert_string_equal(received.items[i].name, sent.items[i].name);
		assert_int_equal(received.items[i].len, sent.items[i].len);
		assert_memory_equal(
		    received.items[i].value, sent.items[i].value, sent.items[i].len);
	}
	meta_wire_end(&wire);
	rpc_meta_free(&sent);
	rpc_meta_free(&received);
}

static void no_metadata_is_an_empty_walk(void **state)
{
	struct meta_wire wire;
	struct meta_field field;

	(void)state;
	assert_int_equal(meta_wire_begin(&wire, NULL, NULL), 0);
	assert_false(meta_wire_next(&wire, &field));
	meta_wire_end(&wire);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_what_was_added_in_order),
		cmocka_unit_test(bytes_are_kept_whole),
		cmocka_unit_test(refuses_names_and_values_http2_forbids),
		cmocka_unit_test(stops_at_the_item_limit),
		cmocka_unit_test(stops_at_the_byte_limit),
		cmocka_unit_test(reserved_fields_stay_out),
		cmocka_unit_test(text_comes_stripped_of_blanks),
		cmocka_unit_test(a_name_with_a_nul_is_refused),
		cmocka_unit_test(base64_comes_padded_or_not),
		cmocka_unit_test(bad_base64_is_refused),
		cmocka_unit_test(joined_values_come_apart),
		cmocka_unit_test(the_wire_changes_nothing),
		cmocka_unit_test(no_metadata_is_an_empty_walk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
