/* Public and private SSH keys: those ssh-keygen made, and many that nobody should take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/ssh_key.h"
#include "rpc/ssh_key_file.h"
#include "rpc/ssh_wire.h"
#include "support/leak.h"

static const char ed25519[] =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFIWj/BkmfJMiiF/fTwCJ2RHJvz8JCybr+gEMmB+9G4c a c"
    "omment, with spaces";
static const char ecdsa256[] =
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBOGelADP4dFk"
    "+Ekpv9xhLa9ECkB453htsgly0LoBk3F0+G4nGW2Fj3cUIaHS/Cwx9O4BiVWgGVUDvIRqK4/fqfs= a comme"
    "nt, with spaces";
static const char ecdsa384[] =
    "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBLNGp2Hj1gK2"
    "txnwty8V+Yl2IVeHOpMF4Mn/hlxPLi35KAczEfwSRvTLbqX0GEaSBIKIYLXPSqPjEP7+E8NuFa+nvsXY7Ste"
    "W/0mFNV2wVh4g3jnY9dTrtRmyIib8o4gxw== a comment, with spaces";
static const char ecdsa521[] =
    "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAAf0sS8unKm"
    "tCPFi/9jXK6/F6GXWkBqYpcpP6mfnwCIxwbL2Xf3lo7GA8cCDabo4yNt9iZt+zkjHgaLxzZHOm1c+QHaxyUX"
    "SlQDmdSW0EG6idq1CBBz0gmmosXphpYdZaTunREMZFsGvY7E1dyd8pnp0C4XaHkpv8PujFecYkBlUZw8Aw=="
    " a comment, with spaces";
static const char rsa2048[] =
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDIZE5ANXhoMCJFmV4Dck9FURxfi8mVh6QHBsEOFYNJzWM0"
    "4uxu/Nlt7E2Ajo2XIeOS36+u+v2gRHODNENSoV22hIRRNQi6VIPBLy6pX6CnencUwVJ5NuIst7Ewg5pB3e3p"
    "N8xAL2EdsjlkXHFWqXIiNMgiocFtkGxUYWcLlyn0AiUN/PTmJsQKs5x3jYjEJUG5YVh6KE9d1FQSTPqSnQx4"
    "3XNK8LBMm4HfpmMp0MW+VBus1yWCZFM83lG1qn3kmW1KrQF7EotPNLiGNUcwx/hIjLIdvYEnCAepTIpQcEQW"
    "HwTI7EwKJX8ziUV4SVyOktuUunNYraqOaVuc4VvzuIhd a comment, with spaces";
static const char dsa[] =
    "ssh-dss AAAAB3NzaC1kc3MAAACBAPVtLfwwRfcEKNGHbu+RqvjT9xaYx9L/Q9sw7I4LYD3WaZ4pn9sbhgAf"
    "BXqHACWo0I/cmPvsY/s06dP6orYmfXSUdqp+R6zOQ4SzVULY4gYsBbuDI3vmjcBXCzCTz2vEhrEB0RXd97gl"
    "U0yS2GNK5H7xTSvTZxWHMAvUcav10YjNAAAAFQChs/SkSKkXgef5S+ZFoXRPx4cvfQAAAIApoOOFlPBXkyMW"
    "qjcIwGs+kl9cWr04UAqIYC1aX2Gu+mjdOONPAhflho9tB2qZNwYpp0ca+SzwagAFtR0tFZHSQ43ARH7r3jlz"
    "HCLBZ7ql4+HozeyTJ/vgy6mbp56V6UlhaDS4eSxeqaD8+y8JyCDA7YKK/02QWParwrXq1qdHFQAAAIEAhGEv"
    "ycZ1bUYoUtYEwt5SSoI5zBofdxqIklHTNmVUp95Gr2I5p8YrSUWZ20G4i6ZiYDs00Q61xUp6WchHCCzE0RPF"
    "hm9H2NiCkvOchnstM0FbBBoOTrUkT/FuO7CbeLXv35CEoQ0gM1NqIMzJBqMnaKhE8zP9Q+ZUOPx0dvrJaTA="
    " key dsa";
static const char rsa1024[] =
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQCXAzbwiHkbT6FV7x6qIJufNAOn43MKBzWbmwuOybQ7zRDY"
    "brPQXWUvjmifdOM/VCVWXs5dj8fAr5go7bQu0szw1PrYqLCUzqfL/w3PsLoPMC1Goj1AL5+Nix3hOiU1jdki"
    "vX1hbqxJtM4lUFhV/uTPU1FWYshWBP0wxx4o4yW9bw== key rsab1024";
static const char certificate[] =
    "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAA"
    "AILdf1XfLgTG9caFZ9PqyfmAhpF5zQxDc41NWEQQLPfMPAAAAIFIWj/BkmfJMiiF/fTwCJ2RHJvz8JCybr+g"
    "EMmB+9G4cAAAAAAAAAAAAAAABAAAAAmlkAAAABQAAAAF1AAAAAAAAAAD//////////wAAAAAAAACCAAAAFXB"
    "lcm1pdC1YMTEtZm9yd2FyZGluZwAAAAAAAAAXcGVybWl0LWFnZW50LWZvcndhcmRpbmcAAAAAAAAAFnBlcm1"
    "pdC1wb3J0LWZvcndhcmRpbmcAAAAAAAAACnBlcm1pdC1wdHkAAAAAAAAADnBlcm1pdC11c2VyLXJjAAAAAAA"
    "AAAAAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIFIWj/BkmfJMiiF/fTwCJ2RHJvz8JCybr+gEMmB+9G4cAAAAUwA"
    "AAAtzc2gtZWQyNTUxOQAAAEBwThM7e7vXwutk4SLs97xqiPNyOaRMJY74Q0sRpM4095Yd3ryp5ap5TFTP4Rj"
    "4u42+yojEhay7zr8qdcvH+VcL key ed25519";
static const char private_file[] =
    "-----BEGIN OPENSSH PRIVATE KEY-----\n"
    "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n"
    "QyNTUxOQAAACBSFo/wZJnyTIohf308AidkRyb8/CQsm6/oBDJgfvRuHAAAAJB0gtgYdILY\n"
    "GAAAAAtzc2gtZWQyNTUxOQAAACBSFo/wZJnyTIohf308AidkRyb8/CQsm6/oBDJgfvRuHA\n"
    "AAAEDOybSJJktQVhYX7OHJE0kWPVYuCzAQKGp7GezWljt3O1IWj/BkmfJMiiF/fTwCJ2RH\n"
    "Jvz8JCybr+gEMmB+9G4cAAAAC2tleSBlZDI1NTE5AQI=\n"
    "-----END OPENSSH PRIVATE KEY-----\n";

static int setup(void **state)
{
	*state = leak_begin();
	return 0;
}

static int teardown(void **state)
{
	return leak_end(*state);
}

static const struct {
	const char *line, *type;
	unsigned bits;
	const char *fingerprint;
} good[] = {
	{ ed25519, "ssh-ed25519", 256, "SHA256:BmW30sw4Wo6NjhuJ97Dtgkk+j/hoIOGPTp1+ru9IlCI" },
	{ ecdsa256, "ecdsa-sha2-nistp256", 256,
	    "SHA256:AFBlu4MRGOEoqYYEYWj60VMWnwgNBQhKmQfWvu8MVJk" },
	{ ecdsa384, "ecdsa-sha2-nistp384", 384,
	    "SHA256:1M31uqXVHH49HlCnccVoSt0Z/RA3qr89IbFTQZljDSI" },
	{ ecdsa521, "ecdsa-sha2-nistp521", 521,
	    "SHA256:ciP2NBY7MWNp/BsSzjPzoRR75Q1Lhadc03TidsZx1ws" },
	{ rsa2048, "ssh-rsa", 2048, "SHA256:J2WQU9aeGv7AInSvqt1g24y1gFd35j23PNC5EaDBufE" },
};

#define GOOD (sizeof(good) / sizeof(good[0]))

static void test_accepts(void **state)
{
	(void)state;
	for (size_t i = 0; i < GOOD; i++) {
		char fingerprint[SSH_KEY_FINGERPRINT_SIZE], line[SSH_KEY_LINE_MAX];
		struct ssh_key key, again;
		struct err err = { 0 };

		if (ssh_key_parse_line(good[i].line, &key, &err) != 0)
			fail_msg("%s: %s", good[i].type, err.text);
		assert_string_equal(key.type, good[i].type);
		assert_int_equal(key.bits, good[i].bits);
		ssh_key_fingerprint(key.blob, key.len, fingerprint);
		assert_string_equal(fingerprint, good[i].fingerprint);
		assert_int_equal(ssh_key_parse(key.blob, key.len, &again, &err), 0);
		assert_memory_equal(again.blob, key.blob, key.len);
		snprintf(line, sizeof(line), "%s\r\n", good[i].line);
		assert_int_equal(ssh_key_parse_line(line, &key, &err), 0);
	}
}

/* Cut off anywhere, or with a byte too many: no key. */
static void test_refuses_pieces(void **state)
{
	(void)state;
	for (size_t i = 0; i < GOOD; i++) {
		struct ssh_key key, other;
		struct err err;

		assert_int_equal(ssh_key_parse_line(good[i].line, &key, &err), 0);
		for (size_t len = 0; len < key.len; len++)
			assert_int_equal(ssh_key_parse(key.blob, len, &other, &err), -1);
		key.blob[key.len] = 0;
		assert_int_equal(ssh_key_parse(key.blob, key.len + 1, &other, &err), -1);
		assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
	}
}

