"""No message opens a channel before the client has logged in, whatever its number and whenever
it comes; and packets that are none end the connection, and nothing else."""

import contextlib
import os
import struct

import pytest
import raw_ssh
from conftest import wait_until
from raw_ssh import RawSsh, channel_open, string
from ssh_endpoint import endpoint, make_endpoint  # noqa: F401

NEVER = {raw_ssh.USERAUTH_SUCCESS, raw_ssh.CHANNEL_OPEN_CONFIRMATION, 81, 99}


def body_of(number, session):
    """What such a message would say, where one is known that opens something."""
    bodies = {
        raw_ssh.SERVICE_REQUEST: string("ssh-connection"),
        raw_ssh.SERVICE_ACCEPT: string("ssh-userauth"),
        raw_ssh.USERAUTH_REQUEST: string(session.username) + string("ssh-connection") + string("none"),
        raw_ssh.USERAUTH_FAILURE: string("publickey") + b"\1",
        raw_ssh.USERAUTH_PK_OK: string("ssh-ed25519") + string(b"x" * 51),
        61: struct.pack(">I", 0),
        raw_ssh.GLOBAL_REQUEST: string("tcpip-forward") + b"\1" + string("") + struct.pack(">I", 0),
        raw_ssh.CHANNEL_OPEN: channel_open()[1:],
        raw_ssh.CHANNEL_OPEN_CONFIRMATION: struct.pack(">IIII", 0, 0, 1 << 20, 1 << 15),
        98: struct.pack(">I", 0) + string("exec") + b"\1" + string("true"),
    }
    return bodies.get(number, b"")


def reach(peer, state):
    peer.hello()
    if state == "identified":
        return
    if state == "kexinit":
        peer.exchange_kexinit()
        return
    peer.key_exchange()
    if state == "keys":
        return
    peer.service()
    if state == "refused":
        peer.send(bytes([50]) + string("box.0123456789abcdef") + string("ssh-connection") + string("none"))
        peer.read_until(raw_ssh.USERAUTH_FAILURE)


def try_number(endpoint, state, number, session):
    """The kinds of messages that come back, until the endpoint ends the connection."""
    peer = RawSsh(endpoint.connect())
    reach(peer, state)
    # Twice: bare, and with what would do the most harm. Then what it was all for.
    messages = [bytes([number]), bytes([number]) + body_of(number, session), channel_open()]
    try:
        peer.sock.sendall(b"".join(peer.pack(message) for message in messages))
        peer.sock.shutdown(1)
    except OSError:
        pass  # it has been closed already
    got = peer.read_all()
    peer.close()
    return got


@pytest.mark.parametrize("state", ["identified", "kexinit", "keys", "refused"])
def test_no_number_opens_a_channel(endpoint, state):
    session = endpoint.gateway.session()
    for number in range(256):
        got = try_number(endpoint, state, number, session)
        assert not NEVER & set(got), f"{number} was answered with {got}"
    assert not endpoint.lines("client_open") and not endpoint.gateway.open
    # And it still serves.
    RawSsh(endpoint.connect()).log_in(session).close()


def test_every_number_when_it_is_open(endpoint):
    """Whatever it does to the connection, it does to no other."""
    session = endpoint.gateway.session()
    for number in range(256):
        peer = RawSsh(endpoint.connect()).log_in(session)
        try:
            for message in (bytes([number]), bytes([number]) + body_of(number, session)):
                peer.send(message)
            peer.sock.shutdown(1)
        except OSError:
            pass
        peer.read_all()
        peer.close()
    wait_until(lambda: endpoint.counters()["now"] == 0, 5, "all are gone")
    RawSsh(endpoint.connect()).log_in(session).close()


def test_a_pipelined_channel_does_not_overtake_the_login(endpoint):
    """All at once: the request with its signature, and a channel behind it."""
    session = endpoint.gateway.session()
    endpoint.gateway.delay = 0.3
    peer = RawSsh(endpoint.connect())
    peer.hello()
    peer.key_exchange()
    peer.service()
    session.ended = "revoked"
    peer.sock.sendall(peer.pack(peer.auth_request(session)) + peer.pack(channel_open()))
    got = peer.read_all()
    assert not NEVER & set(got), got
    peer.close()


