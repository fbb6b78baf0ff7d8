#include "transfer/sftp/sftp.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH_SIZE 4

/* Of a WRITE, what is before its data: type, id, handle, offset, length. */
#define WRITE_HEAD (1 + 4 + (4 + SFTP_HANDLE_SIZE) + 8 + 4)

/* The table is the list: every request of version 3 but INIT and WRITE, which are apart. */
static const struct {
	enum sftp_type type;
	sftp_request *run;
} requests[] = {
	{ SFTP_OPEN, sftp_open },
	{ SFTP_CLOSE, sftp_close },
	{ SFTP_READ, sftp_read },
	{ SFTP_LSTAT, sftp_lstat },
	{ SFTP_FSTAT, sftp_fstat },
	{ SFTP_SETSTAT, sftp_setstat },
	{ SFTP_FSETSTAT, sftp_fsetstat },
	{ SFTP_OPENDIR, sftp_opendir },
	{ SFTP_READDIR, sftp_readdir },
	{ SFTP_REMOVE, sftp_remove },
	{ SFTP_MKDIR, sftp_mkdir },
	{ SFTP_RMDIR, sftp_rmdir },
	{ SFTP_REALPATH, sftp_realpath },
	{ SFTP_STAT, sftp_stat },
	{ SFTP_RENAME, sftp_rename },
	{ SFTP_READLINK, sftp_readlink },
	{ SFTP_SYMLINK, sftp_symlink },
	{ SFTP_EXTENDED, sftp_extended },
};

static sftp_request *find(uint8_t type)
{
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
		if (requests[i].type == type)
			return requests[i].run;
	return NULL;
}

/* Answers. */

void sftp_begin(struct sftp *s, enum sftp_type type)
{
	s->begin = s->out->len;
	s->answered = true;
	sftp_put_u32(s->out, 0);
	sftp_put_u8(s->out, (uint8_t)type);
	sftp_put_u32(s->out, s->id);
}

void sftp_end(struct sftp *s)
{
	if (!s->out->failed)
		sftp_store_u32((uint8_t *)s->out->data + s->begin,
		    (uint32_t)(s->out->len - s->begin - LENGTH_SIZE));
}

enum sftp_status sftp_fail(struct sftp *s, int sys)
{
	s->sys = sys;
	return sftp_status_of(sys);
}

enum sftp_status sftp_result(struct sftp *s, int returned)
{
	return returned == 0 ? SFTP_OK : sftp_fail(s, errno);
}

enum sftp_status sftp_refuse(struct sftp *s, const char *why)
{
	s->why = why;
	return SFTP_FAILURE;
}

static void put_status(struct sftp *s, enum sftp_status status)
{
	const char *text = s->why;
	char buf[128];

	if (text == NULL && s->sys != 0)
		text = strerror_r(s->sys, buf, sizeof(buf));
	sftp_begin(s, SFTP_STATUS);
	sftp_put_u32(s->out, status);
	sftp_put_string(s->out, text != NULL ? text : sftp_status_text(status));
	sftp_put_string(s->out, ""); /* the text's language */
	sftp_end(s);
}

static int answer(struct sftp *s, enum sftp_status status, struct err *err)
{
	if (!s->answered)
		put_status(s, status);
	return talk_gathered(s->talk, err);
}

/* Requests. */

struct sftp_handle *sftp_get_handle(struct sftp *s)
{
	return sftp_handles_find(&s->handles, sftp_get_bytes(&s->in));
}

enum sftp_status sftp_no_handle(struct sftp *s)
{
	return s->in.bad ? SFTP_BAD_MESSAGE : sftp_refuse(s, "No such handle");
}

bool sftp_get_two_paths(struct sftp *s)
{
	sftp_get_path(&s->in, s->path[0]);
	sftp_get_path(&s->in, s->path[1]);
	return !s->in.bad;
}

/* Opens the packet: ${s->in} is what is behind type and id. */
static void begin_request(struct sftp *s, const uint8_t *packet, size_t len)
{
	s->in = (struct sftp_in){ .at = packet + 1, .left = len - 1 };
	s->id = sftp_get_u32(&s->in);
	s->answered = false;
	s->sys = 0;
	s->why = NULL;
}

