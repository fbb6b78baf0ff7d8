"""A gateway that lies about the pieces of a file, or has other reasons: what towline cp says and does."""

import concurrent.futures
import functools
import threading
import time

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
        self.there = {}  # what is durable, and is told if it is asked
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
        with self.lock:
            there = sorted(self.there.items())
        if not there:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such upload")
        ranges = [{"offset": offset, "bytes": size} for offset, size in there]
        first = there[0][1] if there[0][0] == 0 else 0
        return API["towline.v1.QueryUploadResponse"](durable_bytes=first, size_bytes=SIZE, durable_ranges=ranges)

    def upload(self, requests, context):
        metadata = next(requests).metadata
        received = sum(len(request.chunk) for request in requests)
        with self.lock:
            (self.pieces if metadata.piece_bytes else self.ends).append((metadata, received))
        if not metadata.piece_bytes:
            return self.end(metadata, received, context)
        said = self.piece(metadata, received, context)
        self.keep(metadata)
        return said

    def keep(self, metadata):
        with self.lock:
            self.there[metadata.offset] = metadata.piece_bytes


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
    ways = [(True, False), *2 * [(False, True), (False, False)]]  # the latter with another id, too
    assert [(m.writer != 0, m.adds_digest) for m, _ in cli.liar.ends] == ways
    assert len({m.upload_id for m, _ in cli.liar.ends}) == 2
    cli = lied_to(end=lambda m, n, c: c.abort(grpc.StatusCode.OUT_OF_RANGE, "nothing is durable"))
    assert "nothing is durable" in sent(cli, 1).err
    assert len(cli.liar.ends) == 2


def test_less_is_durable(lied_to):
    """What has been lost meanwhile goes up in one stream."""

    def end(metadata, received, context):
        if metadata.offset:
            cli.liar.there.clear()
            context.abort(grpc.StatusCode.OUT_OF_RANGE, "0 bytes are durable")
        return answer(received)

    cli = lied_to(end=end)
    sent(cli)
    assert [(m.offset, n) for m, n in cli.liar.ends] == [(SIZE, 0), (0, SIZE)]


@pytest.mark.parametrize("fields", [{"bytes_written": SIZE - 1}, {"digest": {"algorithm": 1, "value": bytes(16)}}])
def test_lies_about_the_end(lied_to, fields):
    cli = lied_to(end=lambda m, n, c: RESPONSE(**{"bytes_written": SIZE, **fields}))
    assert "not what was sent" in sent(cli, 1).err


def breaks_once(before=lambda metadata: None):
    """The way of the second piece's first attempt."""
    tries = []

    def piece(metadata, received, context):
        if metadata.offset and not tries:
            tries.append(metadata)
            before(metadata)
            context.send_initial_metadata(())
            time.sleep(0.3)  # else it may come with the end, and nobody has taken the call
            context.abort(grpc.StatusCode.UNAVAILABLE, "the way broke")
        return good_piece(metadata, received, context)

    return piece


def test_a_piece_whose_way_breaks_is_sent_again(lied_to):
    """By itself: the other one is sent once. Both digests were compared."""
    cli = lied_to(breaks_once())
    sent(cli)
    assert sorted(m.offset for m, _ in cli.liar.pieces) == [0, SIZE // 2, SIZE // 2]
    assert [m.writer != 0 for m, _ in cli.liar.ends] == [True]


TRY_ANEW_SECONDS = 3  # docs/limits.md


def test_a_small_file_is_not_sent_again_for_long(lied_to):
    """What is resumed is tried for five times as long: each attempt may store some of it."""

    def breaks(metadata, received, context):
        context.send_initial_metadata(())
        time.sleep(0.1)  # likewise
        context.abort(grpc.StatusCode.UNAVAILABLE, "the way broke")

    cli = lied_to(end=breaks)
    with open(cli.here / "f", "wb") as file:
        file.write(b"small")
    began = time.monotonic()
    assert "the way broke" in sent(cli, 1).err
    assert TRY_ANEW_SECONDS / 2 < time.monotonic() - began < 4 * TRY_ANEW_SECONDS
    assert len(cli.liar.ends) > 2
    assert all((m.upload_id, received) == ("", 5) for m, received in cli.liar.ends)


def test_the_answer_to_a_piece_is_lost(lied_to):
    """All of it is durable: it is not sent again, and the whole is verified, since it was not."""
    cli = lied_to(breaks_once(lambda metadata: cli.liar.keep(metadata)))
    sent(cli)
    assert sorted(m.offset for m, _ in cli.liar.pieces) == [0, SIZE // 2]
    assert [(m.writer, m.adds_digest) for m, _ in cli.liar.ends] == [(0, True)]
    assert cli.liar.ends[0][0].digest.value == digest_of_zeros(SIZE)


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "DATA_LOSS", "PERMISSION_DENIED", "ABORTED"])
def test_what_concerns_the_whole_stops_all(lied_to, code):
    """At once: the piece beside it is not waited for."""
    begun, stopped = threading.Event(), threading.Event()

    def piece(metadata, received, context):
        context.abort(getattr(grpc.StatusCode, code), "that is for all")

    cli = lied_to(piece)
    first = cli.liar.upload

    def upload(requests, context):
        metadata = next(requests).metadata
        if metadata.offset or not metadata.piece_bytes:
            begun.wait(10)
            context.abort(getattr(grpc.StatusCode, code), "that is for all")
        context.add_callback(stopped.set)
        begun.set()
        for _ in requests:
            time.sleep(0.2)
        return first(iter([REQUEST(metadata=metadata)]), context)

    cli.liar.upload = upload
    process = cli.popen("cp", "-T", "-P", "2", "f", "box:f")
    assert stopped.wait(10)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and b"that is for all" in err, err


