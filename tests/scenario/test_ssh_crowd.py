"""Strangers that stall, fail or come in crowds cost others nothing but themselves."""

import os
import time

import pytest
import raw_ssh
from conftest import BIN, wait_until
from cryptography.hazmat.primitives.asymmetric import x25519
from raw_ssh import RawSsh, string
from ssh_endpoint import endpoint, make_endpoint  # noqa: F401

LONG = bool(os.environ.get("TOWLINE_LONG"))
STALLED, PLACES = (5000, 1024) if LONG else (200, 100)  # as --startups has it by default
BROKEN = 10000 if LONG else 200
STRANGER = "127.0.0.2"  # is punished; 127.0.0.1 is not
GOOD_SECONDS = 3  # for a login among them
FLAT_KIB = 2048
STARTUP_KIB = 32  # of a connection that has not logged in
POINT = x25519.X25519PrivateKey.generate().public_key().public_bytes_raw()
SANITIZED = b"__asan_" in (BIN / "towline-sshd").read_bytes()  # keeps what was freed


STAGES = ("connected", "half a line", "identified", "half a packet", "kexinit", "half an exchange", "keys",
          "half a request", "service", "offered")  # fmt: skip


def stall(peer, stage, session):
    """As far as the stage, and no further."""
    at = STAGES.index(stage)
    if stage == "half a line":
        peer.sock.sendall(b"SSH-2.0-sl")
    if at < STAGES.index("identified"):
        return
    peer.hello()
    if stage == "half a packet":
        peer.sock.sendall(peer.pack(peer.kexinit())[:100])
    elif stage in ("kexinit", "half an exchange"):
        peer.exchange_kexinit()
    if stage == "half an exchange":
        peer.send(bytes([raw_ssh.KEX_ECDH_INIT]) + string(POINT))
        peer.read_until(raw_ssh.KEX_ECDH_REPLY)
    if at < STAGES.index("keys"):
        return
    peer.key_exchange()
    if stage == "half a request":
        peer.sock.sendall(peer.pack(bytes([raw_ssh.SERVICE_REQUEST]) + string("ssh-userauth"))[:20])
    if at < STAGES.index("service"):
        return
    peer.service()
    if stage == "offered":
        peer.send(peer.auth_request(session, signed=False))
        peer.read_until(raw_ssh.USERAUTH_PK_OK)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", STAGES)
def test_stalled_connections_keep_nobody_out(make_endpoint, stage):
    endpoint = make_endpoint(f"--startups={PLACES // 2}:30:{PLACES}", "--login-grace=60s")
    session = endpoint.gateway.session()
    before = endpoint.memory_kib()
    stalled = []
    for _ in range(STALLED):
        peer = RawSsh(endpoint.connect())
        stalled.append(peer)
        try:
            stall(peer, stage, session)
        except (EOFError, ConnectionError):
            pass  # no place for it
    time.sleep(1.1)  # they are old enough to make way
    logins = []
    for _ in range(10):
        began = time.monotonic()
        RawSsh(endpoint.connect()).log_in(session).close()
        logins.append(time.monotonic() - began)
    counted = endpoint.counters()
    print(f"{STALLED} stalled: {counted}, memory {before} to {endpoint.memory_kib()} KiB, slowest {max(logins):.3f} s")
    assert max(logins) < GOOD_SECONDS
    assert counted["unauthenticated"] <= PLACES
    assert counted["refused_early"] + counted["evicted"] > 0
    assert SANITIZED or endpoint.memory_kib() - before < PLACES * STARTUP_KIB + FLAT_KIB
    for peer in stalled:
        peer.close()
    wait_until(lambda: endpoint.counters()["now"] == 0, 10, "all are gone")


@pytest.mark.parametrize("stage", STAGES)
def test_who_stalls_is_sent_away_in_time(make_endpoint, stage):
    endpoint = make_endpoint("--login-grace=2s")
    peer = RawSsh(endpoint.connect())
    stall(peer, stage, endpoint.gateway.session())
    began = time.monotonic()
    peer.buffer = b""
    while peer.sock.recv(65536):
        pass
    assert time.monotonic() - began < 4
    peer.close()
    assert "the time to log in is over" in endpoint.log()


BROKEN_WAYS = ("garbage", "nothing in common", "wrong guess", "cut in a packet", "cut", "short", "zero", "long",
               "no new keys", "other packet between", "wrong keys", "wrong tag")  # fmt: skip


def break_off(peer, how):
    """One key exchange that comes to nothing."""
    peer.hello()
    if how == "garbage":
        peer.send(bytes([raw_ssh.KEXINIT]) + os.urandom(64))
    elif how == "nothing in common":
        peer.send(peer.kexinit(("diffie-hellman-group1-sha1", *raw_ssh.ALGORITHMS[1:])))
    elif how == "wrong guess":
        peer.send(peer.kexinit(("ecdh-sha2-nistp256,curve25519-sha256", *raw_ssh.ALGORITHMS[1:]))[:-5] + b"\1" + bytes(4))
        peer.send(bytes([raw_ssh.KEX_ECDH_INIT]) + string(os.urandom(65)))
    elif how == "cut in a packet":
        peer.sock.sendall(peer.pack(peer.kexinit())[:-40])
    elif how == "wrong tag":
        peer.key_exchange()
        packet = peer.pack(bytes([raw_ssh.SERVICE_REQUEST]) + string("ssh-userauth"))
        peer.sock.sendall(packet[:-1] + bytes([packet[-1] ^ 1]))
    else:
        peer.exchange_kexinit()
        point = {"short": b"x", "zero": bytes(32), "long": b"x" * 70000}.get(how, POINT)
        if how != "cut":
            peer.send(bytes([raw_ssh.KEX_ECDH_INIT]) + string(point))
        if how == "short":
            peer.send(bytes([raw_ssh.KEX_ECDH_INIT]) + string(point))
        elif how == "no new keys":
            peer.send(bytes([raw_ssh.SERVICE_REQUEST]) + string("ssh-userauth"))
        elif how == "other packet between":
            peer.send(bytes([raw_ssh.IGNORE]) + string(b"x"))
            peer.send(bytes([raw_ssh.NEWKEYS]))
        elif how == "wrong keys":
            peer.send(bytes([raw_ssh.NEWKEYS]))
            peer.sock.sendall(os.urandom(64))


