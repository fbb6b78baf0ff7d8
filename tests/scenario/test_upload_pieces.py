"""A file that is uploaded in several pieces at a time: what is durable, who may send, and the end."""

import os
import queue
import random
import signal

import grpc
import pytest
from conftest import fails, wait_until
from openshell._proto import openshell_pb2 as pb
from test_download import digest
from test_upload_resume import API, MIB, REQUEST, Uploads, content, restart

SIZE = 12 * MIB
PIECE = 3 * MIB


class Pieces(Uploads):
    def piece_fields(self, data, begin, end, **fields):
        fields = {"upload_id": "p", "writer": 1, "size_bytes": len(data), **fields}
        return {"offset": begin, "piece_bytes": end - begin, **fields}

    def piece(self, data, begin, end, path="f", **fields):
        """All of it."""

        def requests():
            yield self.metadata(path, None, **self.piece_fields(data, begin, end, **fields))
            for i in range(begin, end, MIB):
                yield REQUEST(chunk=data[i : min(i + MIB, end)])

        return self._upload(requests(), timeout=60)

    def finish(self, data, path="f", **fields):
        fields = {"upload_id": "p", "size_bytes": len(data), "offset": len(data), **fields}
        return self.upload(path, b"", **fields)

    def begin_piece(self, data, begin, end, sent, path="f", **fields):
        return BegunPiece(self, path, data, begin, sent, self.piece_fields(data, begin, end, **fields))

    def ranges(self, path="f"):
        try:
            state = self.query("p", path)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND
            return []
        found = [(r.offset, r.offset + r.bytes) for r in state.durable_ranges]
        assert state.durable_bytes == (found[0][1] if found and found[0][0] == 0 else 0)
        return found

    def goes_on(self, data, path="f"):
        """What is missing, and the end."""
        at = 0
        for begin, end in [*self.ranges(path), (len(data), len(data))]:
            if at < begin:
                self.piece(data, at, begin, path)
            at = end
        self.is_finished(data, self.finish(data, path), path)

    def is_finished(self, data, answer, path="f"):
        assert answer.bytes_written == len(data)
        assert (self.ready.workdir / path).read_bytes() == data
        assert self.names() == [path]


class BegunPiece:
    def __init__(self, pieces, path, data, begin, sent, fields):
        self.requests = queue.Queue()
        self.requests.put(pieces.metadata(path, None, **fields))
        for i in range(begin, sent, MIB):
            self.requests.put(REQUEST(chunk=data[i : min(i + MIB, sent)]))
        self.call = pieces._upload.future(iter(self.requests.get, None), timeout=60)

    def end(self):
        self.requests.put(None)
        return self.call.result()

    def cut(self):
        self.call.cancel()
        self.requests.put(None)


@pytest.fixture
def pieces(ready):
    return Pieces(ready)


@pytest.fixture
def data():
    return content(SIZE)


def test_in_any_order(pieces, data):
    order = list(range(0, SIZE, PIECE))
    random.Random(1).shuffle(order)
    (pieces.ready.workdir / "f").write_bytes(b"old")
    for begin in order:
        answer = pieces.piece(data, begin, begin + PIECE)
        assert answer.bytes_written == PIECE
        assert (pieces.ready.workdir / "f").read_bytes() == b"old"
    assert pieces.ranges() == [(0, SIZE)]
    pieces.is_finished(data, pieces.finish(data))
    again = pieces.finish(data)
    assert again.bytes_written == SIZE


def test_not_read_again(pieces, data):
    """Who has compared each piece's digest needs none of the whole; if it has sent all of them."""
    for begin in range(0, SIZE, PIECE):
        pieces.piece(data, begin, begin + PIECE, writer=7)
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "another writer"):
        pieces.finish(data, writer=8)
    answer = pieces.finish(data, writer=7)
    assert not answer.HasField("digest")
    pieces.is_finished(data, answer)
    again = pieces.finish(data, writer=7)
    assert again.bytes_written == SIZE and not again.HasField("digest")


