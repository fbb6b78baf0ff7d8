"""What an SSH client is bounded by, and how long the endpoint waits: see docs/limits.md."""

import contextlib
import os
import resource
import socket
import struct
import time

import pytest
from conftest import wait_until
from raw_ssh import CHANNEL_OPEN_CONFIRMATION, RawSsh, string
from ssh_box import box  # noqa: F401
from ssh_channel import CLOSE, DATA, MIB, command, drain, open_session, read_data, request
from ssh_endpoint import endpoint, make_endpoint  # noqa: F401
from test_ssh_forwards import asked, is_reset, listen, stopped, supervisor_of

LONG = pytest.mark.skipif(not os.environ.get("TOWLINE_LONG"), reason="half a minute and more: ./dev test --long")


# Channels.


def test_variables(box):
    """64 of a channel, each of 1 KiB."""
    raw = box.raw()
    theirs = open_session(raw)
    granted = [request(raw, theirs, "env", string(f"LC_{n}") + string(str(n))) for n in range(65)]
    assert granted == [True] * 64 + [False]
    assert request(raw, theirs, "env", string("LC_0") + string("x" * 1024))  # again
    assert not request(raw, theirs, "env", string("LC_0") + string("x" * 1025))
    request(raw, theirs, "exec", string("env | grep -c ^LC_; echo ${#LC_0}"))
    assert drain(raw).out == b"64\n1024\n"


def test_terminals_name(box):
    raw = box.raw()
    theirs = open_session(raw)
    size = struct.pack(">IIII", 80, 24, 0, 0) + string(b"\0")
    assert not request(raw, theirs, "pty-req", string("x" * 1025) + size)
    assert request(raw, theirs, "pty-req", string("x" * 1024) + size)


def test_length_of_a_command(box):
    """128 KiB, as Linux takes one argument; one byte more is refused here, not by the shell."""
    raw = box.raw()
    theirs = open_session(raw)
    assert not request(raw, theirs, "exec", string("true " + "x" * (131073 - 5)))
    assert request(raw, theirs, "exec", string("true " + "x" * (131072 - 5)))
    assert drain(raw).end == ("exit-status", 126)  # with the ending zero it is too long for Linux
    assert command(raw, "true " + "x" * 100000, number=1)[1] == ("exit-status", 0)


def test_commands_that_wait_for_a_sandbox(box):
    """32 at once; the others are tried again eight times, and then fail."""
    raw = box.raw()
    with stopped(supervisor_of(box)):
        for number in range(40):
            theirs = open_session(raw, number)
            request(raw, theirs, "exec", string("echo fine"))
        raw.sock.settimeout(25)
        failed = [drain(raw) for _ in range(8)]
        assert all(b"wait for this sandbox" in got.err and got.end == ("exit-status", 255) for got in failed)
    # What one writes may come before the end of another.
    assert b"".join(drain(raw).out for _ in range(32)) == b"fine\n" * 32


@LONG
@pytest.mark.timeout(300)
def test_client_that_does_not_answer(box):
    """Whether it takes a connection from the sandbox: 30 s."""
    raw = box.raw()
    port = listen(raw)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
        asked(raw, port)
        began = time.monotonic()
        assert is_reset(s, 60) and 29 < time.monotonic() - began < 32


@LONG
@pytest.mark.timeout(300)
def test_connection_that_a_client_leaves(box):
    """It closes the channel, and what is connected in the sandbox does not: 30 s."""
    raw = box.raw()
    port = listen(raw)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
        number = asked(raw, port)
        raw.send(bytes([CHANNEL_OPEN_CONFIRMATION]) + struct.pack(">IIII", number, 5, MIB, 1 << 15))
        s.sendall(b"here")
        raw.read_until(DATA)
        raw.send(bytes([CLOSE]) + struct.pack(">I", number))
        raw.read_until(CLOSE)
        began = time.monotonic()
        assert s.recv(1) == b""  # half closed
        with pytest.raises(ConnectionError):
            while time.monotonic() - began < 60:
                s.sendall(b"more")
                time.sleep(0.1)
        assert 29 < time.monotonic() - began < 32


