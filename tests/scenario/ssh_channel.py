"""A channel of SSH by packets (RFC 4254)."""

import struct

from raw_ssh import CHANNEL_OPEN_CONFIRMATION, CHANNEL_OPEN_FAILURE, channel_open, string, take_string

WINDOW_ADJUST, DATA, EXTENDED_DATA, EOF, CLOSE, REQUEST, SUCCESS, FAILURE = range(93, 101)
GLOBAL_REQUEST, REQUEST_SUCCESS, REQUEST_FAILURE = 80, 81, 82
MIB = 1 << 20


class Got:
    def __init__(self):
        self.out, self.err, self.end = b"", b"", None


def open_session(raw, number=0, window=4 * MIB):
    raw.send(channel_open(number=number, window=window))
    answer = raw.read_until(CHANNEL_OPEN_CONFIRMATION, CHANNEL_OPEN_FAILURE)
    assert answer[0] == CHANNEL_OPEN_CONFIRMATION
    return struct.unpack(">II", answer[1:9])[1]


def request(raw, channel, kind, more, reply=True, wait=True):
    raw.send(bytes([REQUEST]) + struct.pack(">I", channel) + string(kind) + bytes([reply]) + more)
    return reply and wait and raw.read_until(SUCCESS, FAILURE)[0] == SUCCESS


def send_data(raw, channel, data):
    raw.send(bytes([DATA]) + struct.pack(">I", channel) + string(data))


def adjust(raw, channel, more):
    raw.send(bytes([WINDOW_ADJUST]) + struct.pack(">II", channel, more))


def read_some(raw, count):
    """Exactly so much output."""
    out = b""
    while len(out) < count:
        out += take_string(raw.read_until(DATA), 5)[0]
    assert len(out) == count
    return out


def read_data(raw, text):
    out = b""
    while text not in out:
        out += take_string(raw.read_until(DATA), 5)[0]
    return out


def drain(raw):
    """All that comes of a channel until it is closed."""
    got = Got()
    while True:
        packet = raw.read_until(DATA, EXTENDED_DATA, REQUEST, CLOSE)
        if packet[0] == DATA:
            got.out += take_string(packet, 5)[0]
        elif packet[0] == EXTENDED_DATA:
            got.err += take_string(packet, 9)[0]
        elif packet[0] == CLOSE:
            return got
        else:
            kind, at = take_string(packet, 5)
            value = (
                struct.unpack_from(">I", packet, at + 1)[0]
                if kind == b"exit-status"
                else take_string(packet, at + 1)[0].decode()
            )
            got.end = (kind.decode(), value)


def command(raw, line, number=0):
    """(stdout, how it ended)"""
    theirs = open_session(raw, number)
    assert request(raw, theirs, "exec", string(line))
    got = drain(raw)
    raw.send(bytes([CLOSE]) + struct.pack(">I", theirs))
    return got.out, got.end
