"""What runs over SSH ends with its session, and says why; and nobody waits for another."""

import contextlib
import os
import socket
import struct
import subprocess
import threading
import time

import pytest
import raw_ssh
from conftest import BIN, wait_until
from raw_ssh import RawSsh, channel_open, string
from ssh_behind import behind, make_behind  # noqa: F401

DATA, EXTENDED_DATA, EOF, CLOSE, REQUEST = 94, 95, 96, 97, 98
WINDOW_ADJUST = 93
CHANNELS = 60  # on one connection
SANITIZED = b"__asan_" in (BIN / "towline-sshd").read_bytes()  # keeps what was freed


def start(behind, session, *words, **how):
    return subprocess.Popen(
        behind.command(session, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how
    )


def open_exec(peer, command, number=0, window=1 << 30):
    """The endpoint's number of a channel in which the command runs."""
    peer.send(channel_open(number=number, window=window))
    answer = peer.read_until(raw_ssh.CHANNEL_OPEN_CONFIRMATION, raw_ssh.CHANNEL_OPEN_FAILURE)
    assert answer[0] == raw_ssh.CHANNEL_OPEN_CONFIRMATION, answer
    theirs = struct.unpack_from(">I", answer, 5)[0]
    peer.send(bytes([REQUEST]) + struct.pack(">I", theirs) + string("exec") + b"\1" + string(command))
    return theirs


@contextlib.contextmanager
def raw_listener():
    """A port on loopback, and the connections that have come to it."""
    accepted = []
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    accepted.append(listener.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], accepted
        listener.shutdown(socket.SHUT_RDWR)
    for connection in accepted:
        connection.close()


@pytest.mark.parametrize("way", ["down", "up"])
def test_revoked_in_mid_transfer(behind, way):
    session, other = behind.session(), behind.session()
    bystander = start(behind, other, "cat", stdin=subprocess.PIPE)
    if way == "down":
        process = start(behind, session, "cat /dev/zero", stdin=subprocess.DEVNULL)
        assert len(process.stdout.read(32 << 20)) == 32 << 20
        threading.Thread(target=lambda: process.stdout.read(), daemon=True).start()
    else:
        with open("/dev/zero", "rb") as zero:
            process = start(behind, session, "cat >/dev/null", stdin=zero)
        wait_until(lambda: any(s.bytes_in for s in behind.sessions.list().sessions), 20, "some came")
    began = time.monotonic()
    behind.revoke(session)
    process.wait(10)
    assert time.monotonic() - began < 1.5
    said = process.stderr.read()
    assert b"revoked" in said, said
    bystander.stdin.write(b"still here\n")
    bystander.stdin.close()
    assert bystander.stdout.read() == b"still here\n" and bystander.wait(10) == 0
    assert not behind.sessions.ids() or behind.connections() == 0


def test_expired_in_mid_transfer(behind):
    session = behind.session(ttl_seconds=3)
    process = start(behind, session, "cat /dev/zero", stdin=subprocess.DEVNULL)
    began = time.monotonic()
    threading.Thread(target=lambda: process.stdout.read(), daemon=True).start()
    process.wait(10)
    assert time.monotonic() - began < 4.5
    assert b"expired" in process.stderr.read()
    assert behind.ssh(session, "true").returncode == 255


def test_the_command_ends_with_the_session(behind):
    """Not only its connection: nothing of it runs on."""
    session = behind.session()
    process = start(behind, session, "echo; exec sleep 86397", stdin=subprocess.DEVNULL)
    assert process.stdout.readline()
    running = lambda: subprocess.run(["pgrep", "-f", "^sleep 86397$"], capture_output=True).stdout  # noqa: E731
    wait_until(running, 10, "it runs")
    behind.revoke(session)
    process.wait(10)
    wait_until(lambda: not running(), 10, "it has ended")


def test_the_key_of_another_sandbox(behind):
    """The user name says which session: neither name nor key of another opens it."""
    behind.real.create("other")
    session, other = behind.session(), behind.session(sandbox="other")
    result = behind.ssh(session, "pwd")
    assert str(behind.work) in result.stdout
    session.username = f"other.{session.username.partition('.')[2]}"
    assert behind.ssh(session, "true").returncode == 255
    other.key_file = session.key_file
    assert behind.ssh(other, "true").returncode == 255


def test_a_closed_window_delays_nobody(behind):
    """A client that takes nothing, and one on the same connection's other channel that does."""
    session = behind.session()
    peer = RawSsh(behind.connect()).log_in(session)
    open_exec(peer, "cat /dev/zero", number=0, window=1000)
    open_exec(peer, "sleep 0.5; echo served", number=1)
    got = b""
    while b"served\n" not in got:
        packet = peer.read_until(DATA)
        got += packet[9:] if packet[1:5] == struct.pack(">I", 1) else b""
    before = behind.memory_kib()
    began = time.monotonic()
    assert behind.ssh(behind.session(), "echo served").stdout == "served\n"
    assert time.monotonic() - began < 5
    assert SANITIZED or behind.memory_kib() - before < 4096
    peer.close()


def test_a_client_that_does_not_read_delays_nobody(behind):
    """Its socket is full, with a wide window."""
    session = behind.session()
    peer = RawSsh(behind.connect()).log_in(session)
    before = behind.memory_kib()
    open_exec(peer, "cat /dev/zero")
    time.sleep(2)
    assert SANITIZED or behind.memory_kib() - before < 8192
    began = time.monotonic()
    assert behind.ssh(behind.session(), "echo served").stdout == "served\n"
    assert time.monotonic() - began < 5
    # It is ended all the same.
    behind.revoke(session)
    wait_until(lambda: behind.counters()["now"] == 0, 3, "it is gone")
    peer.close()


@pytest.mark.skipif(not os.environ.get("TOWLINE_LONG"), reason="a minute: ./dev test --long")
def test_more_channels_than_a_connection_to_the_gateway_begins_with(make_behind):
    """Each is a call, and all of an endpoint's calls are on one connection."""
    flags = ("--ssh-session-connections=100", "--ssh-sandbox-connections=100")
    behind = make_behind(gateway_flags=flags)
    session = behind.session()
    peers = []
    with raw_listener() as (port, accepted):
        for _ in range(18):
            peer = RawSsh(behind.connect(), timeout=30).log_in(session)
            peers.append(peer)
            more = string("127.0.0.1") + struct.pack(">I", port) + string("127.0.0.1") + struct.pack(">I", 1)
            for number in range(CHANNELS):
                peer.send(channel_open("direct-tcpip", number, more=more))
                answer = peer.read_until(raw_ssh.CHANNEL_OPEN_CONFIRMATION, raw_ssh.CHANNEL_OPEN_FAILURE)
                assert answer[0] == raw_ssh.CHANNEL_OPEN_CONFIRMATION, (len(peers), number, answer)
        wait_until(lambda: len(accepted) == 18 * CHANNELS, 20, "all are connected")
        for peer in peers:
            peer.close()