def test_once_more(pieces, data):
    """What was finished under this id before is another matter."""
    other = content(SIZE, 2)
    for what in (data, other, data):
        for begin in range(0, SIZE, PIECE):
            pieces.piece(what, begin, begin + PIECE)
        pieces.is_finished(what, pieces.finish(what, writer=1))
    with fails(grpc.StatusCode.OUT_OF_RANGE):
        pieces.finish(data, upload_id="other")


def test_of_several_writers(pieces, data):
    pieces.piece(data, 0, PIECE, writer=7)
    pieces.piece(data, PIECE, SIZE, writer=8)
    for writer in (7, 8):
        with fails(grpc.StatusCode.FAILED_PRECONDITION, "another writer"):
            pieces.finish(data, writer=writer)
    answer = pieces.finish(data)
    assert answer.HasField("digest")
    pieces.is_finished(data, answer)


def test_of_pieces_and_a_stream(pieces, data):
    pieces.piece(data, 0, PIECE, writer=7)
    begun = pieces.begin("f", data[: 2 * PIECE], SIZE, upload_id="p", offset=PIECE)
    wait_until(lambda: pieces.ranges() == [(0, 2 * PIECE)], 10, "it is durable")
    begun.cut()
    wait_until(lambda: left(pieces, data), 10, "it has let go")
    pieces.piece(data, 2 * PIECE, SIZE, writer=7)
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "another writer"):
        pieces.finish(data, writer=7)
    pieces.is_finished(data, pieces.finish(data))


def test_a_writer_of_no_pieces(pieces, data):
    digest = {"algorithm": "DIGEST_ALGORITHM_XXH3_128", "value": bytes(16)}
    for fields in ({"offset": 0}, {"upload_id": ""}, {"digest": digest}):
        with fails(grpc.StatusCode.INVALID_ARGUMENT, "writer" if "upload_id" not in fields else ""):
            pieces.finish(data, writer=1, **fields)


def test_at_one_time(pieces, data):
    begun = [pieces.begin_piece(data, at, at + PIECE, at + PIECE) for at in range(0, SIZE, PIECE)]
    wait_until(lambda: pieces.ranges() == [(0, SIZE)], 10, "all of it is durable")
    with fails(grpc.StatusCode.ABORTED, "running"):
        pieces.finish(data)
    for piece in begun:
        assert piece.end().bytes_written == PIECE
    pieces.is_finished(data, pieces.finish(data))


def test_what_is_durable_of_each(pieces, data):
    begun = [pieces.begin_piece(data, at, at + PIECE, at + MIB) for at in range(0, SIZE, PIECE)]
    durable = [(at, at + MIB) for at in range(0, SIZE, PIECE)]
    wait_until(lambda: pieces.ranges() == durable, 10, "it is durable")
    for piece in begun:
        piece.cut()
    wait_until(lambda: left(pieces, data), 10, "they have let go")
    assert pieces.ranges() == durable
    pieces.goes_on(data)


def left(pieces, data):
    """Whether nobody has the target any more; the end of the file is not there yet."""
    try:
        pieces.finish(data)
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.ABORTED, grpc.StatusCode.OUT_OF_RANGE)
        return error.code() == grpc.StatusCode.OUT_OF_RANGE
    raise AssertionError("it is not complete")


def test_others_are_refused(pieces, data):
    begun = pieces.begin_piece(data, PIECE, 2 * PIECE, PIECE + MIB)
    wait_until(lambda: pieces.ranges() == [(PIECE, PIECE + MIB)], 10, "it is durable")
    for fields in ({"writer": 2}, {"upload_id": "q"}):
        with fails(grpc.StatusCode.ABORTED, "running"):
            pieces.piece(data, 0, PIECE, **fields)
    for fields in ({"upload_id": "p"}, {"upload_id": "q"}, {}):
        with fails(grpc.StatusCode.ABORTED, "running"):
            pieces.upload("f", data, **fields)
    with fails(grpc.StatusCode.ABORTED, "in use"):
        pieces.abort("p")
    for begin, end in ((PIECE, 2 * PIECE), (PIECE - 1, PIECE + 1), (2 * PIECE - 1, SIZE), (0, SIZE)):
        with fails(grpc.StatusCode.ABORTED, "that piece"):
            pieces.piece(data, begin, end)
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "size"):
        pieces.piece(data, 0, PIECE, size_bytes=SIZE + 1)
    begun.cut()
    wait_until(lambda: left(pieces, data), 10, "it has let go")
    pieces.piece(data, 0, PIECE, writer=2)
    pieces.goes_on(data)


