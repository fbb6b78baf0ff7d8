/* Log lines: their form, and that no peer's text can forge or break one. */
#include "base/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/text.h"
#include "support/alloc.h"
#include "support/leak.h"

#define TIME_CHARS 20 /* of 2026-01-02T03:04:05Z */
#define STORM      1000

static const struct log_area area = { "test" };

struct fixture {
	struct leak *leak;
	int fd;
	char text[65536]; /* what was logged since read_log() before */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->leak = leak_begin();
	f->fd = memfd_create("log", MFD_CLOEXEC);
	log_setup(f->fd, LOG_FORMAT_LOGFMT, LOG_LEVEL_INFO);
	*state = f;
	return f->fd >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int r;

	log_setup(STDERR_FILENO, LOG_FORMAT_LOGFMT, LOG_LEVEL_WARN);
	close(f->fd);
	r = leak_end(f->leak);
	free(f);
	return r;
}

static const char *read_log(struct fixture *f)
{
	ssize_t n = pread(f->fd, f->text, sizeof(f->text) - 1, 0);

	assert_in_range(n, 0, sizeof(f->text) - 2);
	f->text[n] = '\0';
	assert_int_equal(ftruncate(f->fd, 0), 0);
	assert_int_equal(lseek(f->fd, 0, SEEK_SET), 0);
	return f->text;
}

/* What follows the time, which is checked, of the one line that was logged. */
static const char *read_line(struct fixture *f, const char *before_time)
{
	const char *line = read_log(f), *at = line + strlen(before_time);
	char now[21], earlier[21];
	time_t t = time(NULL);

	text_time(t, now);
	text_time(t - 2, earlier);
	assert_memory_equal(line, before_time, strlen(before_time));
	assert_int_equal(at[TIME_CHARS - 1], 'Z');
	assert_true(memcmp(at, now, TIME_CHARS) <= 0 && memcmp(at, earlier, TIME_CHARS) >= 0);
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
	return at + TIME_CHARS;
}

static unsigned count_lines(const char *text, const char *with)
{
	unsigned count = 0;

	for (const char *end; (end = strchr(text, '\n')) != NULL; text = end + 1) {
		const char *found = strstr(text, with);

		count += found != NULL && found < end;
	}
	return count;
}

static void test_before_setup(void **state)
{
	struct fixture *f = *state;
	int saved = dup(STDERR_FILENO);

	log_setup(STDERR_FILENO, LOG_FORMAT_LOGFMT, LOG_LEVEL_WARN);
	dup2(f->fd, STDERR_FILENO);
	log_warn(&area, "early", LOG_U64("n", 1));
	log_info(&area, "early", LOG_U64("n", 2));
	dup2(saved, STDERR_FILENO);
	close(saved);
	assert_string_equal(read_line(f, "time="), " level=warn area=test event=early n=1\n");
}

static void test_logfmt(void **state)
{
	log_fail(&area, "relay_close", LOG_STR("id", "r-1"), LOG_STR("why", "two words"),
	    LOG_STR("none", NULL), LOG_STR("empty", ""), LOG_I64("delta", INT64_MIN),
	    LOG_U64("bytes", UINT64_MAX));
	assert_string_equal(read_line(*state, "time="),
	    " level=error area=test event=relay_close id=r-1 why=\"two words\" empty=\"\" "
	    "delta=-9223372036854775808 bytes=18446744073709551615\n");
}

static void test_json(void **state)
{
	struct fixture *f = *state;

	log_setup(f->fd, LOG_FORMAT_JSON, LOG_LEVEL_TRACE);
	log_trace(&area, "relay_close", LOG_STR("id", "r-1"), LOG_STR("why", "a \"b\""),
	    LOG_STR("none", NULL), LOG_STR("empty", ""), LOG_I64("delta", -5),
	    LOG_U64("bytes", UINT64_MAX));
	assert_string_equal(read_line(f, "{\"time\":\""),
	    "\",\"level\":\"trace\",\"area\":\"test\",\"event\":\"relay_close\",\"id\":\"r-1\","
	    "\"why\":\"a \\\"b\\\"\",\"empty\":\"\",\"delta\":-5,\"bytes\":18446744073709551615}\n");
}

static void test_errors(void **state)
{
	struct err e;

	err_set(&e, GRPC_NOT_FOUND, "sandbox \"x\"\n");
	log_fail(&area, "failed", LOG_ERR(&e));
	assert_string_equal(read_line(*state, "time="),
	    " level=error area=test event=failed code=NOT_FOUND error=\"sandbox \\\"x\\\"\\\\x0a\"\n");
}

