#include <errno.h>
#include <unistd.h>

#include "transfer/sftp/sftp.h"

void sftp_handles_free(struct sftp_handles *h)
{
	for (size_t i = 0; i < SFTP_HANDLES_MAX; i++)
		if (h->slots[i].open)
			sftp_handles_close(h, &h->slots[i]);
}

struct sftp_handle *sftp_handles_add(struct sftp_handles *h, int fd, DIR *dir)
{
	size_t i = 0;

	while (i < SFTP_HANDLES_MAX && h->slots[i].open)
		i++;
	if (i == SFTP_HANDLES_MAX)
		return NULL;
	struct sftp_handle *slot = &h->slots[i];
	*slot = (struct sftp_handle){
		.open = true, .generation = slot->generation + 1, .fd = fd, .dir = dir
	};
	h->count++;
	return slot;
}

void sftp_handles_name(const struct sftp_handles *h, const struct sftp_handle *slot,
    uint8_t name[static SFTP_HANDLE_SIZE])
{
	sftp_store_u32(name, (uint32_t)(slot - h->slots));
	sftp_store_u32(name + 4, slot->generation);
}

struct sftp_handle *sftp_handles_find(struct sftp_handles *h, struct sftp_bytes name)
{
	struct sftp_in in = { .at = name.data, .left = name.len };
	uint32_t index = sftp_get_u32(&in), generation = sftp_get_u32(&in);

	if (in.bad || in.left > 0 || index >= SFTP_HANDLES_MAX || !h->slots[index].open ||
	    h->slots[index].generation != generation)
		return NULL;
	return &h->slots[index];
}

int sftp_handles_close(struct sftp_handles *h, struct sftp_handle *slot)
{
	int r = slot->dir != NULL ? closedir(slot->dir) : close(slot->fd);

	slot->open = false;
	slot->dir = NULL;
	slot->fd = -1;
	h->count--;
	return r == 0 ? 0 : errno;
}