def broken(endpoint, how):
    peer = RawSsh(endpoint.connect())
    try:
        break_off(peer, how)
        peer.sock.shutdown(1)
        while peer.sock.recv(65536):
            pass
    except (EOFError, ConnectionError, OSError):
        pass
    peer.close()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", BROKEN_WAYS)
def test_broken_key_exchanges_leave_nothing(endpoint, how):
    session = endpoint.gateway.session()
    for _ in range(BROKEN // 5):
        broken(endpoint, how)
    wait_until(lambda: endpoint.counters()["now"] == 0, 10, "all are gone")
    before = endpoint.memory_kib()
    for _ in range(BROKEN):
        broken(endpoint, how)
    wait_until(lambda: endpoint.counters()["now"] == 0, 10, "all are gone")
    print(f"{BROKEN} broken: memory {before} to {endpoint.memory_kib()} KiB")
    assert SANITIZED or endpoint.memory_kib() - before < FLAT_KIB
    RawSsh(endpoint.connect()).log_in(session).close()


def test_a_wrong_key_exchange_again_and_again_on_one_connection(endpoint):
    """The same connection offers a guess that is wrong, and the exchange it announced."""
    peer = RawSsh(endpoint.connect())
    peer.hello()
    peer.exchange_kexinit()
    try:
        for _ in range(1000):
            peer.send(peer.kexinit())
    except OSError:
        pass
    assert raw_ssh.KEX_ECDH_REPLY not in peer.read_all()
    peer.close()


def test_a_source_that_fails_is_not_listened_to(endpoint):
    session = endpoint.gateway.session()
    for _ in range(20):
        peer = RawSsh(endpoint.connect(STRANGER))
        try:
            peer.hello()
            peer.sock.sendall(b"\0" * 64)
            peer.read_all()
        except (EOFError, ConnectionError):
            pass
        peer.close()
    wait_until(lambda: endpoint.counters()["refused_source"] > 0, 5, "it is refused")
    peer = RawSsh(endpoint.connect(STRANGER))
    with pytest.raises((EOFError, ConnectionError)):
        peer.read_hello()
    # Others are.
    RawSsh(endpoint.connect()).log_in(session).close()


def test_more_connections_than_there_may_be(make_endpoint):
    endpoint = make_endpoint("--max-connections=5")
    session = endpoint.gateway.session()
    peers = [RawSsh(endpoint.connect()).log_in(session) for _ in range(5)]
    late = RawSsh(endpoint.connect())
    with pytest.raises((EOFError, ConnectionError)):
        late.read_hello()
    assert endpoint.counters()["refused_full"] == 1
    for peer in peers:
        peer.close()
    wait_until(lambda: endpoint.counters()["now"] == 0, 5, "they are gone")
    RawSsh(endpoint.connect()).log_in(session).close()


@pytest.mark.parametrize("keys", [False, True])
def test_a_stranger_that_says_too_much(endpoint, keys):
    """A packet as long as any may be, of which all but the end comes."""
    peer = RawSsh(endpoint.connect())
    peer.hello()
    if keys:
        peer.key_exchange()
    try:
        peer.sock.sendall((262144).to_bytes(4, "big") + bytes(200000))
        peer.read_all()
    except OSError:
        pass
    peer.close()
    assert endpoint.lines("more was sent than it takes to log in")


@pytest.mark.parametrize("name", ["keepalive@openssh.com", "cancel-tcpip-forward", "no-such"])
def test_a_client_that_reads_nothing_costs_a_bounded_amount(endpoint, name):
    """It asks and asks, and takes no answer: then nothing more is read of it, or it ends."""
    session, other = endpoint.gateway.session(), endpoint.gateway.session()
    peer = RawSsh(endpoint.connect())
    peer.sock.setsockopt(1, 8, 4096)  # SO_RCVBUF
    peer.log_in(session)
    before = endpoint.memory_kib()
    request = bytes([raw_ssh.GLOBAL_REQUEST]) + string(name) + b"\1" + string("localhost") + bytes(4)
    peer.sock.settimeout(1)
    sent = 0
    try:
        while sent < 64 << 20:
            batch = b"".join(peer.pack(request) for _ in range(1000))
            peer.sock.sendall(batch)
            sent += len(batch)
    except (TimeoutError, ConnectionError):
        pass
    assert sent < 64 << 20, "it never stopped reading"
    assert SANITIZED or endpoint.memory_kib() - before < 2 * FLAT_KIB
    began = time.monotonic()
    RawSsh(endpoint.connect()).log_in(other).close()
    assert time.monotonic() - began < GOOD_SECONDS
    peer.close()