static void test_no_fields(void **state)
{
	struct fixture *f = *state;

	log_write(&area, LOG_LEVEL_WARN, "bare", NULL, 0);
	assert_string_equal(read_line(f, "time="), " level=warn area=test event=bare\n");
	log_setup(f->fd, LOG_FORMAT_JSON, LOG_LEVEL_INFO);
	log_write(&area, LOG_LEVEL_WARN, "bare", NULL, 0);
	assert_string_equal(read_line(f, "{\"time\":\""),
	    "\",\"level\":\"warn\",\"area\":\"test\",\"event\":\"bare\"}\n");
}

/* Text of a peer that tries to be more than a value. */
static const char *const hostile[] = {
	"\nlevel=error event=forged",
	"x\" level=error event=\"forged",
	"\\",
	"a\\\" event=forged",
	"\r\x1b[2J\x1b]0;title\x07",
	("\xc2\x9b"
	 "31m\xc2\x85"),
	"\xff\xfe\xc0\x8a\xed\xa0\x80\xf4\x90\x80\x80",
	"\xf0\x9f\x9a",
	"\x7f\x08\x08",
	"\",\"event\":\"forged",
	"\xe2\x82\"",
};

/* Printable UTF-8 on one line, in which each quote within a value is escaped. */
static void assert_harmless(const char *line)
{
	size_t left = strlen(line) - 1, n;

	assert_int_equal(line[left], '\n');
	for (; left > 0; line += n, left -= n) {
		n = text_printable(line, left);
		assert_true(n > 0);
	}
}

static void test_hostile_text(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		log_setup(f->fd, LOG_FORMAT_LOGFMT, LOG_LEVEL_INFO);
		log_warn(&area, "hostile", LOG_STR("peer", hostile[i]), LOG_U64("last", 1));
		const char *line = read_line(f, "time="),
			   *value = " level=warn area=test event=hostile peer=\"";
		assert_harmless(line);
		assert_memory_equal(line, value, strlen(value));
		/* Quotes are even, the escaped ones aside. */
		unsigned quotes = 0;
		for (const char *c = line; *c != '\0'; c++) {
			if (*c == '\\')
				c++;
			else
				quotes += *c == '"';
		}
		assert_int_equal(quotes, 2);
		assert_non_null(strstr(line, "\" last=1\n"));
		log_setup(f->fd, LOG_FORMAT_JSON, LOG_LEVEL_INFO);
		log_warn(&area, "hostile_json", LOG_STR("peer", hostile[i]));
		line = read_line(f, "{\"time\":\"");
		assert_harmless(line);
		assert_null(strstr(line, "\"event\":\"forged"));
		assert_non_null(strstr(line, "\"}\n"));
	}
}

static void test_every_byte(void **state)
{
	struct fixture *f = *state;
	char bytes[256];

	for (unsigned i = 0; i < 255; i++)
		bytes[i] = (char)(i + 1);
	bytes[255] = '\0';
	log_warn(&area, "bytes", LOG_STR("all", bytes));
	assert_harmless(read_line(f, "time="));
	log_setup(f->fd, LOG_FORMAT_JSON, LOG_LEVEL_INFO);
	log_warn(&area, "bytes", LOG_STR("all", bytes));
	assert_harmless(read_line(f, "{\"time\":\""));
	assert_non_null(strstr(f->text, "\\u0001\\u0002"));
	assert_non_null(strstr(f->text, "~\\u007f\\ufffd"));
}

static void test_levels(void **state)
{
	struct fixture *f = *state;

	for (int on = LOG_LEVEL_ERROR; on <= LOG_LEVEL_TRACE; on++) {
		log_setup(f->fd, LOG_FORMAT_LOGFMT, (enum log_level)on);
		for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_TRACE; level++)
			assert_int_equal(log_enabled((enum log_level)level), level <= on);
	}
}

static const char *secret(unsigned *asked)
{
	++*asked;
	return "s3cret";
}

/* What a debugging line would show does not even come to be when nobody reads it. */
static void test_quiet_is_not_evaluated(void **state)
{
	struct fixture *f = *state;
	unsigned asked = 0;

	log_debug(&area, "quiet", LOG_STR("key", secret(&asked)));
	log_trace(&area, "quiet", LOG_STR("key", secret(&asked)));
	assert_int_equal(asked, 0);
	assert_string_equal(read_log(f), "");
	log_setup(f->fd, LOG_FORMAT_LOGFMT, LOG_LEVEL_DEBUG);
	log_debug(&area, "quiet", LOG_STR("key", secret(&asked)));
	assert_int_equal(asked, 1);
	assert_non_null(strstr(read_log(f), "key=s3cret\n"));
}