def test_a_signature_by_another_key(endpoint):
    session, other = endpoint.gateway.session(), endpoint.gateway.session()
    peer = RawSsh(endpoint.connect())
    peer.hello()
    peer.key_exchange()
    peer.service()
    peer.send(bytes([50]) + string(session.username) + string("ssh-connection") + string("none"))
    peer.read_until(raw_ssh.USERAUTH_FAILURE)
    peer.send(peer.auth_request(session, signed=False))
    assert peer.read()[0] == raw_ssh.USERAUTH_PK_OK
    peer.send(peer.auth_request(session, key=other.key))
    assert peer.read()[0] == raw_ssh.USERAUTH_FAILURE
    assert not any(q.signed for q in endpoint.gateway.asked)
    peer.send(peer.auth_request(session))
    assert peer.read()[0] == raw_ssh.USERAUTH_SUCCESS
    peer.close()


@pytest.mark.parametrize("many", [40])
def test_offers_without_a_signature_come_to_an_end(endpoint, many):
    session = endpoint.gateway.session()
    peer = RawSsh(endpoint.connect())
    peer.hello()
    peer.key_exchange()
    peer.service()
    answers = []
    try:
        for _ in range(many):
            peer.send(peer.auth_request(session, signed=False))
            answers.append(peer.read()[0])
    except (EOFError, ConnectionError):
        pass
    assert answers.count(raw_ssh.USERAUTH_PK_OK) < 40 and raw_ssh.DISCONNECT in answers
    peer.close()


LENGTHS = [0, 1, 4, 5, 7, 8, 11, 262145, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF4, 0xFFFFFFFC, 0xFFFFFFFF]


@pytest.mark.parametrize("state", ["identified", "keys"])
def test_packets_of_impossible_lengths(endpoint, state):
    for length in LENGTHS:
        for padding in (0, 4, 255):
            peer = RawSsh(endpoint.connect())
            reach(peer, state)
            rest = bytes([padding]) + os.urandom(200)
            peer.sock.sendall(struct.pack(">I", length) + rest)
            peer.sock.shutdown(1)
            assert not NEVER & set(peer.read_all())
            peer.close()
    session = endpoint.gateway.session()
    RawSsh(endpoint.connect()).log_in(session).close()


def test_one_byte_at_a_time(endpoint):
    session = endpoint.gateway.session()

    class Dribble:
        def __init__(self, sock):
            self.sock = sock
            self.sock.setsockopt(6, 1, 1)  # TCP_NODELAY

        def sendall(self, data):
            for at in range(len(data)):
                self.sock.sendall(data[at : at + 1])

        def __getattr__(self, name):
            return getattr(self.sock, name)

    peer = RawSsh(Dribble(endpoint.connect())).log_in(session)
    wait_until(lambda: endpoint.gateway.open, 5, "it is open")
    peer.close()


@pytest.mark.parametrize(
    "said",
    [b"", b"\n", b"\r\n", b"GET / HTTP/1.1\r\n\r\n", b"SSH-1.5-old\r\n", b"SSH-2.0-" + b"x" * 300,
     b"\x00" * 64, b"\x16\x03\x01\x02\x00" * 20, b"x" * 70000],
)  # fmt: skip
def test_what_is_no_ssh(endpoint, said):
    sock = endpoint.connect()
    sock.sendall(said)
    sock.shutdown(1)
    peer = RawSsh(sock)
    with contextlib.suppress(EOFError):  # who has left already is told nothing
        peer.read_hello()
        assert not NEVER & set(peer.read_all())
    peer.close()
    wait_until(lambda: endpoint.counters()["now"] == 0, 5, "it is gone")


def test_a_second_identification_is_no_packet(endpoint):
    peer = RawSsh(endpoint.connect())
    peer.hello()
    peer.sock.sendall(b"SSH-2.0-again\r\n" * 50)
    assert not NEVER & set(peer.read_all())
    peer.close()
