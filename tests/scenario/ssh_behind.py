"""An endpoint that was started by hand, with a real gateway and a sandbox behind it.

    behind.session()             # a session with a key, for ssh() and RawSsh.log_in()
    behind.proxy(token)          # a connection through the gateway, as a ProxyCommand makes it
"""

import contextlib
import os
import queue
import socket
import threading
import types

import grpc
import pytest
import ssh_sessions
from conftest import wait_until
from cryptography.hazmat.primitives import serialization
from ssh_endpoint import ENDPOINT, Endpoint, new_key, private_text

FORWARD = "openshell.v1.OpenShell/ForwardTcp"


class Behind(Endpoint):
    def __init__(self, folder, make_gateway, *flags, gateway_flags=()):
        endpoint_flags, tokens = ssh_sessions.endpoint_flags(folder, ENDPOINT)
        self.folder, self.host, self.flags, self.process = folder, "127.0.0.1", flags, None
        self.real = make_gateway(*endpoint_flags, *gateway_flags)
        self.gateway = types.SimpleNamespace(address=self.real.endpoint, stop=lambda: None)
        self.sessions = ssh_sessions.Sessions(self.real)
        self.host_key = new_key()
        self.log_path = folder / "sshd.log"
        (folder / "token").write_text(tokens[ENDPOINT])
        (folder / "host_key").write_bytes(private_text(self.host_key))
        self.box = self.real.create("box")
        self.work = self.real.sandbox_dir(self.box.metadata.id) / "work"

    def start(self):
        super().start()
        wait_until(lambda: self.lines("event=connected"), 10, "its tunnel is up")
        return self

    def session(self, **fields):
        made = self.sessions.create(**fields)
        session = types.SimpleNamespace(made=made, username=made.username)
        session.key = serialization.load_ssh_private_key(made.private_key.encode(), None)
        session.key_file = self.folder / made.username
        with open(os.open(session.key_file, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(made.private_key)
        return session

    def revoke(self, session):
        self.sessions.revoke(token=session.made.token)

    def connections(self):
        return sum(session.connections for session in self.sessions.list().sessions)

    def proxy(self, token, sandbox="box"):
        """A socket, whose other end is the call."""
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
def make_behind(make_gateway, tmp_path):
    made = []

    def make(*flags, **options):
        folder = tmp_path / f"behind{len(made)}"
        folder.mkdir()
        made.append(Behind(folder, make_gateway, *flags, **options))
        return made[-1].start()

    yield make
    try:
        for place in made:
            place.stop()
    finally:
        for place in made:
            place.destroy()


@pytest.fixture
def behind(make_behind):
    return make_behind()
