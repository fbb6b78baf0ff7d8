"""A session's time is over when either clock says so: the one that can be set, and the one that
cannot. The endpoint runs under a shim that sets the first."""

import time

import pytest
from raw_ssh import GLOBAL_REQUEST, KEXINIT, RawSsh, string
from ssh_endpoint import endpoint, make_endpoint  # noqa: F401
from test_clock_is_set import clock  # noqa: F401


REQUEST_SUCCESS = 81


@pytest.fixture
def under(clock, make_endpoint):  # noqa: F811
    return make_endpoint()


def seconds_open(peer, at_most):
    """How long it takes until the endpoint ends it."""
    began = time.monotonic()
    peer.sock.settimeout(at_most)
    peer.read_all()
    return time.monotonic() - began


def test_two_days_forward(under, clock):  # noqa: F811
    peer = RawSsh(under.connect()).log_in(under.gateway.session())
    clock.set(2)
    assert seconds_open(peer, 5) < 1
    assert under.lines("the session has expired")


def test_two_days_back_gives_no_more_time(under, clock):  # noqa: F811
    session = under.gateway.session(seconds=2)
    peer = RawSsh(under.connect()).log_in(session)
    clock.set(-2)
    assert 1 < seconds_open(peer, 8) < 3


def test_back_and_forth_between_is_nothing(under, clock):  # noqa: F811
    peer = RawSsh(under.connect()).log_in(under.gateway.session())
    clock.set(-2)
    time.sleep(0.6)
    clock.set(0)
    with pytest.raises(TimeoutError):
        seconds_open(peer, 1.5)
    peer.close()


def test_a_session_that_expired_by_the_endpoints_clock(under, clock):  # noqa: F811
    """The gateway may be another machine, whose clock is late."""
    clock.set(2)
    with pytest.raises(AssertionError):
        RawSsh(under.connect()).log_in(under.gateway.session())


def test_keys_are_changed_after_an_hour(clock, make_endpoint):  # noqa: F811
    endpoint = make_endpoint("--idle-timeout=0", "--keepalive=0")  # noqa: F811
    session = endpoint.gateway.session(seconds=10000, wall_seconds=10000)
    peer = RawSsh(endpoint.connect()).log_in(session)
    keepalive = bytes([GLOBAL_REQUEST]) + string("keepalive@openssh.com") + b"\1"
    clock.jump(3500)
    peer.send(keepalive)
    assert peer.read()[0] == REQUEST_SUCCESS
    clock.jump(101)
    peer.send(keepalive)  # the answer waits for the keys
    packet = peer.read()
    assert packet[0] == KEXINIT
    peer.key_exchange(packet)
    assert peer.read()[0] == REQUEST_SUCCESS
    peer.close()