def test_what_is_no_piece(pieces, data):
    for begin, end in ((0, SIZE + 1), (SIZE - 1, SIZE + 1), (SIZE, SIZE + 1), (1, 1 + (1 << 64) - 2)):
        with fails(grpc.StatusCode.OUT_OF_RANGE, "past"):
            pieces.begin_piece(data, begin, end, begin).end()
    for fields in (
        {"upload_id": ""},
        {"size_unknown": True},
        {"writer": 0},
        {"is_archive": True},
        {"if_exists": "IF_EXISTS_SKIP_IF_SAME", "digest": {"algorithm": 1, "value": bytes(16)}},
    ):
        with fails(grpc.StatusCode.INVALID_ARGUMENT):
            pieces.piece(data, 0, PIECE, **fields)
    (pieces.ready.workdir / "f").write_bytes(b"old")
    with fails(grpc.StatusCode.ALREADY_EXISTS):
        pieces.piece(data, 0, PIECE, if_exists="IF_EXISTS_FAIL")
    assert pieces.names() == ["f"]


def test_more_or_less_than_a_piece(pieces, data):
    """Of one that was too long nothing is believed; of one too short what came."""
    pieces.piece(data, 0, PIECE)
    with fails(grpc.StatusCode.DATA_LOSS, "more"):
        pieces.begin_piece(data, PIECE, 2 * PIECE, 2 * PIECE + 1).end()
    assert pieces.ranges() == [(0, PIECE)]
    with fails(grpc.StatusCode.DATA_LOSS, "this piece"):
        pieces.begin_piece(data, PIECE, 2 * PIECE, PIECE + MIB).end()
    assert pieces.ranges() == [(0, PIECE + MIB)]
    with fails(grpc.StatusCode.OUT_OF_RANGE):
        pieces.finish(data)
    pieces.goes_on(data)


def test_too_many_ranges(pieces, data):
    for i in range(20):
        pieces.piece(data, 2 * i * 1000, (2 * i + 1) * 1000)
    with fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "20 ranges"):
        pieces.piece(data, 100_000, 101_000)
    with fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "20 ranges"):
        pieces.piece(data, 100, 200)
    pieces.piece(data, 1000, 2000)
    pieces.piece(data, 100_000, 101_000)
    pieces.goes_on(data)


def test_sent_again(pieces, data):
    """What is sent again is not durable until it has come; and one stream may go on with it all."""
    other = content(SIZE, 2)
    for begin in range(0, SIZE, PIECE):
        pieces.piece(other, begin, begin + PIECE)
    begun = pieces.begin_piece(data, PIECE, 2 * PIECE, PIECE + MIB)
    wait_until(lambda: pieces.ranges() == [(0, PIECE + MIB), (2 * PIECE, SIZE)], 10, "it is durable")
    begun.cut()
    wait_until(lambda: left(pieces, data), 10, "it has let go")
    answer = pieces.upload("f", other[:PIECE] + data[PIECE:], upload_id="p", offset=PIECE)
    pieces.is_finished(other[:PIECE] + data[PIECE:], answer)


def test_aborted(pieces, data):
    pieces.piece(data, PIECE, 2 * PIECE)
    pieces.abort("p")
    assert pieces.names() == []
    assert pieces.ranges() == []


def test_wrong_digest(pieces, data):
    digest = {"algorithm": "DIGEST_ALGORITHM_XXH3_128", "value": bytes(16)}
    (pieces.ready.workdir / "f").write_bytes(b"old")
    for begin in range(0, SIZE, PIECE):
        pieces.piece(data, begin, begin + PIECE, digest=digest)
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "digest"):
        pieces.finish(data)
    with fails(grpc.StatusCode.DATA_LOSS, "digest"):
        pieces.finish(data, digest=digest)
    assert (pieces.ready.workdir / "f").read_bytes() == b"old"
    assert pieces.names() == ["f"]