# Connections.


def test_crowd_that_comes_at_once(make_endpoint):  # noqa: F811
    """64 are accepted in a turn, and nobody is forgotten."""
    endpoint = make_endpoint()  # noqa: F811
    with contextlib.ExitStack() as stack:
        with stopped(endpoint.process.pid):
            peers = [RawSsh(stack.enter_context(endpoint.connect())) for _ in range(200)]
        for peer in peers:
            assert peer.hello().startswith(b"SSH-2.0-")
    wait_until(lambda: endpoint.counters()["now"] == 0, 10, "all are gone")


def test_no_descriptor_left(make_endpoint):  # noqa: F811
    """Nothing is accepted for a while, again and again, until there is one."""
    endpoint = make_endpoint()  # noqa: F811
    session = endpoint.gateway.session()
    pid = endpoint.process.pid
    used = len(os.listdir(f"/proc/{pid}/fd"))
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 8, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))
    peers = [RawSsh(endpoint.connect()) for _ in range(10)]
    wait_until(lambda: endpoint.lines("event=accept_paused"), 5, "it waits")
    time.sleep(1)
    assert len(endpoint.lines("event=accept_paused")) <= 12  # not once a turn
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    peers[-1].log_in(session)
    for peer in peers:
        peer.close()


def test_client_that_does_not_say_what_it_speaks(make_endpoint):  # noqa: F811
    """10 s, though it may take longer to log in."""
    endpoint = make_endpoint("--login-grace=60s")  # noqa: F811
    silent, slow = RawSsh(endpoint.connect()), RawSsh(endpoint.connect())
    slow.hello()
    silent.sock.settimeout(20)
    began = time.monotonic()
    silent.read_all()
    assert 9 < time.monotonic() - began < 12
    slow.key_exchange()
    silent.close()
    slow.close()


# The gateway.


def test_gateway_that_does_not_answer(make_endpoint):  # noqa: F811
    """A login fails after 10 s."""
    endpoint = make_endpoint()  # noqa: F811
    session = endpoint.gateway.session()
    endpoint.gateway.delay = 12
    peer = RawSsh(endpoint.connect(), timeout=20)
    began = time.monotonic()
    with pytest.raises((AssertionError, EOFError, ConnectionError)):
        peer.log_in(session)
    assert 9 < time.monotonic() - began < 12
    endpoint.gateway.delay = 0
    peer.close()
    RawSsh(endpoint.connect()).log_in(session).close()


@LONG
@pytest.mark.timeout(300)
def test_gateway_that_is_gone(make_endpoint):  # noqa: F811
    """It is dialled again, at last every 5 s; after 30 s nobody would tell of a revocation."""
    endpoint = make_endpoint()  # noqa: F811
    session = endpoint.gateway.session()
    peer = RawSsh(endpoint.connect(), timeout=60).log_in(session)
    endpoint.gateway.stop()
    began = time.monotonic()
    peer.read_all()
    assert 28 < time.monotonic() - began < 33
    assert endpoint.lines("the gateway cannot be reached")
    peer.close()
    endpoint.gateway.start()
    wait_until(lambda: len(endpoint.lines("event=gateway_up")) == 2, 6, "it is back")
    RawSsh(endpoint.connect()).log_in(session).close()


def test_usage_is_reported_now_and_then(box):
    """Every 10 s, while something is going on."""
    raw = box.raw()
    theirs = open_session(raw)
    request(raw, theirs, "exec", string("echo here; sleep 60"))
    read_data(raw, b"here\n")
    rows = lambda: box.sessions.list().sessions  # noqa: E731
    assert not any(row.bytes_out for row in rows())
    wait_until(lambda: any(row.bytes_out for row in rows()), 12, "it is told of")
