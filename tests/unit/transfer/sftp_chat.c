#include "sftp_chat.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/beneath.h"

struct sftp_chat *sftp_chat;

int sftp_setup(void **state)
{
	struct sftp_chat *f = calloc(1, sizeof(*f));

	f->leak = leak_begin();
	f->env.workdir = open(leak_folder(f->leak), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->env.slash = fcntl(f->env.workdir, F_DUPFD_CLOEXEC, 3);
	f->env.workdir_path = leak_folder(f->leak);
	chat_begin(&f->chat);
	*state = sftp_chat = f;
	return f->env.slash >= 0 ? 0 : -1;
}

int sftp_teardown(void **state)
{
	static const char *const made[] = { "a", "b", "c", "d", "etc", "f", "link" };
	struct sftp_chat *f = *state;
	struct err err;

	chat_end(&f->chat);
	for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++)
		assert_int_equal(beneath_remove_tree(f->env.workdir, made[i], &err), 0);
	close(f->env.workdir);
	close(f->env.slash);
	int r = leak_end(f->leak);
	free(f);
	return r;
}

void say_packet(const struct text *body)
{
	uint8_t len[4];

	sftp_store_u32(len, (uint32_t)body->len);
	chat_say(&sftp_chat->chat, len, 4);
	chat_say(&sftp_chat->chat, body->data, body->len);
}

void say_init(void)
{
	sftp_chat->next_id = 0;
	chat_say(&sftp_chat->chat, "\0\0\0\5\1\0\0\0\3", 9);
}

void say(int type, const char *shape, ...)
{
	struct sftp_bytes b;
	struct text body;
	va_list args;

	text_init(&body, 1 << 20);
	sftp_put_u8(&body, (uint8_t)type);
	sftp_put_u32(&body, ++sftp_chat->next_id);
	va_start(args, shape);
	for (; *shape != '\0'; shape++) {
		switch (*shape) {
		case 'u':
			sftp_put_u32(&body, va_arg(args, uint32_t));
			break;
		case 'q':
			sftp_put_u64(&body, va_arg(args, uint64_t));
			break;
		case 's':
			sftp_put_string(&body, va_arg(args, const char *));
			break;
		case 'h':
			b = va_arg(args, struct sftp_bytes);
			sftp_put_bytes(&body, b.data, b.len);
			break;
		default:
			sftp_put_u32(&body, 0);
		}
	}
	va_end(args);
	say_packet(&body);
	text_free(&body);
}

int run(struct err *err)
{
	struct chat *c = &sftp_chat->chat;
	int r = sftp_run(&sftp_chat->env, &c->talk, err);

	if (r == 0)
		assert_int_equal(talk_flush(&c->talk, err), 0);
	sftp_chat->answers = (struct sftp_in){ .at = c->told, .left = c->told_len };
	sftp_chat->next_id = 0;
	if (r == 0)
		assert_int_equal(c->used, c->said_len);
	return r;
}

void run_all(void)
{
	struct err err = { 0 };

	if (run(&err) != 0)
		fail_msg("%s", err.text);
}

struct sftp_in answer(int type)
{
	struct sftp_bytes b = sftp_get_bytes(&sftp_chat->answers);
	struct sftp_in in = { .at = b.data, .left = b.len };

	assert_false(sftp_chat->answers.bad);
	assert_true(in.left >= 5);
	if (in.at[0] != type)
		fail_msg("type %d, not %d, to %u", in.at[0], type, sftp_chat->next_id + 1);
	in.at++;
	in.left--;
	uint32_t id = sftp_get_u32(&in);
	if (type != SFTP_VERSION)
		assert_int_equal(id, ++sftp_chat->next_id);
	return in;
}

void is_status(int status)
{
	struct sftp_in in = answer(SFTP_STATUS);
	uint32_t got = sftp_get_u32(&in);
	struct sftp_bytes text = sftp_get_bytes(&in);

	sftp_get_bytes(&in);
	assert_false(in.bad);
	if (got != (uint32_t)status)
		fail_msg("%u, not %d: %.*s", got, status, (int)text.len, (const char *)text.data);
}

void nothing_more(void)
{
	assert_int_equal(sftp_chat->answers.left, 0);
}

struct sftp_bytes handle(uint32_t slot, uint32_t generation)
{
	static uint8_t names[8][SFTP_HANDLE_SIZE];
	static unsigned next;
	uint8_t *name = names[next++ % 8];

	sftp_store_u32(name, slot);
	sftp_store_u32(name + 4, generation);
	return (struct sftp_bytes){ .data = name, .len = SFTP_HANDLE_SIZE };
}

void make_file(const char *path, const char *content)
{
	int fd = openat(sftp_chat->env.workdir, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, strlen(content)), (ssize_t)strlen(content));
	close(fd);
}

void file_is(const char *path, const char *content)
{
	char buf[64] = "";
	int fd = openat(sftp_chat->env.workdir, path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_true(read(fd, buf, sizeof(buf) - 1) >= (ssize_t)strlen(content));
	assert_string_equal(buf, content);
	close(fd);
}

void say_open(const char *path, uint32_t flags)
{
	say(SFTP_OPEN, "suz", path, flags);
}

void say_write(struct sftp_bytes h, uint64_t offset, const char *data)
{
	say(SFTP_WRITE, "hqs", h, offset, data);
}

void say_read(struct sftp_bytes h, uint64_t offset, uint32_t len)
{
	say(SFTP_READ, "hqu", h, offset, len);
}

void is_data(const char *content)
{
	struct sftp_in in = answer(SFTP_DATA);
	struct sftp_bytes b = sftp_get_bytes(&in);

	assert_int_equal(in.left, 0);
	assert_int_equal(b.len, strlen(content));
	assert_memory_equal(b.data, content, b.len);
}
