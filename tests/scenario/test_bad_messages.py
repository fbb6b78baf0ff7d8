"""Messages and bytes that no library sends, on each of the calls that a sandbox answers.

They get a status; the connection and its other calls live on where HTTP/2 allows it.
"""

import itertools
import os
import random
import socket

import grpc
import pytest
import raw_h2
import towline_api
from conftest import wait_until
from openshell._proto import openshell_pb2 as pb
from raw_h2 import frame

API = towline_api.load()
SERVICE = "/openshell.v1.OpenShell/"
INVALID, EXHAUSTED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED


def forward_first(name, port=1):
    target = pb.TcpRelayTarget(host="127.0.0.1", port=port)
    return pb.TcpForwardFrame(init=pb.TcpForwardInit(sandbox=name, tcp=target))


def exec_first(name, *command):
    start = pb.ExecSandboxRequest(sandbox=name, command=command or ["cat"])
    return pb.ExecSandboxInput(start=start)


def upload_first(name, path="f"):
    metadata = {"sandbox": name, "remote_path": path, "size_unknown": True}
    return API["openshell.v1.UploadFileRequest"](metadata=metadata)


STREAMS = ["ExecSandboxInteractive", "ForwardTcp", "UploadFile"]


@pytest.fixture
def client(ready):
    """A connection that must still serve when the test is over."""
    with raw_h2.connect(ready.gateway.target) as client:
        yield client
        assert health(client)


@pytest.fixture
def begun(ready, client):
    """begun("UploadFile"): a stream whose first message was fine, and has been taken."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Each to a place of its own: one that was broken off has its place a moment longer.
        numbers = itertools.count()

        def begin(method):
            first = {
                "ExecSandboxInteractive": lambda: exec_first(ready.name),
                "ForwardTcp": lambda: forward_first(ready.name, listener.getsockname()[1]),
                "UploadFile": lambda: upload_first(ready.name, f"f{next(numbers)}"),
            }[method]()
            stream = client.call(SERVICE + method, frame(first))
            client.wait(lambda: stream.trailers)  # headers, so far
            assert stream.status is None
            return stream

        yield begin
    wait_until(lambda: not list(ready.workdir.iterdir()), 5, "no part file is left")


def health(client):
    stream = client.call(SERVICE + "Health", frame(pb.HealthRequest()), end=True)
    code, _ = stream.wait_status()
    return code == grpc.StatusCode.OK and pb.HealthResponse.FromString(stream.messages[0]).version


def gets(stream, code, words=""):
    got, details = stream.wait_status()
    assert got == code, f"{got}: {details}"
    assert words in details


@pytest.mark.parametrize("method", ["GetSandbox", "ExecSandbox", "DownloadFile", *STREAMS])
def test_length_of_the_first(client, method):
    """The announcement is enough to be refused; nobody waits for 4 GiB, or has room for them."""
    for length in (0xFFFFFFFF, 0x7FFFFFFF, (4 << 20) + 1):
        stream = client.call(SERVICE + method, frame(b"", length) + b"\x0a")
        gets(stream, EXHAUSTED, str(length))


@pytest.mark.parametrize("method", STREAMS)
def test_length_of_a_later_one(begun, method):
    field = b"\x12"  # the bytes of ForwardTcp, exec and upload are all number 2
    length = (4 << 20) + 1
    for data in (
        frame(b"", 0xFFFFFFFF) + field,
        frame(b"", length) + field + b"\x80\x80\x80\x02",
        frame(b"", 0xFFFFFFFF) + b"\x0a",  # a message of another kind
        frame(b"\x0a\xf0\xa2\x04" + bytes(70_000)),  # less is taken of other kinds
    ):
        stream = begun(method)
        stream.send(data)
        gets(stream, EXHAUSTED)


GARBAGE = [
    b"\x12\x05abc",  # bytes that are more than their message
    b"\x12\x03abcdef",  # and less
    b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x0a\xff",
    b"\x0b" * 9000,  # groups within groups
    b"\x00\x00",
    b"\xff" * 100,
    b"\x0a\x02\x0a\x05",  # what is in it ends too early
]


@pytest.mark.parametrize("method", STREAMS)
def test_garbage(begun, method):
    for message in GARBAGE:
        stream = begun(method)
        stream.send(frame(message))
        gets(stream, INVALID)


@pytest.mark.parametrize("method", STREAMS)
def test_nesting(begun, method):
    """Of messages in a message of a kind that comes first, and here comes second."""
    message = b""
    for _ in range(9000):
        size, prefix = len(message), b"\x0a"
        while size > 0x7F:
            prefix += bytes([size & 0x7F | 0x80])
            size >>= 7
        message = prefix + bytes([size]) + message
    stream = begun(method)
    stream.send(frame(message))
    gets(stream, INVALID)


@pytest.mark.parametrize("method", STREAMS)
def test_prefix(begun, method):
    stream = begun(method)
    stream.send(b"\x01" + frame(b"\x12\x01a")[1:])
    gets(stream, grpc.StatusCode.UNIMPLEMENTED, "compress")
    stream = begun(method)
    stream.send(b"\x02" + frame(b"\x12\x01a")[1:])
    gets(stream, grpc.StatusCode.INTERNAL)


@pytest.mark.parametrize("method", STREAMS)
def test_end_within_a_message(begun, method):
    whole = frame(b"\x12\x05abcde")
    for part in range(1, len(whole)):
        stream = begun(method)
        stream.send(whole[:part])
        stream.end()
        gets(stream, INVALID, "middle of a message")


def test_one_byte_at_a_time(ready):
    """From the preface on, in segments of one byte; and then in frames of one byte, too."""

    class Trickle(raw_h2.Client):
        def flush(self):
            for byte in self.h2.data_to_send():
                self.socket.sendall(bytes([byte]))

    client = Trickle(ready.gateway.target)
    try:
        assert health(client)
        stream = client.open(SERVICE + "ExecSandboxInteractive")
        stream.send(frame(exec_first(ready.name)), piece=1)
        stream.send(frame(pb.ExecSandboxInput(stdin=b"drop by drop")), piece=1)
        stream.end()
        gets(stream, grpc.StatusCode.OK)
        events = [pb.ExecSandboxEvent.FromString(message) for message in stream.messages]
        assert b"".join(event.stdout.data for event in events) == b"drop by drop"

        content = os.urandom(200)
        request = API["openshell.v1.UploadFileRequest"]
        stream = client.open(SERVICE + "UploadFile")
        stream.send(frame(upload_first(ready.name)) + frame(request(chunk=content)), piece=1)
        stream.end()
        gets(stream, grpc.StatusCode.OK)
        assert (ready.workdir / "f").read_bytes() == content
    finally:
        client.socket.close()


def closes(gateway, data):
    """Sends bytes, and waits for the gateway to hang up."""
    host, _, port = gateway.target.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=15) as connection:
        try:
            connection.sendall(data)
            while connection.recv(65536):
                pass
        except ConnectionError:
            pass


def test_what_is_no_http2(gateway):
    """Those connections end; the gateway does not."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    closes(gateway, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    closes(gateway, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500))  # TLS
    closes(gateway, bytes(100))
    closes(gateway, preface + b"\xff" * 100)  # a frame of 16 MiB
    closes(gateway, preface + settings + bytes([0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
    noise = random.Random(3)
    for _ in range(20):
        closes(gateway, preface + settings + b"\xff\xff\xff" + noise.randbytes(2000))
    assert gateway.stub.Health(pb.HealthRequest(), timeout=5).version
