/* Paths that are no UTF-8, through messages. */
#include "transfer/raw_path.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "support/alloc.h"
#include "towline/v1/files.pb-c.h"

/* Through bytes, as a peer would have it; the caller frees it. */
static Towline__V1__MoveFileRequest *pass(const char *path, const char *new_path, struct err *err)
{
	Towline__V1__MoveFileRequest q = TOWLINE__V1__MOVE_FILE_REQUEST__INIT;
	size_t len;

	q.path = (char *)path;
	q.new_path = (char *)new_path;
	raw_path_give(&q);
	uint8_t *packed = codec_pack_new(&q.base, &len);
	Towline__V1__MoveFileRequest *m = packed == NULL
	    ? NULL
	    : codec_unpack(&towline__v1__move_file_request__descriptor, packed, len, NULL);
	free(packed);
	if (m != NULL && raw_path_take(m, err) == 0)
		return m;
	codec_free(m);
	return NULL;
}

static void any_bytes_pass(void **state)
{
	static const char *const paths[] = { "", "a", "\xc3\xbc", "\xff", "a/\xe9/b", "\xc3",
		"\n" };
	struct err err = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		Towline__V1__MoveFileRequest *m = pass(paths[i], "b", &err);

		assert_non_null(m);
		assert_string_equal(m->path, paths[i]);
		assert_string_equal(m->new_path, "b");
		assert_int_equal(m->raw_path.len, 0);
		codec_free(m);
		m = pass("b", paths[i], &err);
		assert_non_null(m);
		assert_string_equal(m->new_path, paths[i]);
		codec_free(m);
	}
}

/* Those who do not know of the other field need not be kept from UTF-8. */
static void text_stays_text(void **state)
{
	Openshell__V1__DownloadFileRequest q = OPENSHELL__V1__DOWNLOAD_FILE_REQUEST__INIT;

	(void)state;
	q.sandbox = (char *)"\xff"; /* of which no raw_sandbox is */
	q.remote_path = (char *)"\xc3\xbc";
	raw_path_give(&q);
	assert_string_equal(q.remote_path, "\xc3\xbc");
	assert_int_equal(q.raw_remote_path.len, 0);
	q.remote_path = (char *)"\xc3";
	raw_path_give(&q);
	assert_string_equal(q.remote_path, "");
	assert_int_equal(q.raw_remote_path.len, 1);
}

/* Of both the bytes count. */
static void bytes_replace_text(void **state)
{
	static const uint8_t both[] = "\x12\x03old\x2a\x03n\xffw", nul[] = "\x2a\x03n\0w";
	struct err err = { 0 };
	Towline__V1__StatFileRequest *m;

	(void)state;
	m = codec_unpack(&towline__v1__stat_file_request__descriptor, both, sizeof(both) - 1, NULL);
	assert_non_null(m);
	assert_int_equal(raw_path_take(m, &err), 0);
	assert_string_equal(m->path, "n\xffw");
	codec_free(m);
	m = codec_unpack(&towline__v1__stat_file_request__descriptor, nul, sizeof(nul) - 1, NULL);
	assert_non_null(m);
	assert_int_equal(raw_path_take(m, &err), -1);
	assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
	assert_non_null(strstr(err.text, "raw_path"));
	codec_free(m);
}

/* A list through bytes: it is as before, and comes out so. */
static Towline__V1__ListDirectoryRequest *pass_list(
    char **list, size_t count, bool *raw, struct err *err)
{
	Towline__V1__ListDirectoryRequest q = TOWLINE__V1__LIST_DIRECTORY_REQUEST__INIT, *m;
	size_t len;

	q.path = (char *)"\xff";
	q.exclude = list;
	q.n_exclude = count;
	*raw = raw_path_has_lists(&q);
	uint8_t *packed = raw_path_pack(&q, &q, &len);
	assert_ptr_equal(q.exclude, list);
	assert_int_equal(q.n_exclude, count);
	assert_int_equal(q.n_raw_exclude, 0);
	assert_null(q.raw_exclude);
	assert_string_equal(q.path, "\xff");
	m = packed == NULL
	    ? NULL
	    : codec_unpack(&towline__v1__list_directory_request__descriptor, packed, len, NULL);
	free(packed);
	if (m == NULL)
		return NULL;
	assert_int_equal(*raw ? m->n_raw_exclude : m->n_exclude, count);
	if (raw_path_take(m, err) == 0)
		return m;
	codec_free(m);
	return NULL;
}

/* All of it goes in the one or in the other, in its order. */
static void lists_of_any_bytes_pass(void **state)
{
	static char *lists[][3] = { { (char *)"a", (char *)"!\xc3\xbc", (char *)"" },
		{ (char *)"a", (char *)"!\xff", (char *)"" },
		{ (char *)"\xc3", (char *)"b", (char *)"c" } };
	struct err err = { 0 };
	bool raw;

	(void)state;
	for (size_t i = 0; i < 3; i++)
		for (size_t count = 0; count <= 3; count++) {
			Towline__V1__ListDirectoryRequest *m =
			    pass_list(lists[i], count, &raw, &err);

			assert_non_null(m);
			assert_int_equal(raw, (i == 1 && count >= 2) || (i == 2 && count >= 1));
			assert_int_equal(m->n_exclude, count);
			assert_int_equal(m->n_raw_exclude, 0);
			for (size_t k = 0; k < count; k++)
				assert_string_equal(m->exclude[k], lists[i][k]);
			assert_string_equal(m->path, "\xff");
			codec_free(m);
		}
}

/* Of both the bytes count, and a NUL in any of them is told. */
static void lists_of_bytes_replace_texts(void **state)
{
	static const uint8_t both[] = "\x2a\x03old\x2a\x02xx\x3a\x03n\xffw\x3a\x00";
	static const uint8_t nul[] = "\x2a\x03old\x3a\x01n\x3a\x03n\0w\x3a\x01z";
	const ProtobufCMessageDescriptor *type = &towline__v1__list_directory_request__descriptor;
	struct err err = { 0 };

	(void)state;
	Towline__V1__ListDirectoryRequest *m = codec_unpack(type, both, sizeof(both) - 1, NULL);
	assert_non_null(m);
	assert_int_equal(raw_path_take(m, &err), 0);
	assert_int_equal(m->n_exclude, 2);
	assert_string_equal(m->exclude[0], "n\xffw");
	assert_string_equal(m->exclude[1], "");
	codec_free(m);
	m = codec_unpack(type, nul, sizeof(nul) - 1, NULL);
	assert_non_null(m);
	assert_int_equal(raw_path_take(m, &err), -1);
	assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
	assert_non_null(strstr(err.text, "raw_exclude"));
	codec_free(m);
}

static void pass_or_not(void *cookie)
{
	static char *list[] = { (char *)"a", (char *)"\xff" };
	struct err err = { 0 };
	bool raw;

	(void)cookie;
	codec_free(pass("\xff", "\xfe", &err));
	codec_free(pass_list(list, 2, &raw, &err));
	assert_true(err.code == GRPC_OK || err.code == GRPC_RESOURCE_EXHAUSTED);
}

static void memory_may_be_short(void **state)
{
	(void)state;
	alloc_torture(pass_or_not, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_bytes_pass),
		cmocka_unit_test(text_stays_text),
		cmocka_unit_test(bytes_replace_text),
		cmocka_unit_test(lists_of_any_bytes_pass),
		cmocka_unit_test(lists_of_bytes_replace_texts),
		cmocka_unit_test(memory_may_be_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
