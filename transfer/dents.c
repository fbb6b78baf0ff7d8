#include "transfer/dents.h"

#include <dirent.h>
#include <string.h>
#include <unistd.h>

void dents_begin(struct dents *d, int fd)
{
	dents_resume(d, fd, 0);
}

void dents_resume(struct dents *d, int fd, int64_t next)
{
	d->fd = fd;
	d->pos = d->len = 0;
	d->next = next;
	lseek(fd, next, SEEK_SET);
}

int dents_next(struct dents *d, const char **name, unsigned char *type)
{
	for (;;) {
		if (d->pos == d->len) {
			ssize_t n = getdents64(d->fd, d->buffer, sizeof(d->buffer));
			if (n <= 0)
				return (int)n;
			d->len = (size_t)n;
			d->pos = 0;
		}
		const struct dirent64 *e = (const void *)(d->buffer + d->pos);
		d->pos += e->d_reclen;
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		d->next = e->d_off;
		*name = e->d_name;
		*type = e->d_type;
		return 1;
	}
}
