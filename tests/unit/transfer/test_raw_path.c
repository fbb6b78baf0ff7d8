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

static void pass_or_not(void *cookie)
{
	struct err err = { 0 };

	(void)cookie;
	codec_free(pass("\xff", "\xfe", &err));
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
		cmocka_unit_test(memory_may_be_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