static void refuses(const char *line, const char *words)
{
	struct ssh_key key;
	struct err err = { 0 };

	if (ssh_key_parse_line(line, &key, &err) != -1)
		fail_msg("accepted: %.60s", line);
	assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
	if (strstr(err.text, words) == NULL)
		fail_msg("%.60s: \"%s\" does not say \"%s\"", line, err.text, words);
}

static void test_refuses_lines(void **state)
{
	char line[SSH_KEY_LINE_MAX + 2];
	const char *base64 = strchr(ed25519, ' ') + 1;

	(void)state;
	refuses("", "not accepted");
	refuses("ssh-ed25519", "no base64");
	refuses("ssh-ed25519 ", "no base64");
	refuses("ssh-ed25519 ???? me", "no base64");
	refuses("ssh-ed25519 AAAA me", "no SSH key");
	refuses(certificate, "certificates are not accepted");
	refuses(dsa, "\"ssh-dss\"");
	refuses(rsa1024, "1024 bits");
	refuses(private_file, "private key");
	refuses("sk-ssh-ed25519@openssh.com AAAA", "not accepted");
	snprintf(line, sizeof(line), "no-pty %s", ed25519);
	refuses(line, "\"no-pty\"");
	snprintf(line, sizeof(line), "%s\n%s", ed25519, ed25519);
	refuses(line, "more than one line");
	snprintf(line, sizeof(line), "ssh-rsa %s", base64);
	refuses(line, "of type \"ssh-ed25519\"");
	snprintf(line, sizeof(line), "%s", ed25519);
	memset(line + strlen(line), 'x', sizeof(line) - strlen(line) - 1);
	line[sizeof(line) - 1] = '\0';
	refuses(line, "longer than");
}

