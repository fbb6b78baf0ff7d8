#include "sshd/library.h"

#include <libssh/callbacks.h>
#include <libssh/server.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What does not authenticate or has to be trusted to be random enough is not offered:
 * no NIST curves or groups for the exchange, no CBC, no SHA-1, no compression. */
#define KEY_EXCHANGE "curve25519-sha256,curve25519-sha256@libssh.org"
#define HOST_KEYS    "ssh-ed25519"
#define CIPHERS      "chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes128-gcm@openssh.com"
/* With these ciphers no MAC is used, but there must be one to agree on. */
#define MACS "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com"
#define USER_KEYS                                                                               \
	"ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512," \
	"rsa-sha2-256"
/* OpenSSH says that nobody reads any more (eow@openssh.com) only to who is named so, and other
 * clients go by it for the order in which a symbolic link of SFTP is named, which is OpenSSH's. */
#define BANNER   "OpenSSH_compatible Towline"
#define RSA_BITS 2048

struct library {
	ssh_bind bind;
	uint64_t rekey_bytes;
	unsigned requests; /* since library_count_begin() */
	char fingerprint[64];
};

static void on_log(int priority, const char *function, const char *line, void *userdata)
{
	struct library *l = userdata;
	/* The line has the function's name in front; what a client sent stands behind this. */
	static const char request[] = "ssh_packet_userauth_request: Auth request for service ";

	(void)priority;
	(void)function;
	if (strncmp(line, request, sizeof(request) - 1) == 0)
		l->requests++;
}

static int read_host_key(struct library *l, const char *text, struct err *err)
{
	ssh_key key = NULL;
	unsigned char *hash = NULL;
	size_t len;

	if (ssh_pki_import_privkey_base64(text, NULL, NULL, NULL, &key) != SSH_OK ||
	    ssh_key_type(key) != SSH_KEYTYPE_ED25519) {
		ssh_key_free(key);
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "the host key is no Ed25519 private key in OpenSSH format without passphrase; "
		    "ssh-keygen -t ed25519 -N '' makes one");
	}
	if (ssh_get_publickey_hash(key, SSH_PUBLICKEY_HASH_SHA256, &hash, &len) == SSH_OK) {
		char *shown = ssh_get_fingerprint_hash(SSH_PUBLICKEY_HASH_SHA256, hash, len);

		if (shown != NULL)
			snprintf(l->fingerprint, sizeof(l->fingerprint), "%s", shown);
		ssh_string_free_char(shown);
		ssh_clean_pubkey_hash(&hash);
	}
	if (ssh_bind_options_set(l->bind, SSH_BIND_OPTIONS_IMPORT_KEY, key) == SSH_OK)
		return 0;
	ssh_key_free(key);
	return err_set(err, GRPC_INTERNAL, "libssh: %s", ssh_get_error(l->bind));
}

static int set_options(struct library *l, struct err *err)
{
	static const struct {
		enum ssh_bind_options_e option;
		const char *value;
	} texts[] = {
		{ SSH_BIND_OPTIONS_BANNER, BANNER },
		{ SSH_BIND_OPTIONS_KEY_EXCHANGE, KEY_EXCHANGE },
		{ SSH_BIND_OPTIONS_HOSTKEY_ALGORITHMS, HOST_KEYS },
		{ SSH_BIND_OPTIONS_CIPHERS_C_S, CIPHERS },
		{ SSH_BIND_OPTIONS_CIPHERS_S_C, CIPHERS },
		{ SSH_BIND_OPTIONS_HMAC_C_S, MACS },
		{ SSH_BIND_OPTIONS_HMAC_S_C, MACS },
		{ SSH_BIND_OPTIONS_PUBKEY_ACCEPTED_KEY_TYPES, USER_KEYS },
	};
	bool read_files = false;
	int bits = RSA_BITS;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (ssh_bind_options_set(l->bind, texts[i].option, texts[i].value) != SSH_OK)
			return err_set(err, GRPC_INTERNAL, "libssh does not know %s: %s",
			    texts[i].value, ssh_get_error(l->bind));
	if (ssh_bind_options_set(l->bind, SSH_BIND_OPTIONS_PROCESS_CONFIG, &read_files) != SSH_OK ||
	    ssh_bind_options_set(l->bind, SSH_BIND_OPTIONS_RSA_MIN_SIZE, &bits) != SSH_OK)
		return err_set(err, GRPC_INTERNAL, "libssh: %s", ssh_get_error(l->bind));
	return 0;
}

struct library *library_create(const char *host_key, uint64_t rekey_bytes, struct err *err)
{
	struct library *l = calloc(1, sizeof(*l));

	if (l == NULL || (l->bind = ssh_bind_new()) == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		free(l);
		return NULL;
	}
	l->rekey_bytes = rekey_bytes;
	ssh_set_log_level(SSH_LOG_NOLOG);
	ssh_set_log_callback(on_log);
	ssh_set_log_userdata(l);
	if (set_options(l, err) != 0 || read_host_key(l, host_key, err) != 0) {
		library_free(l);
		return NULL;
	}
	return l;
}

void library_free(struct library *l)
{
	if (l == NULL)
		return;
	ssh_set_log_level(SSH_LOG_NOLOG);
	ssh_set_log_userdata(NULL);
	ssh_bind_free(l->bind);
	free(l);
}

const char *library_fingerprint(const struct library *l)
{
	return l->fingerprint;
}

/* What is set for each session; the rest it has from the bind. */
static int prepare(const struct library *l, ssh_session ssh)
{
	const uint32_t seconds = LIBRARY_REKEY_TIME_MAX;

	if (ssh_options_set(ssh, SSH_OPTIONS_COMPRESSION_C_S, "none") != SSH_OK ||
	    ssh_options_set(ssh, SSH_OPTIONS_COMPRESSION_S_C, "none") != SSH_OK ||
	    ssh_options_set(ssh, SSH_OPTIONS_REKEY_DATA, &l->rekey_bytes) != SSH_OK ||
	    ssh_options_set(ssh, SSH_OPTIONS_REKEY_TIME, &seconds) != SSH_OK)
		return -1;
	/* Without this its failures would offer passwords, too. */
	ssh_set_auth_methods(ssh, SSH_AUTH_METHOD_PUBLICKEY);
	ssh_set_blocking(ssh, 0);
	return 0;
}

ssh_session library_session(struct library *l, int fd, struct err *err)
{
	ssh_session ssh = ssh_new();

	if (ssh != NULL && prepare(l, ssh) == 0 && ssh_bind_accept_fd(l->bind, ssh, fd) == SSH_OK)
		return ssh;
	err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory for a connection");
	bool taken = ssh != NULL && ssh_get_fd(ssh) == fd;
	ssh_free(ssh);
	if (!taken)
		close(fd);
	return NULL;
}

void library_count_begin(struct library *l)
{
	l->requests = 0;
	ssh_set_log_level(SSH_LOG_PACKET);
}

unsigned library_count_end(struct library *l)
{
	ssh_set_log_level(SSH_LOG_NOLOG);
	return l->requests;
}
