"""Upstream's way: ForwardTcp{ssh, token} through the gateway, and its tunnel to an endpoint.

A real gateway, an endpoint that was started by hand, and a client whose ProxyCommand is here.
"""

import contextlib
import os
import queue
import socket
import threading
import types

import grpc
import pytest
import raw_ssh
import ssh_sessions
from conftest import wait_until
from raw_ssh import RawSsh, string
from ssh_endpoint import ENDPOINT, Endpoint, new_key, private_text

FORWARD = "openshell.v1.OpenShell/ForwardTcp"


class Behind(Endpoint):
    """An endpoint of a real gateway."""

    def __init__(self, folder, make_gateway):
        flags, tokens = ssh_sessions.endpoint_flags(folder, ENDPOINT)
        self.folder, self.host, self.flags, self.process = folder, "127.0.0.1", (), None
        self.real = make_gateway(*flags)
        self.gateway = types.SimpleNamespace(address=self.real.endpoint, stop=lambda: None)
        self.sessions = ssh_sessions.Sessions(self.real)
        self.host_key = new_key()
        self.log_path = folder / "sshd.log"
        (folder / "token").write_text(tokens[ENDPOINT])
        (folder / "host_key").write_bytes(private_text(self.host_key))
        self.real.create("box")

    def proxy(self, token, sandbox="box"):
        """A ProxyCommand: a socket whose other end is the call."""
        ours, theirs = socket.socketpair()
        frame = self.sessions.api["openshell.v1.TcpForwardFrame"]
        out = queue.Queue()
        out.put(frame(init={"sandbox": sandbox, "ssh": {}, "authorization_token": token}))

        def requests():
            yield out.get()
            while data := theirs.recv(65536):
                yield frame(data=data)

        call = self.sessions.api.method(self.real.channel(), FORWARD)(requests())

        def responses():
            with contextlib.suppress(grpc.RpcError, OSError):
                for answer in call:
                    theirs.sendall(answer.data)
            with contextlib.suppress(OSError):
                theirs.shutdown(socket.SHUT_WR)

        threading.Thread(target=responses, daemon=True).start()
        return ours, call


@pytest.fixture
def behind(make_gateway, tmp_path):
    place = Behind(tmp_path, make_gateway)
    try:
        place.start()
        wait_until(lambda: place.lines("event=connected"), 10, "it has dialled")
        yield place
        place.stop()
    finally:
        place.destroy()


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


def test_a_key_on_the_port_and_the_real_gateway(behind, tmp_path):
    """The other way in, with the key that CreateSshSession gave."""
    made = behind.sessions.create()
    key = tmp_path / "key"
    with open(os.open(key, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
        file.write(made.private_key)
    session = types.SimpleNamespace(id=made.session_id if hasattr(made, "session_id") else "",
                                    key_file=key, username=made.username)
    process = behind.master(session)
    wait_until(lambda: behind.sessions.list().sessions[0].connections == 1, 10, "it is logged in")
    behind.sessions.revoke(token=made.token)
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
