#include "supervisor/modes.h"

#include <stdbool.h>
#include <unistd.h>

#define OP_END       0
#define OP_UNDEFINED 160 /* from here on opcodes do not say how long their value is */
#define OP_ISPEED    128
#define OP_OSPEED    129
#define VALUE_SIZE   4
#define CHAR_NONE    255 /* for a character that is switched off */

/* The opcodes up to 18 are characters: the index in c_cc of each, -1 for those that
 * Linux has none for. */
static const int8_t characters[] = {
	[1] = VINTR,
	[2] = VQUIT,
	[3] = VERASE,
	[4] = VKILL,
	[5] = VEOF,
	[6] = VEOL,
	[7] = VEOL2,
	[8] = VSTART,
	[9] = VSTOP,
	[10] = VSUSP,
	[11] = -1, /* VDSUSP */
	[12] = VREPRINT,
	[13] = VWERASE,
	[14] = VLNEXT,
	[15] = -1, /* VFLUSH */
	[16] = VSWTC,
	[17] = -1, /* VSTATUS */
	[18] = VDISCARD,
};

/* The others are flags of one of the four words. */
enum word { WORD_INPUT, WORD_LOCAL, WORD_OUTPUT, WORD_CONTROL };

static const struct {
	uint8_t opcode;
	enum word word;
	tcflag_t flag;
	tcflag_t field; /* of several bits that ${flag} is one value of; 0: one bit */
} flags[] = {
	{ 30, WORD_INPUT, IGNPAR, 0 },
	{ 31, WORD_INPUT, PARMRK, 0 },
	{ 32, WORD_INPUT, INPCK, 0 },
	{ 33, WORD_INPUT, ISTRIP, 0 },
	{ 34, WORD_INPUT, INLCR, 0 },
	{ 35, WORD_INPUT, IGNCR, 0 },
	{ 36, WORD_INPUT, ICRNL, 0 },
	{ 37, WORD_INPUT, IUCLC, 0 },
	{ 38, WORD_INPUT, IXON, 0 },
	{ 39, WORD_INPUT, IXANY, 0 },
	{ 40, WORD_INPUT, IXOFF, 0 },
	{ 41, WORD_INPUT, IMAXBEL, 0 },
	{ 42, WORD_INPUT, IUTF8, 0 },
	{ 50, WORD_LOCAL, ISIG, 0 },
	{ 51, WORD_LOCAL, ICANON, 0 },
	{ 52, WORD_LOCAL, XCASE, 0 },
	{ 53, WORD_LOCAL, ECHO, 0 },
	{ 54, WORD_LOCAL, ECHOE, 0 },
	{ 55, WORD_LOCAL, ECHOK, 0 },
	{ 56, WORD_LOCAL, ECHONL, 0 },
	{ 57, WORD_LOCAL, NOFLSH, 0 },
	{ 58, WORD_LOCAL, TOSTOP, 0 },
	{ 59, WORD_LOCAL, IEXTEN, 0 },
	{ 60, WORD_LOCAL, ECHOCTL, 0 },
	{ 61, WORD_LOCAL, ECHOKE, 0 },
	{ 62, WORD_LOCAL, PENDIN, 0 },
	{ 70, WORD_OUTPUT, OPOST, 0 },
	{ 71, WORD_OUTPUT, OLCUC, 0 },
	{ 72, WORD_OUTPUT, ONLCR, 0 },
	{ 73, WORD_OUTPUT, OCRNL, 0 },
	{ 74, WORD_OUTPUT, ONOCR, 0 },
	{ 75, WORD_OUTPUT, ONLRET, 0 },
	{ 90, WORD_CONTROL, CS7, CSIZE },
	{ 91, WORD_CONTROL, CS8, CSIZE },
	{ 92, WORD_CONTROL, PARENB, 0 },
	{ 93, WORD_CONTROL, PARODD, 0 },
};

static const struct {
	uint32_t bits_per_second;
	speed_t speed;
} speeds[] = {
	{ 50, B50 },
	{ 75, B75 },
	{ 110, B110 },
	{ 134, B134 },
	{ 150, B150 },
	{ 200, B200 },
	{ 300, B300 },
	{ 600, B600 },
	{ 1200, B1200 },
	{ 1800, B1800 },
	{ 2400, B2400 },
	{ 4800, B4800 },
	{ 9600, B9600 },
	{ 19200, B19200 },
	{ 38400, B38400 },
	{ 57600, B57600 },
	{ 115200, B115200 },
	{ 230400, B230400 },
};

static void set_speed(struct termios *t, bool input, uint32_t value)
{
	for (size_t i = 0; i < sizeof(speeds) / sizeof(speeds[0]); i++) {
		if (speeds[i].bits_per_second != value)
			continue;
		if (input)
			cfsetispeed(t, speeds[i].speed);
		else
			cfsetospeed(t, speeds[i].speed);
	}
}

static tcflag_t *word_of(struct termios *t, enum word word)
{
	switch (word) {
	case WORD_INPUT:
		return &t->c_iflag;
	case WORD_LOCAL:
		return &t->c_lflag;
	case WORD_OUTPUT:
		return &t->c_oflag;
	case WORD_CONTROL:
		break;
	}
	return &t->c_cflag;
}

static void set_flag(struct termios *t, uint8_t opcode, bool on)
{
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		tcflag_t *word = word_of(t, flags[i].word);

		if (flags[i].opcode != opcode)
			continue;
		if (flags[i].field == 0)
			*word = on ? *word | flags[i].flag : *word & ~flags[i].flag;
		else if (on)
			*word = (*word & ~flags[i].field) | flags[i].flag;
	}
}

static void set_mode(struct termios *t, uint8_t opcode, uint32_t value)
{
	if (opcode == OP_ISPEED || opcode == OP_OSPEED)
		set_speed(t, opcode == OP_ISPEED, value);
	else if (opcode >= sizeof(characters))
		set_flag(t, opcode, value != 0);
	else if (characters[opcode] >= 0)
		t->c_cc[characters[opcode]] =
		    value == CHAR_NONE ? _POSIX_VDISABLE : (cc_t)(value & 0xff);
}

int modes_apply(const uint8_t *modes, size_t len, struct termios *t, struct err *err)
{
	struct termios changed = *t;

	for (size_t at = 0; at < len && modes[at] != OP_END && modes[at] < OP_UNDEFINED;
	     at += 1 + VALUE_SIZE) {
		const uint8_t *v = modes + at + 1;

		if (len - at < 1 + VALUE_SIZE)
			return err_set(err, GRPC_INVALID_ARGUMENT,
			    "terminal_modes: the value of opcode %u is cut off", modes[at]);
		set_mode(&changed, modes[at],
		    (uint32_t)v[0] << 24 | (uint32_t)v[1] << 16 | (uint32_t)v[2] << 8 | v[3]);
	}
	*t = changed;
	return 0;
}