@pytest.mark.parametrize("when", ["in a piece", "at the end"])
@pytest.mark.parametrize("right", [True, False])
def test_a_digest_is_added(pieces, data, when, right):
    """While another piece is on its way, too; and who does not know of it is refused."""
    promise = {"algorithm": "DIGEST_ALGORITHM_XXH3_128", "value": digest(data) if right else bytes(16)}
    (pieces.ready.workdir / "f").write_bytes(b"old")
    first = pieces.begin_piece(data, 0, PIECE, PIECE)
    wait_until(lambda: pieces.ranges() != [], 10, "some of it is durable")
    added = {"digest": promise, "adds_digest": True}
    for begin in range(PIECE, SIZE, PIECE):
        pieces.piece(data, begin, begin + PIECE, **(added if when == "in a piece" else {}))
    if when == "in a piece":
        with fails(grpc.StatusCode.FAILED_PRECONDITION, "digest"):
            pieces.piece(data, PIECE, 2 * PIECE)
    first.end()
    if right:
        pieces.is_finished(data, pieces.finish(data, **added))
        return
    with fails(grpc.StatusCode.DATA_LOSS, "digest"):
        pieces.finish(data, **added)
    assert (pieces.ready.workdir / "f").read_bytes() == b"old"
    assert pieces.names() == ["f"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("victim", ["supervisor", "gateway"])
def test_killed(ready, pieces, victim, seed):
    """At some moment; what is told to be durable is there, and the rest is sent again."""
    rng = random.Random(f"{victim}{seed}")
    data = content(4 * 10 * MIB, seed)
    spans = [(i * 10 * MIB, (i + 1) * 10 * MIB) for i in range(4)]
    (ready.workdir / "f").write_bytes(b"old")
    begun = [pieces.begin_piece(data, a, b, a + rng.randrange(b - a)) for a, b in spans]
    least = rng.randrange(SIZE)
    wait_until(lambda: sum(b - a for a, b in pieces.ranges()) >= least // 2, 20, "some of it is durable")
    before = pieces.ranges()
    if victim == "supervisor":
        os.kill(ready.supervisor, signal.SIGKILL)
    else:
        ready.gateway.process.kill()
    for piece in begun:
        with fails(grpc.StatusCode.UNAVAILABLE):
            piece.end()
    assert (ready.workdir / "f").read_bytes() == b"old"
    if victim == "supervisor":
        restart(ready)
    else:
        ready.gateway.kill()
        ready.gateway.start()
        ready.gateway.wait_phase(ready.name, "READY")
        pieces.connect()
        wait_until(lambda: left(pieces, data), 20, "the ones before have let go")
    for a, b in before:
        assert any(x <= a and b <= y for x, y in pieces.ranges())
    pieces.goes_on(data)


def test_stopped_and_started(ready, pieces, data):
    begun = pieces.begin_piece(data, PIECE, 2 * PIECE, PIECE + MIB)
    wait_until(lambda: pieces.ranges() == [(PIECE, PIECE + MIB)], 10, "it is durable")
    ready.gateway.stub.StopSandbox(pb.StopSandboxRequest(name=ready.name), timeout=20)
    ready.gateway.wait_phase(ready.name, "STOPPED")
    begun.cut()
    ready.gateway.stub.StartSandbox(pb.StartSandboxRequest(name=ready.name), timeout=20)
    ready.gateway.wait_phase(ready.name, "READY")
    assert pieces.ranges() == [(PIECE, PIECE + MIB)]
    pieces.goes_on(data)


def test_torn_journal(pieces, data):
    """One that tells more than is there, or nothing that can be read, begins anew."""
    pieces.piece(data, PIECE, 2 * PIECE)
    journal = next(pieces.ready.workdir.glob("*.journal"))
    part = next(path for path in pieces.ready.workdir.glob(".f*") if path != journal)
    with open(part, "r+b") as file:
        file.truncate(2 * PIECE - 1)
    assert pieces.ranges() == []
    pieces.piece(data, 0, PIECE)
    assert pieces.ranges() == [(0, PIECE)]
    journal.write_bytes(bytes(1024))
    assert pieces.ranges() == []
    pieces.goes_on(data)
