#include "gateway/ssh_endpoints.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/random.h"
#include "base/text.h"
#include "rpc/crypto.h"

#define PREFIX        "sshd-"
#define PREFIX_LEN    (sizeof(PREFIX) - 1)
#define HEX_LEN       ((size_t)2 * SSH_ENDPOINTS_SECRET_SIZE)
#define FILE_LINE_MAX 256 /* bytes of a line of the file */

struct endpoint {
	char id[NAMES_ID_MAX + 1];
	uint8_t hash[CRYPTO_SHA256_SIZE];
	bool up;
	uint32_t connections, streams;
	uint64_t left_ms; /* when the last stream ended */
};

struct ssh_endpoints {
	pthread_mutex_t lock;
	struct endpoint list[SSH_ENDPOINTS_MAX];
	size_t count, next; /* where the next choice begins */
};

struct ssh_endpoints *ssh_endpoints_create(struct err *err)
{
	struct ssh_endpoints *e = calloc(1, sizeof(*e));

	if (e == NULL)
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	else
		pthread_mutex_init(&e->lock, NULL);
	return e;
}

void ssh_endpoints_free(struct ssh_endpoints *e)
{
	if (e == NULL)
		return;
	pthread_mutex_destroy(&e->lock);
	free(e);
}

bool ssh_endpoints_is_one(const char *text)
{
	return strncmp(text, PREFIX, PREFIX_LEN) == 0;
}

/* Under the lock. */
static struct endpoint *find(struct ssh_endpoints *e, const char *id)
{
	for (size_t i = 0; i < e->count; i++)
		if (strcmp(e->list[i].id, id) == 0)
			return &e->list[i];
	return NULL;
}

/* From now on the token of that hash is the endpoint's, and no other. */
static int set(struct ssh_endpoints *e, const char *id,
    const uint8_t hash[static CRYPTO_SHA256_SIZE], struct err *err)
{
	struct endpoint *p;

	pthread_mutex_lock(&e->lock);
	p = find(e, id);
	if (p == NULL && e->count < SSH_ENDPOINTS_MAX) {
		p = &e->list[e->count++];
		snprintf(p->id, sizeof(p->id), "%s", id);
	}
	if (p != NULL)
		memcpy(p->hash, hash, sizeof(p->hash));
	pthread_mutex_unlock(&e->lock);
	return p != NULL ? 0
			 : err_set(err, GRPC_RESOURCE_EXHAUSTED, "more than %d SSH endpoints",
			       SSH_ENDPOINTS_MAX);
}

int ssh_endpoints_renew(struct ssh_endpoints *e, unsigned number,
    char token[static SSH_ENDPOINTS_TOKEN_SIZE], struct err *err)
{
	char id[NAMES_ID_MAX + 1], hex[HEX_LEN + 1];
	uint8_t secret[SSH_ENDPOINTS_SECRET_SIZE], hash[CRYPTO_SHA256_SIZE];

	snprintf(id, sizeof(id), PREFIX "%u", number);
	random_bytes(secret, sizeof(secret));
	text_hex(secret, sizeof(secret), hex);
	snprintf(token, SSH_ENDPOINTS_TOKEN_SIZE, "%s.%s", id, hex);
	crypto_sha256(token, strlen(token), hash);
	explicit_bzero(secret, sizeof(secret));
	explicit_bzero(hex, sizeof(hex));
	return set(e, id, hash, err);
}

/* The length of the id in front of the secret; 0: it is no token. */
static size_t id_length(const char *token)
{
	size_t len = strlen(token), id = len - HEX_LEN - 1;

	if (len <= PREFIX_LEN + 1 + HEX_LEN || id > NAMES_ID_MAX || token[id] != '.' ||
	    !ssh_endpoints_is_one(token) ||
	    strspn(token + PREFIX_LEN, "abcdefghijklmnopqrstuvwxyz0123456789-") !=
		id - PREFIX_LEN ||
	    strspn(token + id + 1, "0123456789abcdef") != HEX_LEN)
		return 0;
	return id;
}

bool ssh_endpoints_verify(
    struct ssh_endpoints *e, const char *token, char id[static NAMES_ID_MAX + 1])
{
	uint8_t hash[CRYPTO_SHA256_SIZE];
	size_t len = id_length(token);
	const struct endpoint *p;
	bool good;