class Older(Liar):
    """A supervisor that knows no pieces: each is an upload that goes on to the end of the file."""

    def __init__(self, lasting=0.0, durable=0):
        self.durable, self.running, self.lasting = durable, False, lasting
        self.refused = []
        self.begun = {}  # the digests that uploads were begun with
        self.other = b""  # the first one's
        super().__init__(None, None)

    def query(self, request, context):
        if not self.durable:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such upload")
        return API["towline.v1.QueryUploadResponse"](durable_bytes=self.durable, size_bytes=SIZE)

    def refuse(self, context, code, words):
        self.refused.append(code)
        context.abort(code, words)

    def upload(self, requests, context):
        m = next(requests).metadata
        m.ClearField("piece_bytes")
        m.ClearField("writer")
        m.ClearField("adds_digest")
        with self.lock:
            busy, self.running = self.running, True
        if busy:
            self.refuse(context, grpc.StatusCode.ABORTED, "another upload to it is running")
        try:
            return self.upload_alone(m, requests, context)
        finally:
            time.sleep(self.lasting)
            self.running = False

    def upload_alone(self, m, requests, context):
        with self.lock:
            first = b"" if self.durable else m.digest.value
            begun = self.begun.setdefault(m.upload_id, first if self.begun else self.other or first)
        if begun != m.digest.value:
            self.refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "it was begun with another digest")
        if m.offset > self.durable:
            self.refuse(context, grpc.StatusCode.OUT_OF_RANGE, "so much is not durable")
        at = m.offset
        try:
            for request in requests:
                at += len(request.chunk)
        finally:
            self.durable = at
        if at < m.size_bytes:
            self.refuse(context, grpc.StatusCode.DATA_LOSS, f"{at} of the {m.size_bytes} promised bytes came")
        self.ends.append((m, at - m.offset))
        return answer(at)


@pytest.mark.parametrize("lasting", [0, 0.5])
def test_a_supervisor_that_knows_no_pieces(tmp_path, lasting):
    """It goes up in one stream."""
    older = Older(lasting)
    try:
        cli = Cli(tmp_path, OPENSHELL_GATEWAY_ENDPOINT=f"http://127.0.0.1:{older.port}")
        with open(cli.here / "f", "wb") as file:
            file.truncate(SIZE)
        cli("cp", "-T", "-P", "4", "f", "box:f")
        assert [m.offset + n for m, n in older.ends] == [SIZE]
        assert older.refused
    finally:
        older.server.stop(0).wait()


@pytest.mark.parametrize("transfers", ["1", "4"])
def test_it_was_begun_with_other_content(tmp_path, transfers):
    """Of the same size and time, and so with the same id: then it gets another one."""
    older = Older(durable=1)
    older.other = b"x"
    try:
        cli = Cli(tmp_path, OPENSHELL_GATEWAY_ENDPOINT=f"http://127.0.0.1:{older.port}")
        with open(cli.here / "f", "wb") as file:
            file.truncate(SIZE)
        cli("cp", "-T", "-P", transfers, "f", "box:f")
        assert len(older.begun) == 2 and b"x" in older.begun.values()
        assert [m.offset + n for m, n in older.ends] == [SIZE]
    finally:
        older.server.stop(0).wait()


def test_half_of_it_is_with_one_that_knows_no_pieces(tmp_path):
    """What QueryUpload says shows it: nothing is tried that it would refuse."""
    older = Older(durable=1)
    try:
        cli = Cli(tmp_path, OPENSHELL_GATEWAY_ENDPOINT=f"http://127.0.0.1:{older.port}")
        with open(cli.here / "f", "wb") as file:
            file.truncate(SIZE)
        cli("cp", "-T", "-P", "4", "f", "box:f")
        assert older.refused == [grpc.StatusCode.FAILED_PRECONDITION]  # of a digest, too
        assert [(m.offset, n) for m, n in older.ends] == [(1, SIZE - 1)]
    finally:
        older.server.stop(0).wait()
