#include "cli/signals.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

static void on_signal(void *cookie)
{
	struct signals_one *one = cookie;

	one->all->fire(one->all->cookie, one->number);
}

/* As nohup(1) does, and shells for what they run in the background. */
static bool is_ignored(int number)
{
	struct sigaction now;

	return sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

int signals_watch(struct signals *s, struct loop *loop, void (*fire)(void *cookie, int number),
    void *cookie, struct err *err)
{
	static const int numbers[SIGNALS_COUNT] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };

	*s = (struct signals){ .fire = fire, .cookie = cookie };
	for (size_t i = 0; i < SIGNALS_COUNT; i++) {
		struct signals_one *one = &s->one[i];

		one->all = s;
		one->number = numbers[i];
		if (is_ignored(numbers[i]))
			continue;
		one->watch = signal_watch_create(loop, numbers[i], on_signal, one, err);
		if (one->watch == NULL)
			return -1;
	}
	return 0;
}

void signals_free(struct signals *s)
{
	for (size_t i = 0; i < SIGNALS_COUNT; i++) {
		signal_watch_free(s->one[i].watch);
		s->one[i].watch = NULL;
	}
}