static void refuses_rsa(const char *e, size_t e_len, const uint8_t *n, size_t n_len)
{
	uint8_t blob[4096];
	struct ssh_wire_out out = { .at = blob, .size = sizeof(blob) };
	struct ssh_key key;
	struct err err;

	ssh_wire_put_text(&out, "ssh-rsa");
	ssh_wire_put_string(&out, e, e_len);
	ssh_wire_put_string(&out, n, n_len);
	assert_false(out.failed);
	assert_int_equal(ssh_key_parse(blob, out.len, &key, &err), -1);
}

static void test_refuses_numbers(void **state)
{
	uint8_t n[2052];

	(void)state;
	memset(n, 0x55, sizeof(n));
	refuses_rsa("", 0, n, 257);
	refuses_rsa("\x04", 1, n, 257);     /* even */
	refuses_rsa("\x01", 1, n, 257);     /* too small */
	refuses_rsa("\x00\x03", 2, n, 257); /* a zero too many */
	refuses_rsa("\x83", 1, n, 257);     /* negative */
	refuses_rsa("\x03", 1, n, 255);     /* too short */
	refuses_rsa("\x03", 1, n, 2049);    /* too long: 16,391 bits */
	refuses_rsa("\x03", 1, n, 0);
	n[256] = 0x54;
	refuses_rsa("\x03", 1, n, 257);
	refuses_rsa("\x11\x11\x11\x11\x11\x11\x11\x11\x11", 9, n, 256);
}

