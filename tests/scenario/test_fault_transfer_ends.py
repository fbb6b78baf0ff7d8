"""Each order in which the two ends of a transfer can end; a file that is written while it is read.

The client is HTTP/2 by hand. Whatever the order: the target is whole, old or new, the status is
true, and no part file is left.
"""

import contextlib
import os
import threading

import grpc
import pytest
import raw_h2
import towline_api
from conftest import wait_until

API = towline_api.load()
UPLOAD = API["openshell.v1.UploadFileRequest"]
ANSWER = API["openshell.v1.UploadFileResponse"]
REQUEST = API["openshell.v1.DownloadFileRequest"]
RESPONSE = API["openshell.v1.DownloadFileResponse"]
SERVICE = "/openshell.v1.OpenShell/"
OLD = b"old" * 1000
NEW = os.urandom(700_000)
CODE = grpc.StatusCode


@pytest.fixture
def client(ready):
    with raw_h2.connect(ready.gateway.target) as client:
        yield client


class Upload:
    def __init__(self, ready, client):
        self.ready, self.client = ready, client
        self.target = ready.workdir / "f"
        self.target.write_bytes(OLD)

    def begin(self, path="f", **fields):
        metadata = {"sandbox": self.ready.name, "remote_path": path, "size_bytes": len(NEW)} | fields
        self.stream = self.client.call(SERVICE + "UploadFile", raw_h2.frame(UPLOAD(metadata=metadata)))

    def send(self, data=NEW):
        for at in range(0, len(data), 60_000):
            self.stream.send(raw_h2.frame(UPLOAD(chunk=data[at : at + 60_000])))

    def is_told(self, code):
        got, details = self.stream.wait_status()
        assert got == code, details
        assert bool(self.stream.messages) == (code == CODE.OK)

    def leaves(self, *contents):
        """One of them, and nothing beside it, when what was on its way has come."""
        self.client.idle(0.5)
        wait_until(lambda: os.listdir(self.ready.workdir) == ["f"], 10, "the part file is gone")
        assert self.target.read_bytes() in contents


@pytest.fixture
def upload(ready, client):
    return Upload(ready, client)


def test_1_client_ends_and_is_answered(upload):
    upload.begin()
    upload.send()
    upload.stream.end()
    upload.is_told(CODE.OK)
    upload.leaves(NEW)


def test_2_client_ends_too_early(upload):
    upload.begin()
    upload.send(NEW[:-1])
    upload.stream.end()
    upload.is_told(CODE.DATA_LOSS)
    upload.leaves(OLD)


def test_3_client_ends_behind_the_metadata(upload):
    upload.begin()
    upload.stream.end()
    upload.is_told(CODE.DATA_LOSS)
    upload.leaves(OLD)


def test_4_client_ends_before_the_metadata(upload):
    upload.stream = upload.client.call(SERVICE + "UploadFile", b"", end=True)
    code, _ = upload.stream.wait_status()
    assert code != CODE.OK
    upload.leaves(OLD)


def test_5_client_resets_in_the_middle(upload):
    upload.begin()
    upload.send(NEW[:300_000])
    upload.stream.reset()
    upload.leaves(OLD)


def test_6_client_resets_behind_all_of_it(upload):
    upload.begin()
    upload.send()
    upload.stream.reset()
    upload.leaves(OLD)


def test_7_client_resets_behind_its_end(upload):
    upload.begin()
    upload.send()
    upload.stream.end()
    upload.stream.reset()
    upload.leaves(OLD, NEW)


def test_8_service_ends_first_and_the_client_sends_on(upload):
    (upload.ready.workdir / "f").unlink()
    (upload.ready.workdir / "f").mkdir()
    upload.begin()
    code, _ = upload.stream.wait_status()
    assert code == CODE.FAILED_PRECONDITION
    with contextlib.suppress(Exception):  # a stream that was reset takes no more
        upload.send()
        upload.stream.end()
    assert os.listdir(upload.ready.workdir) == ["f"]


def test_9_more_than_was_promised(upload):
    upload.begin(size_bytes=1000)
    with contextlib.suppress(Exception):
        upload.send()
        upload.stream.end()
    code, _ = upload.stream.wait_status()
    assert code == CODE.DATA_LOSS
    upload.leaves(OLD)


class Download:
    def __init__(self, ready, client, end=True):
        (ready.workdir / "f").write_bytes(NEW)
        request = REQUEST(sandbox=ready.name, remote_path="f")
        self.stream = client.call(SERVICE + "DownloadFile", raw_h2.frame(request), end=end)

    def content(self):
        responses = [RESPONSE.FromString(message) for message in self.stream.messages]
        assert responses[0].WhichOneof("payload") == "header"
        assert responses[-1].WhichOneof("payload") == "trailer"
        return b"".join(response.chunk for response in responses[1:-1])


def test_10_client_ends_first(ready, client):
    download = Download(ready, client)
    assert download.stream.wait_status()[0] == CODE.OK
    assert download.content() == NEW


def test_11_client_ends_late(ready, client):
    """A request is one when its end has come."""
    download = Download(ready, client, end=False)
    client.idle(0.3)
    assert not download.stream.messages
    download.stream.end()
    assert download.stream.wait_status()[0] == CODE.OK
    assert download.content() == NEW


def test_12_client_resets_while_it_reads(ready, client):
    download = Download(ready, client)
    client.wait(lambda: len(download.stream.received) > 10_000)
    download.stream.reset()
    again = Download(ready, client)
    assert again.stream.wait_status()[0] == CODE.OK
    assert again.content() == NEW


def test_a_file_that_is_written_while_it_is_read(ready):
    """What comes as a whole is what the file was at some time; else the status says so."""
    path = ready.workdir / "f"
    size = 8 << 20
    path.write_bytes(b"\0" * size)
    over = threading.Event()

    def write():
        turn = 0
        while not over.is_set():
            turn = turn % 250 + 1
            new = ready.workdir / "g"
            new.write_bytes(bytes([turn]) * size)
            new.rename(path)
            with open(path, "r+b") as file:
                file.truncate(size // 2)

    writer = threading.Thread(target=write)
    writer.start()
    call = API.method(ready.gateway.channel(), "openshell.v1.OpenShell/DownloadFile")
    outcomes = set()
    try:
        for _ in range(30):
            try:
                responses = list(call(REQUEST(sandbox=ready.name, remote_path="f"), timeout=60))
                content = b"".join(response.chunk for response in responses[1:-1])
                assert len(content) == responses[0].header.size_bytes == responses[-1].trailer.bytes
                assert content == content[:1] * len(content), "a mix of two files"
                outcomes.add(CODE.OK)
            except grpc.RpcError as error:
                assert error.code() in (CODE.ABORTED, CODE.FAILED_PRECONDITION), error
                outcomes.add(error.code())
    finally:
        over.set()
        writer.join()
    assert outcomes
