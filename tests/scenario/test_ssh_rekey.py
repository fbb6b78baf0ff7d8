"""Keys are changed in time, whoever begins, and the connection goes on."""

import os
import subprocess

import pytest
import raw_ssh
from conftest import BIN
from raw_ssh import RawSsh, string
from ssh_behind import make_behind  # noqa: F401
from ssh_endpoint import endpoint, make_endpoint  # noqa: F401

SANITIZED = b"__asan_" in (BIN / "towline-sshd").read_bytes()


def is_answered(peer):
    peer.send(bytes([raw_ssh.GLOBAL_REQUEST]) + string("keepalive@openssh.com") + b"\1")
    return peer.read()[0] in (81, raw_ssh.REQUEST_FAILURE)


def test_the_client_begins(endpoint):
    peer = RawSsh(endpoint.connect()).log_in(endpoint.gateway.session())
    for _ in range(5):
        assert is_answered(peer)
        peer.key_exchange()
    assert is_answered(peer)
    peer.close()


def test_the_endpoint_begins(make_endpoint):
    endpoint = make_endpoint("--rekey-limit=1M")
    peer = RawSsh(endpoint.connect()).log_in(endpoint.gateway.session())
    ignored = bytes([raw_ssh.IGNORE]) + string(os.urandom(30000))
    for _ in range(4):
        for _ in range(35):
            peer.send(ignored)
        theirs = peer.read_until(raw_ssh.KEXINIT)
        peer.key_exchange(theirs)
        assert is_answered(peer)
    peer.close()


def test_a_key_exchange_that_is_begun_and_not_ended(endpoint):
    """What was to be sent waits, to a bound; a message that has no place in it ends all."""
    peer = RawSsh(endpoint.connect()).log_in(endpoint.gateway.session())
    peer.exchange_kexinit()
    before = endpoint.memory_kib()
    peer.sock.settimeout(2)
    request = bytes([raw_ssh.GLOBAL_REQUEST]) + string("keepalive@openssh.com") + b"\1"
    try:
        for _ in range(20000):
            peer.send(request)
        peer.read_all()
    except OSError:
        pass
    assert SANITIZED or endpoint.memory_kib() - before < 4096
    peer.close()


@pytest.mark.parametrize("who", ["endpoint", "client"])
@pytest.mark.parametrize("way", ["down", "up", "both"])
def test_keys_change_in_mid_transfer(make_behind, way, who):
    """Again and again, with a full pipe: nothing is lost, and nothing waits for ever."""
    behind = make_behind("--rekey-limit=1M" if who == "endpoint" else "--rekey-limit=1G")
    options = ("-o", "RekeyLimit=1M") if who == "client" else ()
    session = behind.session()
    data = os.urandom(24 << 20)
    (behind.work / "f").write_bytes(data)
    command = {"down": "cat f", "up": "cat >g", "both": "cat"}[way]
    given = b"" if way == "down" else data
    done = subprocess.run(
        behind.command(session, command, options=options), input=given, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (b"" if way == "up" else data)
    assert way != "up" or (behind.work / "g").read_bytes() == data


def test_a_client_that_never_changes_keys(make_endpoint):
    """It goes on asking, though nothing can be answered before it has done its part."""
    endpoint = make_endpoint("--rekey-limit=64K")
    peer = RawSsh(endpoint.connect(), timeout=30).log_in(endpoint.gateway.session())
    before = endpoint.memory_kib()
    request = bytes([raw_ssh.GLOBAL_REQUEST]) + string("keepalive@openssh.com") + b"\1"
    kinds = []
    sent = 0
    try:
        while sent < 200000:
            peer.sock.sendall(b"".join(peer.pack(request) for _ in range(500)))
            sent += 500
        peer.sock.shutdown(1)
    except OSError:
        pass
    try:
        kinds = peer.read_all()
    except OSError:
        pass
    assert sent < 200000 or raw_ssh.DISCONNECT in kinds
    assert endpoint.lines("does not change keys")
    assert SANITIZED or endpoint.memory_kib() - before < 8192
    peer.close()
