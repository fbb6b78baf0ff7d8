"""Upstream's way: ForwardTcp{ssh, token} through the gateway, and its tunnel to an endpoint.

A real gateway, an endpoint that was started by hand, and a client whose ProxyCommand is here.
"""

import contextlib
import threading

import grpc
import pytest
import raw_ssh
from conftest import wait_until
from raw_ssh import RawSsh, string
from ssh_behind import behind, make_behind  # noqa: F401

def ask(peer, user, method="none", more=b""):
    peer.send(bytes([raw_ssh.USERAUTH_REQUEST]) + string(user) + string("ssh-connection") + string(method) + more)
    return peer.read_until(raw_ssh.USERAUTH_SUCCESS, raw_ssh.USERAUTH_FAILURE)[0]


def come_in(behind, made):
    """As far as the login."""
    sock, call = behind.proxy(made.token)
    peer = RawSsh(sock)
    peer.call = call
    peer.hello()
    peer.key_exchange()
    peer.service()
    return peer


def test_a_token_opens_its_session(behind):
    made = behind.sessions.create()
    peer = come_in(behind, made)
    assert ask(peer, made.username) == raw_ssh.USERAUTH_SUCCESS
    wait_until(lambda: behind.sessions.list().sessions[0].connections == 1, 5, "it is counted")
    assert made.token not in behind.log() and made.token.split(".")[1] not in behind.log()
    peer.close()
    wait_until(lambda: behind.sessions.list().sessions[0].connections == 0, 5, "and no more")
    wait_until(lambda: behind.counters()["now"] == 0, 5, "the endpoint has let go")


def test_any_user_name_will_do(behind):
    """Clients of upstream log in as whom they like: the token says who it is."""
    made = behind.sessions.create()
    peer = come_in(behind, made)
    assert ask(peer, "sandbox") == raw_ssh.USERAUTH_SUCCESS
    peer.close()


def test_other_methods_do_not(behind):
    made = behind.sessions.create()
    peer = come_in(behind, made)
    assert ask(peer, "sandbox", "password", b"\0" + string("x")) == raw_ssh.USERAUTH_FAILURE
    assert ask(peer, "sandbox") == raw_ssh.USERAUTH_SUCCESS
    peer.close()


@pytest.mark.parametrize("token", ["", "ssh-0123456789abcdef." + "0" * 64, "0123456789abcdef"])
def test_what_is_no_token(behind, token):
    behind.sessions.create()
    sock, call = behind.proxy(token)
    with pytest.raises((EOFError, ConnectionError)):
        RawSsh(sock).hello()
    assert call.code() in (
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INVALID_ARGUMENT,
    )
    sock.close()
    assert behind.counters()["tunnelled"] == 0


def test_revoked_between_the_token_and_the_login(behind):
    made = behind.sessions.create()
    peer = come_in(behind, made)
    behind.sessions.revoke(token=made.token)
    with contextlib.suppress(EOFError, ConnectionError):
        assert ask(peer, "sandbox") != raw_ssh.USERAUTH_SUCCESS
    peer.close()


def test_revocation_ends_it(behind):
    made = behind.sessions.create()
    peer = come_in(behind, made)
    assert ask(peer, "sandbox") == raw_ssh.USERAUTH_SUCCESS
    behind.sessions.revoke(token=made.token)
    assert peer.read_until(raw_ssh.DISCONNECT)
    peer.close()


def test_a_key_on_the_port_and_the_real_gateway(behind):
    """The other way in, with the key that CreateSshSession gave."""
    session = behind.session()
    process = behind.master(session)
    wait_until(lambda: behind.connections() == 1, 10, "it is logged in")
    behind.revoke(session)
    said = process.communicate(timeout=5)[1]
    assert process.returncode == 255 and "revoked" in said, said
    assert behind.ssh(session, "true").returncode == 255


def test_64_revocations_and_connections_race(behind):
    """Whoever wins, nobody is left in a session that has ended."""
    made = [behind.sessions.create() for _ in range(64)]
    peers = []

    def log_in(one):
        with contextlib.suppress(Exception):
            peer = come_in(behind, one)
            if ask(peer, "sandbox") == raw_ssh.USERAUTH_SUCCESS:
                peers.append(peer)  # it will be ended
            else:
                peer.close()

    threads = [threading.Thread(target=log_in, args=(one,)) for one in made]
    threads += [threading.Thread(target=behind.sessions.revoke, kwargs={"token": one.token}) for one in made]
    for pair in zip(threads[:64], threads[64:]):
        for thread in pair:
            thread.start()
    for thread in threads:
        thread.join(30)
    wait_until(lambda: behind.counters()["now"] == 0, 10, "all have ended")
    assert not behind.sessions.list().sessions
    for peer in peers:
        peer.close()
