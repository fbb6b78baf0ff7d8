"""A gateway that lies about the pieces of a file, or has other reasons: what towline cp says and does."""

import concurrent.futures
import functools
import threading

import grpc
import pytest
import towline_api
from test_download import digest
from towline_cli import Cli

API = towline_api.load()
MIB = 1 << 20
SIZE = 128 * MIB  # two pieces
REQUEST = API["openshell.v1.UploadFileRequest"]
RESPONSE = API["openshell.v1.UploadFileResponse"]
FILES = "towline.v1."


@functools.cache
def digest_of_zeros(size):
    return digest(bytes(size))


def answer(size, value=None, **fields):
    value = digest_of_zeros(size) if value is None else value
    return RESPONSE(**{"bytes_written": size, "digest": {"algorithm": 1, "value": value}, **fields})


class Liar:
    """Takes uploads of zeros: piece() and end() say what becomes of them, from metadata and bytes."""

    def __init__(self, piece, end):
        self.piece, self.end = piece, end
        self.lock = threading.Lock()
        self.pieces, self.ends = [], []
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
        self.server.add_generic_rpc_handlers((self,))
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def service(self, details):
        answers = {"StatFile": self.stat, "QueryUpload": self.query}
        verb = details.method.rpartition("/")[2]
        pack = lambda message: message.SerializeToString()
        if verb == "UploadFile":
            return grpc.stream_unary_rpc_method_handler(
                self.upload, request_deserializer=REQUEST.FromString, response_serializer=pack
            )
        if verb in answers:
            return grpc.unary_unary_rpc_method_handler(answers[verb], response_serializer=pack)
        return None

    def stat(self, request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing is there")

    def query(self, request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "no such upload")

    def upload(self, requests, context):
        metadata = next(requests).metadata
        received = sum(len(request.chunk) for request in requests)
        with self.lock:
            (self.pieces if metadata.piece_bytes else self.ends).append((metadata, received))
        return (self.piece if metadata.piece_bytes else self.end)(metadata, received, context)


def good_piece(metadata, received, context):
    assert received == metadata.piece_bytes
    return answer(received)


def good_end(metadata, received, context):
    assert metadata.offset + received == SIZE
    return RESPONSE(bytes_written=SIZE) if metadata.writer else answer(SIZE)


@pytest.fixture
def lied_to(tmp_path):
    liars = []

    def make(piece=good_piece, end=good_end):
        liar = Liar(piece, end)
        liars.append(liar)
        cli = Cli(tmp_path, OPENSHELL_GATEWAY_ENDPOINT=f"http://127.0.0.1:{liar.port}")
        cli.liar = liar
        with open(cli.here / "f", "wb") as file:
            file.truncate(SIZE)
        return cli

    yield make
    for liar in liars:
        liar.server.stop(0).wait()


def sent(cli, code=0):
    return cli("cp", "-T", "-P", "2", "f", "box:f", code=code)


def test_the_truth(lied_to):
    cli = lied_to()
    sent(cli)
    assert sorted((m.offset, m.piece_bytes) for m, _ in cli.liar.pieces) == [(0, SIZE // 2), (SIZE // 2, SIZE // 2)]
    (last, received), = cli.liar.ends
    assert (last.offset, received) == (SIZE, 0)
    writers = {m.writer for m, _ in [*cli.liar.pieces, (last, 0)]}
    assert len(writers) == 1 and 0 not in writers
    assert len({m.upload_id for m, _ in [*cli.liar.pieces, (last, 0)]}) == 1


LIES = {
    "another digest": lambda m, n, c: answer(n, bytes(16)),
    "no digest": lambda m, n, c: RESPONSE(bytes_written=n),
    "a short digest": lambda m, n, c: answer(n, b"short"),
    "another size": lambda m, n, c: answer(n, bytes_written=n - 1),
}


@pytest.mark.parametrize("name", LIES)
def test_lies_about_a_piece(lied_to, name):
    cli = lied_to(LIES[name])
    assert "not what was sent" in sent(cli, 1).err
    assert not cli.liar.ends


def test_a_piece_that_fails(lied_to):
    cli = lied_to(lambda m, n, c: c.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the disk is full"))
    assert "the disk is full" in sent(cli, 1).err
    assert not cli.liar.ends


def test_another_writer(lied_to):
    """Then the digest of the whole is asked for, and compared."""

    def end(metadata, received, context):
        if metadata.writer:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "another writer has sent some of it")
        return good_end(metadata, received, context)

    cli = lied_to(end=end)
    sent(cli)
    assert [m.writer == 0 for m, _ in cli.liar.ends] == [False, True]


def test_refused_for_ever(lied_to):
    cli = lied_to(end=lambda m, n, c: c.abort(grpc.StatusCode.FAILED_PRECONDITION, "another writer"))
    assert "another writer" in sent(cli, 1).err
    assert len(cli.liar.ends) == 2
    cli = lied_to(end=lambda m, n, c: c.abort(grpc.StatusCode.OUT_OF_RANGE, "nothing is durable"))
    assert "nothing is durable" in sent(cli, 1).err
    assert len(cli.liar.ends) == 2


def test_less_is_durable(lied_to):
    """What has been lost meanwhile goes up in one stream."""

    def end(metadata, received, context):
        if metadata.offset:
            context.abort(grpc.StatusCode.OUT_OF_RANGE, "0 bytes are durable")
        return answer(received)

    cli = lied_to(end=end)
    sent(cli)
    assert [(m.offset, n) for m, n in cli.liar.ends] == [(SIZE, 0), (0, SIZE)]


@pytest.mark.parametrize("fields", [{"bytes_written": SIZE - 1}, {"digest": {"algorithm": 1, "value": bytes(16)}}])
def test_lies_about_the_end(lied_to, fields):
    cli = lied_to(end=lambda m, n, c: RESPONSE(**{"bytes_written": SIZE, **fields}))
    assert "not what was sent" in sent(cli, 1).err