static void test_level_names(void **state)
{
	static const char *const names[] = { "error", "WARN", "Info", "debug", "tracE" };
	enum log_level level = LOG_LEVEL_WARN;
	struct err e;

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(log_level_parse(names[i], &level, &e), 0);
		assert_int_equal(level, i);
	}
	assert_int_equal(log_level_parse("loud", &level, &e), -1);
	assert_int_equal(level, LOG_LEVEL_TRACE);
	assert_int_equal(e.code, GRPC_INVALID_ARGUMENT);
	assert_string_equal(
	    e.text, "\"loud\" is no log level; error, warn, info, debug and trace are");
	assert_int_equal(log_level_parse("", &level, NULL), -1);
}

/* A line too long, or without memory, is said to be lost, in the format in use. */
static void test_lost_lines(void **state)
{
	struct fixture *f = *state;
	static char large[9000];

	memset(large, 'x', sizeof(large) - 1);
	log_warn(&area, "large", LOG_STR("value", large));
	assert_string_equal(read_log(f), "event=log_line_lost\n");
	alloc_fail_at(1, true);
	log_warn(&area, "large", LOG_U64("value", 1));
	alloc_fail_at(0, false);
	assert_string_equal(read_log(f), "event=log_line_lost\n");
	log_setup(f->fd, LOG_FORMAT_JSON, LOG_LEVEL_INFO);
	log_warn(&area, "large", LOG_STR("value", large));
	assert_string_equal(read_log(f), "{\"event\":\"log_line_lost\"}\n");
	large[7000] = '\0';
	log_warn(&area, "large", LOG_STR("value", large));
	assert_true(strlen(read_log(f)) > 7000);
}

static void await_next_second(void)
{
	const struct timespec nap = { .tv_nsec = 10000000 };

	for (time_t t = time(NULL); time(NULL) == t;)
		nanosleep(&nap, NULL);
}

/* The sum of what the summing lines say. */
static uint64_t sum_repeated(const char *text)
{
	static const char key[] = " repeated=";
	uint64_t sum = 0;

	for (const char *at = text; (at = strstr(at, key)) != NULL;) {
		at += strlen(key);
		sum += strtoull(at, NULL, 10);
	}
	return sum;
}

/* What comes too often is counted, and no other event suffers. The storm may lie in two seconds. */
static void test_repeats(void **state)
{
	struct fixture *f = *state;
	unsigned shown;

	for (unsigned i = 0; i < STORM; i++)
		log_warn(&area, "storm", LOG_U64("n", i));
	log_warn(&area, "calm", LOG_U64("n", 1));
	await_next_second();
	log_warn(&area, "storm", LOG_STR("n", "last"));
	read_log(f);
	shown = count_lines(f->text, " event=storm n=");
	assert_in_range(shown, LOG_BURST + 1, 2 * LOG_BURST + 1);
	assert_int_equal(shown + sum_repeated(f->text), STORM + 1);
	assert_non_null(strstr(f->text, " event=storm n=0\n"));
	assert_non_null(strstr(f->text, " event=storm n=19\n"));
	assert_non_null(strstr(f->text, " event=storm n=last\n"));
	assert_int_equal(count_lines(f->text, " event=calm"), 1);
	/* Nothing is left to sum up. */
	await_next_second();
	log_warn(&area, "storm", LOG_STR("n", "after"));
	assert_string_equal(read_line(f, "time="), " level=warn area=test event=storm n=after\n");
}

/* More events than have a row: each is still written. */
static void test_many_events(void **state)
{
	static char names[200][16];
	struct fixture *f = *state;

	for (unsigned i = 0; i < 200; i++) {
		snprintf(names[i], sizeof(names[i]), "event-%u", i);
		log_warn(&area, names[i], LOG_U64("n", i));
	}
	read_log(f);
	assert_int_equal(count_lines(f->text, " event=event-"), 200);
	assert_null(strstr(f->text, "repeated"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_before_setup, setup, teardown),
		cmocka_unit_test_setup_teardown(test_logfmt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_json, setup, teardown),
		cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_fields, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile_text, setup, teardown),
		cmocka_unit_test_setup_teardown(test_every_byte, setup, teardown),
		cmocka_unit_test_setup_teardown(test_levels, setup, teardown),
		cmocka_unit_test_setup_teardown(test_quiet_is_not_evaluated, setup, teardown),
		cmocka_unit_test_setup_teardown(test_level_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(test_repeats, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_events, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