/* The whole packet is there; its data is taken from where it was received. */
static int run_write(struct sftp *s, size_t len, struct err *err)
{
	uint8_t head[WRITE_HEAD];
	enum sftp_status status = SFTP_BAD_MESSAGE;
	size_t known = len < sizeof(head) ? len : sizeof(head);

	talk_copy(s->talk, head, known);
	begin_request(s, head, known);
	if (s->in.bad)
		return err_set(err, GRPC_INVALID_ARGUMENT, "SFTP: a packet without an id");
	talk_drop(s->talk, known);
	if (known == sizeof(head))
		status = sftp_write(s, len - known);
	talk_drop(s->talk, len - known);
	return answer(s, status, err);
}

static int run_other(struct sftp *s, size_t len, struct err *err)
{
	talk_copy(s->talk, s->packet, len);
	talk_drop(s->talk, len);
	begin_request(s, s->packet, len);
	if (s->in.bad)
		return err_set(err, GRPC_INVALID_ARGUMENT, "SFTP: a packet without an id");
	sftp_request *run = find(s->packet[0]);
	return answer(s, run != NULL ? run(s) : SFTP_OP_UNSUPPORTED, err);
}

/* The client tells its version, which can only be greater, and nothing of use to us. */
static int run_init(struct sftp *s, size_t len, struct err *err)
{
	uint8_t head[1 + 4];

	if (len < sizeof(head))
		return err_set(err, GRPC_INVALID_ARGUMENT, "SFTP: an INIT of %zu bytes", len);
	talk_copy(s->talk, head, sizeof(head));
	talk_drop(s->talk, len);
	if (head[0] != SFTP_INIT)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "SFTP: the first packet is of type %d; INIT (1) must be", head[0]);
	s->begun = true;
	s->id = SFTP_VERSION_SPOKEN;
	sftp_begin(s, SFTP_VERSION);
	sftp_put_extensions(s->out);
	sftp_end(s);
	return talk_gathered(s->talk, err);
}

/* Of a packet that is all there. */
static int run_packet(struct sftp *s, size_t len, struct err *err)
{
	uint8_t type;

	talk_copy(s->talk, &type, 1);
	if (!s->begun)
		return run_init(s, len, err);
	if (type == SFTP_INIT)
		return err_set(err, GRPC_INVALID_ARGUMENT, "SFTP: a second INIT");
	return type == SFTP_WRITE ? run_write(s, len, err) : run_other(s, len, err);
}

/* How long the next packet is, and of which type; as talk_need(). */
static int next_packet(struct sftp *s, size_t *len, struct err *err)
{
	uint8_t head[LENGTH_SIZE + 1];
	struct sftp_in in = { .at = head, .left = LENGTH_SIZE };
	int r = talk_need(s->talk, sizeof(head), err);

	if (r <= 0)
		return r;
	talk_copy(s->talk, head, sizeof(head));
	*len = sftp_get_u32(&in);
	bool is_write = head[LENGTH_SIZE] == SFTP_WRITE && s->begun;
	if (*len == 0 || *len > (is_write ? SFTP_PACKET_MAX : SFTP_REQUEST_MAX))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "SFTP: a packet of %zu bytes and type %d", *len, head[LENGTH_SIZE]);
	r = talk_need(s->talk, LENGTH_SIZE + *len, err);
	if (r > 0)
		talk_drop(s->talk, LENGTH_SIZE);
	return r;
}

static int speak(struct sftp *s, struct err *err)
{
	size_t len = 0;
	int r;

	while ((r = next_packet(s, &len, err)) > 0)
		if (run_packet(s, len, err) != 0)
			return -1;
	if (r == 0 && talk_there(s->talk) > 0)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "SFTP: the stream ended within a packet");
	return r;
}

int sftp_run(const struct sftp_env *env, struct talk *talk, struct err *err)
{
	struct sftp *s = calloc(1, sizeof(*s));
	int r = -1;

	if (s == NULL || (s->packet = malloc(SFTP_REQUEST_MAX)) == NULL) {
		free(s);
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	}
	s->env = env;
	s->talk = talk;
	s->out = talk_out(talk);
	owners_init(&s->owners, env->slash);
	r = speak(s, err);
	sftp_handles_free(&s->handles);
	free(s->packet);
	free(s);
	return r;
}
