"""Clients that say nothing: they are asked whether they live, and nothing is kept for nobody."""

import time

import pytest
import raw_ssh
from conftest import wait_until
from raw_ssh import RawSsh
from ssh_endpoint import endpoint, make_endpoint  # noqa: F401


def seconds_until_the_end(peer, answers=False):
    """Reads on, and answers what asks for it."""
    began = time.monotonic()
    try:
        while True:
            packet = peer.read()
            if answers and packet[0] == raw_ssh.GLOBAL_REQUEST:
                peer.send(bytes([raw_ssh.REQUEST_FAILURE]))
            if packet[0] == raw_ssh.DISCONNECT:
                return time.monotonic() - began, packet
    except EOFError:
        return time.monotonic() - began, b""


def test_who_does_not_answer_is_gone(make_endpoint):
    endpoint = make_endpoint("--keepalive=500ms")
    peer = RawSsh(endpoint.connect()).log_in(endpoint.gateway.session())
    seconds, said = seconds_until_the_end(peer)
    assert 1.5 < seconds < 5 and b"the client does not answer" in said
    peer.close()


def test_who_answers_stays(make_endpoint):
    endpoint = make_endpoint("--keepalive=500ms")
    peer = RawSsh(endpoint.connect(), timeout=4).log_in(endpoint.gateway.session())
    asked = []
    with pytest.raises(TimeoutError):
        began = time.monotonic()
        while time.monotonic() - began < 5:
            asked.append(peer.read_until(raw_ssh.GLOBAL_REQUEST, raw_ssh.DISCONNECT))
            assert asked[-1][0] == raw_ssh.GLOBAL_REQUEST and b"keepalive@openssh.com" in asked[-1]
            peer.send(bytes([raw_ssh.REQUEST_FAILURE]))
        raise TimeoutError
    assert len(asked) > 3
    peer.close()


def test_a_connection_without_a_channel_ends_in_time(make_endpoint):
    endpoint = make_endpoint("--idle-timeout=1s")
    peer = RawSsh(endpoint.connect()).log_in(endpoint.gateway.session())
    seconds, said = seconds_until_the_end(peer)
    assert 0.7 < seconds < 3 and b"nothing was done" in said
    peer.close()


def test_bytes_are_reported(endpoint):
    """To the gateway, at the end at the latest."""
    session = endpoint.gateway.session()
    RawSsh(endpoint.connect()).log_in(session).close()
    wait_until(lambda: len(endpoint.gateway.reports) == 4, 5, "all is reported")
    kinds = [report.WhichOneof("report") for report in endpoint.gateway.reports]
    assert kinds == ["hello", "opened", "usage", "closed"]