/* A point beside the curve, and one that is compressed. */
static void test_refuses_points(void **state)
{
	struct ssh_key key, other;
	struct err err;

	(void)state;
	for (size_t i = 1; i < 4; i++) {
		assert_int_equal(ssh_key_parse_line(good[i].line, &key, &err), 0);
		key.blob[key.len - 1] ^= 1;
		assert_int_equal(ssh_key_parse(key.blob, key.len, &other, &err), -1);
		assert_non_null(strstr(err.text, "no point of"));
	}
	assert_int_equal(ssh_key_parse_line(ecdsa256, &key, &err), 0);
	key.blob[4 + 19 + 4 + 8 + 4] = 2;
	assert_int_equal(ssh_key_parse(key.blob, key.len, &other, &err), -1);
}

static void test_reads_file(void **state)
{
	struct ssh_key key;
	char fingerprint[SSH_KEY_FINGERPRINT_SIZE];
	struct err err = { 0 };

	(void)state;
	if (ssh_key_file_read(private_file, strlen(private_file), &key, &err) != 0)
		fail_msg("%s", err.text);
	ssh_key_fingerprint(key.blob, key.len, fingerprint);
	assert_string_equal(fingerprint, good[0].fingerprint);
	for (size_t len = 0; len + 1 < strlen(private_file); len++)
		assert_int_equal(ssh_key_file_read(private_file, len, &key, &err), -1);
}

/* Whatever is made can be read, and its line and its file are of one key. */
static void test_makes(void **state)
{
	char text[SSH_KEY_FILE_SIZE], line[SSH_KEY_LINE_SIZE], long_comment[500];
	struct ssh_key made, read, parsed;
	struct err err;

	(void)state;
	memset(long_comment, 'c', sizeof(long_comment) - 1);
	long_comment[sizeof(long_comment) - 1] = '\0';
	for (size_t i = 0; i < 64; i++) {
		const char *comment =
		    i == 63 ? long_comment : long_comment + sizeof(long_comment) - 1 - i;

		assert_int_equal(ssh_key_file_make(comment, text, &made, &err), 0);
		assert_true(strlen(text) + 1 < SSH_KEY_FILE_SIZE);
		assert_int_equal(ssh_key_file_read(text, strlen(text), &read, &err), 0);
		assert_int_equal(read.len, made.len);
		assert_memory_equal(read.blob, made.blob, made.len);
		ssh_key_line(&made, comment, line);
		assert_int_equal(ssh_key_parse_line(line, &parsed, &err), 0);
		assert_memory_equal(parsed.blob, made.blob, made.len);
	}
}

/* One bit of the file changed: either the same key, or none, or an error; never another
 * pair of halves. */
static void test_changed_file(void **state)
{
	struct ssh_key made, read;
	char text[SSH_KEY_FILE_SIZE];
	struct err err;

	(void)state;
	assert_int_equal(ssh_key_file_make("me", text, &made, &err), 0);
	for (size_t at = 0; at < strlen(text); at++) {
		for (int bit = 0; bit < 7; bit++) {
			text[at] = (char)(text[at] ^ (1 << bit));
			if (ssh_key_file_read(text, strlen(text), &read, &err) == 0)
				assert_memory_equal(read.blob, made.blob, made.len);
			text[at] = (char)(text[at] ^ (1 << bit));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_accepts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refuses_pieces, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refuses_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refuses_numbers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refuses_points, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reads_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_makes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changed_file, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