	if (len == 0)
		return false;
	memcpy(id, token, len);
	id[len] = '\0';
	crypto_sha256(token, strlen(token), hash);
	pthread_mutex_lock(&e->lock);
	p = find(e, id);
	good = p != NULL && crypto_equal(p->hash, hash, sizeof(hash));
	pthread_mutex_unlock(&e->lock);
	return good;
}

/* The file. */

static int read_line(struct ssh_endpoints *e, const char *line, struct err *err)
{
	uint8_t hash[CRYPTO_SHA256_SIZE];
	char id[NAMES_ID_MAX + 1];
	size_t len = id_length(line);

	if (len == 0)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "no token: a line is \"sshd-NAME.\" and %zu hex digits, NAME of a to z, 0 to 9 and "
		    "'-', at most %d",
		    HEX_LEN, SSH_ENDPOINTS_NAME_MAX);
	memcpy(id, line, len);
	id[len] = '\0';
	if (strspn(id + PREFIX_LEN, "0123456789") == len - PREFIX_LEN)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "\"%s\" is one of the gateway's own; choose a name with a letter in it", id);
	crypto_sha256(line, strlen(line), hash);
	return set(e, id, hash, err);
}

static int read_lines(struct ssh_endpoints *e, FILE *file, const char *path, struct err *err)
{
	char line[FILE_LINE_MAX];

	for (int number = 1; fgets(line, sizeof(line), file) != NULL; number++) {
		line[strcspn(line, "#\r\n \t")] = '\0';
		if (line[0] != '\0' && read_line(e, line, err) != 0) {
			explicit_bzero(line, sizeof(line));
			return err_wrap(err, "%s:%d", path, number);
		}
	}
	explicit_bzero(line, sizeof(line));
	return 0;
}

int ssh_endpoints_read(struct ssh_endpoints *e, const char *path, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), result;
	FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;
	struct stat st;

	if (file == NULL) {
		err_sys(err, errno, "read the SSH endpoints' tokens %s", path);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (st.st_mode & 077) != 0)
		result = err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s must be a file that only its owner may read (chmod 600)", path);
	else
		result = read_lines(e, file, path, err);
	fclose(file);
	return result;
}

/* Choosing one. */

void ssh_endpoints_set_up(struct ssh_endpoints *e, const char *id, bool up)
{
	struct endpoint *p;

	pthread_mutex_lock(&e->lock);
	if ((p = find(e, id)) != NULL)
		p->up = up;
	pthread_mutex_unlock(&e->lock);
}

void ssh_endpoints_attends(struct ssh_endpoints *e, const char *id, bool begun, uint64_t now_ms)
{
	struct endpoint *p;

	pthread_mutex_lock(&e->lock);
	if ((p = find(e, id)) != NULL) {
		p->streams += begun ? 1 : -1U;
		p->left_ms = now_ms;
	}
	pthread_mutex_unlock(&e->lock);
}

uint64_t ssh_endpoints_left_ms(struct ssh_endpoints *e, const char *id)
{
	const struct endpoint *p;
	uint64_t left;

	pthread_mutex_lock(&e->lock);
	p = find(e, id);
	left = p == NULL ? 0 : p->streams > 0 ? UINT64_MAX : p->left_ms;
	pthread_mutex_unlock(&e->lock);
	return left;
}

void ssh_endpoints_add_connections(struct ssh_endpoints *e, const char *id, int by)
{
	struct endpoint *p;

	pthread_mutex_lock(&e->lock);
	if ((p = find(e, id)) != NULL)
		p->connections += (uint32_t)by;
	pthread_mutex_unlock(&e->lock);
}

int ssh_endpoints_choose(struct ssh_endpoints *e, char id[static NAMES_ID_MAX + 1], struct err *err)
{
	const struct endpoint *best = NULL;

	pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->count; i++) {
		const struct endpoint *p = &e->list[(e->next + i) % e->count];

		if (p->up && (best == NULL || p->connections < best->connections))
			best = p;
	}
	if (best != NULL) {
		memcpy(id, best->id, sizeof(best->id));
		e->next = (size_t)(best - e->list) + 1;
	}
	pthread_mutex_unlock(&e->lock);
	return best != NULL ? 0
			    : err_set(err, GRPC_UNAVAILABLE,
				  "no SSH endpoint is connected to the gateway; try again");
}

void ssh_endpoints_each(
    struct ssh_endpoints *e, void (*each)(void *cookie, const char *id), void *cookie)
{
	/* Entries never go, and ids never change. */
	for (size_t i = 0; i < e->count; i++)
		each(cookie, e->list[i].id);
}
