"""One of the three goes in the middle of a call: the others learn, and nothing of it stays.

Each of the streaming calls is brought to its middle; then its client, the supervisor or
the gateway goes. What has been cut never looks like what has ended.
"""

import os
import queue
import signal
import socket
import tarfile
import time

import grpc
import pytest
import raw_h2
import towline_api
from conftest import fails, processes_of, wait_until
from openshell._proto import openshell_pb2 as pb
from raw_h2 import frame

API = towline_api.load()
SERVICE = "/openshell.v1.OpenShell/"
LEARN_SECONDS = 5  # when the kernel tells of it; without, keepalive has 30
UPLOAD = API["openshell.v1.UploadFileRequest"]


class Middle:
    """A call that is under way, at its supervisor's end."""

    def __init__(self, ready):
        self.ready = ready
        self.service = None

    def exec(self):
        start = pb.ExecSandboxRequest(
            sandbox=self.ready.name, command=["sh", "-c", "echo up; cat > /dev/null; touch whole"]
        )
        return "ExecSandboxInteractive", pb.ExecSandboxInput(start=start)

    def forward(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        port = self.listener.getsockname()[1]
        target = pb.TcpRelayTarget(host="127.0.0.1", port=port)
        init = pb.TcpForwardInit(sandbox=self.ready.name, tcp=target)
        return "ForwardTcp", pb.TcpForwardFrame(init=init)

    def upload(self):
        (self.ready.workdir / "f").write_text("old")
        metadata = {"sandbox": self.ready.name, "remote_path": "f", "size_bytes": 1 << 20}
        return "UploadFile", UPLOAD(metadata=metadata)

    def unpack(self):
        metadata = {"sandbox": self.ready.name, "remote_path": ".", "is_archive": True}
        return "UploadFile", UPLOAD(metadata=metadata)

    def download(self):
        with open(self.ready.workdir / "large", "wb") as file:
            file.truncate(1 << 30)
        request = API["openshell.v1.DownloadFileRequest"]
        return "DownloadFile", request(sandbox=self.ready.name, remote_path="large")

    def is_there(self, kind):
        """Brings the supervisor's end to where something would be left of it."""
        if kind == "exec":
            wait_until(lambda: self.commands(), 10, "the command runs")
        elif kind == "forward":
            self.listener.settimeout(10)
            self.service, _ = self.listener.accept()
            self.service.settimeout(10)
            self.listener.close()
        elif kind == "upload":
            wait_until(lambda: len(self.files()) == 2, 10, "there is a part file")
        elif kind == "unpack":
            wait_until(lambda: ".towline-unpack" in self.files(), 10, "there is a part file")

    def commands(self):
        lines = processes_of(self.ready.gateway.data_dir).values()
        return [line for line in lines if "touch whole" in line]

    def files(self):
        return sorted(os.listdir(self.ready.workdir))

    def is_gone(self, kind):
        """At the supervisor's end, where it was not the supervisor that went."""
        if kind == "exec":
            wait_until(lambda: not self.commands(), LEARN_SECONDS, "the command has ended")
            assert self.files() == []
        elif kind == "forward":
            self.service_is_reset()
        elif kind == "upload":
            wait_until(lambda: self.files() == ["f"], LEARN_SECONDS, "the part file is gone")
            assert (self.ready.workdir / "f").read_text() == "old"
        elif kind == "unpack":
            wait_until(lambda: self.files() == [], LEARN_SECONDS, "the part file is gone")

    def service_is_reset(self):
        with self.service, pytest.raises(ConnectionResetError):
            while self.service.recv(65536):
                pass


def tar_of_one_file():
    info = tarfile.TarInfo("f")
    info.size = 1 << 20
    return info.tobuf() + bytes(10_000)


# What follows the first message of each; none of it is all.
MORE = {
    "exec": pb.ExecSandboxInput(stdin=b"x" * 10_000),
    "forward": pb.TcpForwardFrame(data=b"x" * 10_000),
    "upload": UPLOAD(chunk=b"x" * 10_000),
    "unpack": UPLOAD(chunk=tar_of_one_file()),
    "download": None,
}
KINDS = list(MORE)


@pytest.fixture
def middle(ready):
    made = Middle(ready)
    yield made
    if made.service is not None:
        made.service.close()


@pytest.mark.parametrize("kind", KINDS)
def test_client_vanishes(ready, middle, kind):
    """Its connection is reset, with all that it had open."""
    client = raw_h2.Client(ready.gateway.target)
    method, first = getattr(middle, kind)()
    stream = client.call(SERVICE + method, frame(first), end=kind == "download")
    if MORE[kind] is not None:
        stream.send(frame(MORE[kind]))
    else:
        client.reads = False
        client.wait(lambda: len(stream.received) > 10_000)
    middle.is_there(kind)
    client.vanish()
    middle.is_gone(kind)  # and the descriptors: see the fixture


class Call:
    """The same with a gRPC client, which is told of its end."""

    def __init__(self, ready, middle, kind):
        method, first = getattr(middle, kind)()
        self.requests = queue.Queue()
        self.requests.put(first)
        if MORE[kind] is not None:
            self.requests.put(MORE[kind])
        if kind == "download":
            self.requests.put(None)
        raw = ready.gateway.channel().stream_stream(
            SERVICE + method, request_serializer=lambda message: message.SerializeToString()
        )
        self.call = raw(iter(self.requests.get, None), timeout=60)
        self.call.initial_metadata()  # the supervisor has claimed it
        middle.is_there(kind)

    def is_told(self):
        began = time.monotonic()
        with fails(grpc.StatusCode.UNAVAILABLE):
            for _ in self.call:
                pass
        assert time.monotonic() - began < LEARN_SECONDS
        self.requests.put(None)


@pytest.mark.parametrize("kind", KINDS)
def test_supervisor_killed(ready, middle, kind):
    call = Call(ready, middle, kind)
    os.kill(ready.supervisor, signal.SIGKILL)
    call.is_told()
    if kind == "exec":
        # With its PID namespace, or by the gateway. A killed process's pipes are closed before its
        # namespace ends, so that the command may have seen its input end.
        wait_until(lambda: not middle.commands(), LEARN_SECONDS, "the command has ended")
    if kind == "forward":
        middle.service_is_reset()
    if kind == "upload":
        assert (ready.workdir / "f").read_text() == "old"


@pytest.mark.parametrize("kind", ["exec", "forward", "upload"])
def test_gateway_killed(ready, middle, kind):
    """And started again: the sandbox is there, and its supervisor comes back by itself."""
    call = Call(ready, middle, kind)
    ready.gateway.process.kill()
    call.is_told()
    middle.is_gone(kind)
    ready.gateway.kill()
    ready.gateway.start()
    ready.gateway.wait_phase(ready.name, "READY")
    assert ready.find_supervisor() == ready.supervisor


def test_gateway_ends(ready, middle):
    """In order: it waits for calls, but not for ever, and they do not look complete."""
    call = Call(ready, middle, "forward")
    ready.gateway.process.terminate()
    with fails(grpc.StatusCode.UNAVAILABLE):
        for _ in call.call:
            pass
    assert ready.gateway.process.wait(10) == 0
    middle.service_is_reset()
    call.requests.put(None)
