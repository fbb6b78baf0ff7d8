#include "transfer/sftp/sftp_wire.h"

#include <errno.h>
#include <string.h>

enum sftp_status sftp_status_of(int sys)
{
	switch (sys) {
	case 0:
		return SFTP_OK;
	case ENOENT:
	case ENOTDIR:
	case ELOOP:
		return SFTP_NO_SUCH_FILE;
	case EPERM:
	case EACCES:
	case EROFS:
		return SFTP_PERMISSION_DENIED;
	case ENAMETOOLONG:
	case EINVAL:
		return SFTP_BAD_MESSAGE;
	case ENOSYS:
	case EOPNOTSUPP:
		return SFTP_OP_UNSUPPORTED;
	default:
		return SFTP_FAILURE;
	}
}

const char *sftp_status_text(enum sftp_status status)
{
	switch (status) {
	case SFTP_OK:
		return "Success";
	case SFTP_EOF:
		return "End of file";
	case SFTP_NO_SUCH_FILE:
		return "No such file";
	case SFTP_PERMISSION_DENIED:
		return "Permission denied";
	case SFTP_BAD_MESSAGE:
		return "Bad message";
	case SFTP_OP_UNSUPPORTED:
		return "Operation unsupported";
	case SFTP_FAILURE:
		break;
	}
	return "Failure";
}

/* Reading. */

/* NULL: not so many bytes are left. */
static const uint8_t *get(struct sftp_in *in, size_t n)
{
	const uint8_t *at = in->at;

	if (in->bad || in->left < n) {
		in->bad = true;
		return NULL;
	}
	in->at += n;
	in->left -= n;
	return at;
}

uint32_t sftp_get_u32(struct sftp_in *in)
{
	const uint8_t *b = get(in, 4);

	return b == NULL ? 0
			 : (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

uint64_t sftp_get_u64(struct sftp_in *in)
{
	uint64_t high = sftp_get_u32(in);

	return high << 32 | sftp_get_u32(in);
}

struct sftp_bytes sftp_get_bytes(struct sftp_in *in)
{
	size_t len = sftp_get_u32(in);
	const uint8_t *data = get(in, len);

	return (struct sftp_bytes){ .data = data, .len = data != NULL ? len : 0 };
}

void sftp_get_path(struct sftp_in *in, char path[static PATH_MAX])
{
	struct sftp_bytes b = sftp_get_bytes(in);

	if (b.len >= PATH_MAX || (b.len > 0 && memchr(b.data, '\0', b.len) != NULL)) {
		in->bad = true;
		b.len = 0;
	}
	if (b.len > 0)
		memcpy(path, b.data, b.len);
	path[b.len] = '\0';
}

/* Each takes 8 bytes at least, so their count needs no limit. */
static void skip_extended(struct sftp_in *in)
{
	for (uint32_t n = sftp_get_u32(in); n > 0 && !in->bad; n--) {
		sftp_get_bytes(in);
		sftp_get_bytes(in);
	}
}

void sftp_get_attrs(struct sftp_in *in, struct sftp_attrs *a)
{
	*a = (struct sftp_attrs){ .flags = sftp_get_u32(in) };
	if (a->flags & SFTP_ATTR_SIZE)
		a->size = sftp_get_u64(in);
	if (a->flags & SFTP_ATTR_OWNER) {
		a->uid = sftp_get_u32(in);
		a->gid = sftp_get_u32(in);
	}
	if (a->flags & SFTP_ATTR_PERMISSIONS)
		a->permissions = sftp_get_u32(in);
	if (a->flags & SFTP_ATTR_TIMES) {
		a->atime = sftp_get_u32(in);
		a->mtime = sftp_get_u32(in);
	}
	if (a->flags & SFTP_ATTR_EXTENDED)
		skip_extended(in);
}

/* Writing. */

void sftp_store_u32(uint8_t to[static 4], uint32_t v)
{
	to[0] = (uint8_t)(v >> 24);
	to[1] = (uint8_t)(v >> 16);
	to[2] = (uint8_t)(v >> 8);
	to[3] = (uint8_t)v;
}

void sftp_put_u8(struct text *out, uint8_t v)
{
	text_add(out, (const char *)&v, 1);
}

void sftp_put_u32(struct text *out, uint32_t v)
{
	uint8_t bytes[4];

	sftp_store_u32(bytes, v);
	text_add(out, (const char *)bytes, sizeof(bytes));
}

void sftp_put_u64(struct text *out, uint64_t v)
{
	sftp_put_u32(out, (uint32_t)(v >> 32));
	sftp_put_u32(out, (uint32_t)v);
}

void sftp_put_bytes(struct text *out, const void *data, size_t len)
{
	sftp_put_u32(out, (uint32_t)len);
	text_add(out, data, len);
}

void sftp_put_string(struct text *out, const char *s)
{
	sftp_put_bytes(out, s, strlen(s));
}

/* Times before 1970 and after 2106 do not fit. */
static uint32_t clamp(time_t t)
{
	return t < 0 ? 0 : t > UINT32_MAX ? UINT32_MAX : (uint32_t)t;
}

void sftp_put_attrs(struct text *out, const struct stat *st)
{
	sftp_put_u32(
	    out, SFTP_ATTR_SIZE | SFTP_ATTR_OWNER | SFTP_ATTR_PERMISSIONS | SFTP_ATTR_TIMES);
	sftp_put_u64(out, (uint64_t)st->st_size);
	sftp_put_u32(out, st->st_uid);
	sftp_put_u32(out, st->st_gid);
	sftp_put_u32(out, st->st_mode);
	sftp_put_u32(out, clamp(st->st_atim.tv_sec));
	sftp_put_u32(out, clamp(st->st_mtim.tv_sec));
}
