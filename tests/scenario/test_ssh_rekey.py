"""Keys are changed in time, whoever begins, and the connection goes on."""

import os

import raw_ssh
from conftest import BIN
from raw_ssh import RawSsh, string
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
