"""A large file that goes from one sandbox to another in several streams at a time, broken off and gone on with."""

import json
import os
import random
import signal
import threading
import time

import grpc
import pytest
from conftest import Ready, wait_until
from test_cli_across import Between, supervisor_of, two  # noqa: F401
from test_cli_across_resume import names, supervisor_has_let_go
from test_cli_download_resume import MIB, make_big, same
from test_cli_hostile_gateway import API, RESPONSE
from test_cli_upload_pieces import bytes_of
from test_cli_upload_pieces import durable as durable_in
from test_download import digest
from test_upload_resume import restart
from towline_cli import box, clients_of  # noqa: F401
from wires import Wire

BIG = 384 * MIB
PUT = "openshell.v1.OpenShell/UploadFile"


@pytest.fixture(scope="module")
def content():
    return random.Random(8).randbytes(MIB)


@pytest.fixture
def large(two, content):
    make_big(two.workdir / "f", content, BIG)
    (two.other / "f").write_text("old")
    return two.workdir / "f"


class At:
    """The folder in which durable_in() looks."""

    def __init__(self, folder):
        self.workdir = folder


def durable(two):
    return durable_in(At(two.other))


def gateway_port(two):
    return int(two.gateway.target.rpartition(":")[2])


@pytest.fixture
def wire(two):
    """On it a copy takes as long as a test needs to do something about it."""
    with Wire(gateway_port(two)) as wire:
        wire.rate(24 * MIB)
        yield wire


def started(two, wire, least=32 * MIB, transfers="4"):
    to = ("--gateway-endpoint", wire.endpoint)
    process = two.popen("-o", "json", *to, "cp", "-P", transfers, "box:f", "other:")
    wait_until(lambda: bytes_of(durable(two)) > least or process.poll() is not None, 60, "some of it has come")
    assert process.poll() is None
    return process


def again(two, transfers="4"):
    assert (two.other / "f").read_text() == "old"
    done = two("-o", "json", "cp", "-P", transfers, "box:f", "other:").json["copies"][0]
    assert done["bytes"] == (two.workdir / "f").stat().st_size
    assert same(two.workdir / "f", two.other / "f")
    assert names(two) == ["f"]
    return done


@pytest.mark.parametrize("transfers", ["1", "2", "4", "16"])
def test_there_whole(two, content, transfers):
    source = two.workdir / "f"
    make_big(source, content, 200 * MIB)
    os.truncate(source, 200 * MIB - 12345)
    source.chmod(0o640)
    done = two("-o", "json", "cp", "-P", transfers, "box:f", "other:").json["copies"][0]
    assert done["bytes"] == done["moved"] == 200 * MIB - 12345
    assert done.get("xxh3_128") == (digest(source.read_bytes()).hex() if transfers == "1" else None)
    copy = two.other / "f"
    assert same(source, copy) and names(two) == ["f"]
    assert (copy.stat().st_mode, copy.stat().st_mtime_ns) == (source.stat().st_mode, source.stat().st_mtime_ns)


ONE, THREE = (("-P", "1"), ("-P", "4", "--no-resume"), ()), ("-P", "3")


@pytest.mark.parametrize("words,streams", [*((words, 1) for words in ONE), (THREE, 3)])
def test_each_stream_has_its_connection(two, large, words, streams):
    """By which a share of it comes, and goes."""
    with Wire(gateway_port(two)) as wire:
        two("--gateway-endpoint", wire.endpoint, "cp", *words, "box:f", "other:")
        shares = wire.each()
    assert len(shares) == streams
    assert all(min(share) > 60 * MIB for share in shares), shares
    assert same(large, two.other / "f") and names(two) == ["f"]


def test_several_are_faster(two, content):
    """On a way where a connection gets only so much."""
    make_big(two.workdir / "f", content, 192 * MIB)
    spent = {}
    with Wire(gateway_port(two)) as wire:
        wire.rate(32 * MIB)
        for transfers in ("1", "4"):
            began = time.monotonic()
            two("--gateway-endpoint", wire.endpoint, "cp", "-P", transfers, "box:f", "other:")
            spent[transfers] = time.monotonic() - began
    assert spent["4"] < 0.6 * spent["1"], spent


def test_several_files(two, wire, content):
    """So many at a time, each in one stream."""
    sources = [f"f{i}" for i in range(6)]
    for name in sources:
        make_big(two.workdir / name, content, 9 * MIB)
    wire.rate(12 * MIB)
    ends = [*(f"box:{name}" for name in sources), "other:"]
    process = two.popen("--gateway-endpoint", wire.endpoint, "cp", "-P", "3", *ends)
    most = 0
    while process.poll() is None:
        parts = {name.partition(".towline-")[0] for name in names(two) if ".towline-" in name}
        most = max(most, len(parts))
        time.sleep(0.01)
    process.communicate()
    assert process.returncode == 0 and most == 3
    assert names(two) == sources and all(same(two.workdir / name, two.other / name) for name in sources)


@pytest.mark.parametrize("size", [0, 1, 9 * MIB, 127 * MIB])
def test_a_small_file(two, content, size):
    make_big(two.workdir / "f", content, size // MIB * MIB)
    with open(two.workdir / "f", "ab") as file:
        file.write(bytes(size % MIB))
    with Wire(gateway_port(two)) as wire:
        two("--gateway-endpoint", wire.endpoint, "cp", "-P", "4", "box:f", "other:")
        assert len(wire.each()) == 1
    assert same(two.workdir / "f", two.other / "f")


def test_if_exists(two, large):
    assert "f is there already" in two("cp", "-P", "4", "--if-exists=fail", "box:f", "other:", code=1).err
    assert (two.other / "f").read_text() == "old"
    skip = ("-o", "json", "cp", "-P", "4", "--if-exists=skip", "box:f", "other:")
    assert [two(*skip).json["copies"][0]["moved"] for _ in range(2)] == [BIG, 0]
    assert same(large, two.other / "f")


# Broken off.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("transfers", ["1", "4"])
def test_the_same_command_again(two, wire, large, number, transfers):
    """In as many streams or in one: then what is durable is that from the beginning on."""
    process = started(two, wire, least=96 * MIB)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    ranges = durable(two)
    done = again(two, transfers)
    kept = bytes_of(ranges) if transfers == "4" else ranges[0][1] if ranges[0][0] == 0 else 0
    assert done["moved"] <= BIG - kept
    assert done["xxh3_128"] == digest(large.read_bytes()).hex()


def test_a_client_that_is_killed_again_and_again(two, wire, large):
    """At random places; each stream sends at most 8 MiB again."""
    chance = random.Random(4)
    sent = 0
    for turn in range(4):
        transfers = chance.choice([2, 3, 4])
        process = started(two, wire, transfers=str(transfers), least=chance.randrange(BIG * (turn + 1) // 6))
        process.kill()
        process.communicate()
        sent += wire.count()[0]
        wait_until(lambda: supervisor_has_let_go(two), 20, "it has let go")
        assert bytes_of(durable(two)) >= sent - (turn + 1) * 4 * 12 * MIB
        assert (two.other / "f").read_text() == "old"
    kept = bytes_of(durable(two))
    assert again(two)["moved"] <= BIG - kept


@pytest.mark.parametrize("victim", ["gateway", "source", "target"])
def test_it_goes_on_by_itself(ready, two, wire, large, victim):
    process = started(two, wire, least=64 * MIB)
    wire.rate(0)
    if victim == "gateway":
        two.gateway.kill()
        two.gateway.start()
    else:
        other = Ready(two.gateway, two.gateway.get("other"))
        os.kill(supervisor_of(two, two.other_id if victim == "target" else two.box_id), signal.SIGKILL)
        restart(other if victim == "target" else ready)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    assert same(large, two.other / "f") and names(two) == ["f"]


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("number", [0, 2])
def test_one_connection_breaks(two, wire, large, number, times):
    """Its stream goes on with its piece on another one, and the others do not notice."""
    process = started(two, wire, least=48 * MIB)
    assert len(wire.each()) == 4
    for _ in range(times):
        wire.snip(number)
        time.sleep(0.5)
    wire.rate(0)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err.decode()
    assert len(wire.each()) == times
    done = json.loads(out)["copies"][0]
    assert done["moved"] <= BIG + times * 8 * MIB
    assert done["xxh3_128"] == digest(large.read_bytes()).hex()
    assert same(large, two.other / "f") and names(two) == ["f"]


def test_the_gateway_does_not_come_back(two, wire, large):
    """It is waited for once, by all of them together."""
    process = started(two, wire)
    two.gateway.kill()
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and b"UNAVAILABLE" in err, err
    assert 10 < time.monotonic() - began < 22
    assert (two.other / "f").read_text() == "old"


def test_two_commands_at_once(two, wire, large):
    process = started(two, wire)
    process.send_signal(signal.SIGSTOP)
    try:
        second = two("cp", "-P", "4", "box:f", "other:", code=1)
        assert "other: " in second.err and "another upload to it is running" in second.err
    finally:
        process.send_signal(signal.SIGCONT)
    wire.rate(0)
    process.communicate(timeout=60)
    assert process.returncode == 0 and same(large, two.other / "f")


@pytest.mark.parametrize("again_in", ["1", "4"])
def test_what_was_durable_is_damaged(two, wire, large, again_in):
    """It is found out before it is put in place, and sent anew."""
    process = started(two, wire, least=96 * MIB)
    process.kill()
    process.communicate()
    wait_until(lambda: supervisor_has_let_go(two), 10, "it has let go")
    part = next(path for path in two.other.glob(".f.towline-*") if path.suffix != ".journal")
    with open(part, "r+b") as file:
        file.seek(durable(two)[0][0] + MIB)
        file.write(b"damaged")
    assert again(two, again_in)["moved"] > BIG


# Another file by now.


@pytest.mark.parametrize("how", ["renamed", "written"])
def test_it_changes_meanwhile(two, wire, large, content, how):
    """Pieces of two versions are not put together: it is sent once more."""
    make_big(two.workdir / "g", content[::-1], BIG)
    process = started(two, wire)
    if how == "renamed":
        (two.workdir / "g").rename(large)
    else:
        with open(large, "r+b") as file:
            for at in range(0, BIG, 16 * MIB):
                file.seek(at)
                file.write(b"something else")
    wire.rate(0)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err.decode()
    assert same(large, two.other / "f")
    assert json.loads(out)["copies"][0]["moved"] > BIG


def test_it_shrinks_meanwhile(two, wire, large):
    process = started(two, wire)
    os.truncate(large, 100 * MIB)
    wire.rate(0)
    _, err = process.communicate(timeout=60)
    # It is told, or the shorter one is copied.
    if process.returncode == 0:
        assert same(large, two.other / "f")
    else:
        assert b"box: " in err and (b"shrank" in err or b"another file" in err), err
        assert (two.other / "f").read_text() == "old"


# A gateway that does with pieces what it likes.

SIZE = 160 * MIB
ZEROS = bytes(MIB)


class Pieces(Between):
    """Of a file of zeros. ${pieces} has what pieces came, ${placed} what was put in place."""

    def __init__(self, knows=True, durable=(), lie=None, refusals=()):
        self.knows, self.durable, self.lie = knows, list(durable), lie
        self.refusals = list(refusals)
        self.asked, self.pieces, self.placed, self.forgotten = [], [], [], 0
        self.lock = threading.Lock()
        super().__init__(self.file)

    def service(self, details):
        verb = details.method.rpartition("/")[2]
        answers = {"QueryUpload": self.query, "AbortUpload": self.abort}
        if verb not in answers:
            return super().service(details)
        return grpc.unary_unary_rpc_method_handler(
            answers[verb], response_serializer=lambda message: message.SerializeToString()
        )

    def query(self, request, context):
        with self.lock:
            prefix = self.durable[0][1] if self.durable and self.durable[0][0] == 0 else 0
            ranges = [{"offset": begin, "bytes": end - begin} for begin, end in self.durable] if self.knows else []
        answer = API["towline.v1.QueryUploadResponse"]
        return answer(durable_bytes=prefix, size_bytes=SIZE, durable_ranges=ranges)

    def abort(self, request, context):
        self.forgotten += 1
        self.durable = []
        return API["towline.v1.AbortUploadResponse"]()

    def file(self, request, context):
        with self.lock:
            self.asked.append(request)
        if request.if_match not in ("", "e"):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "if_match differs")
        rest = min(request.length or SIZE, SIZE - request.offset)
        etag = "another" if self.lie == "etag" and request.length > 1 else "e"
        told = rest + MIB if self.lie == "longer" and request.length > 1 else rest
        yield RESPONSE(header={"size_bytes": told, "etag": etag, "mode": 0o644})
        for at in range(0, rest, MIB):
            yield RESPONSE(chunk=ZEROS[: rest - at])
        value = digest(bytes(rest + request.prefix_bytes))
        if self.lie == "source" and request.length > 1:
            value = bytes(16)
        told = rest + request.prefix_bytes if request.prefix_bytes else 0
        value = {"algorithm": "DIGEST_ALGORITHM_XXH3_128", "value": value}
        yield RESPONSE(trailer={"bytes": rest, "digest": value, "digest_bytes": told})

    def upload(self, requests, context):
        m = next(requests).metadata
        data = b"".join(request.chunk for request in requests)
        if not context.is_active():
            return self.answered(m, 0, b"")
        return self.piece(m, data, context) if m.piece_bytes else self.place(m, data, context)

    def piece(self, m, data, context):
        if not self.knows:
            context.abort(grpc.StatusCode.OUT_OF_RANGE, "offset: past what is durable")
        with self.lock:
            refusal = self.refusals.pop(0) if self.refusals else None
            if refusal is None and len(data) == m.piece_bytes:
                self.pieces.append((m.offset, m.offset + len(data)))
                self.durable = sorted([*self.durable, self.pieces[-1]])
        if refusal is not None:
            context.abort(refusal, "not this one")
        return self.answered(m, len(data), bytes(16) if self.lie == "target" else digest(data))

    def place(self, m, data, context):
        if m.writer and self.lie == "writer":
            self.lie, self.durable = None, [(0, SIZE)]
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "another writer has sent some of it")
        if m.digest.value and self.lie == "damaged":
            self.lie = None
            context.abort(grpc.StatusCode.DATA_LOSS, "the digest is another")
        self.placed.append((m, len(data)))
        whole = None if m.writer else bytes(16) if self.lie == "whole" else digest(bytes(SIZE))
        return self.answered(m, m.offset + len(data), whole)

    def answered(self, m, count, value):
        told = {"algorithm": "DIGEST_ALGORITHM_XXH3_128", "value": value} if value else None
        return API["openshell.v1.UploadFileResponse"](bytes_written=count, digest=told)


@pytest.fixture
def pieces(tmp_path):
    with clients_of(Pieces, tmp_path) as make:
        yield make


def copied(cli, code=0):
    return cli("cp", "-P", "2", "-T", "a:f", "b:g", code=code)


def test_the_pieces_are_all_of_it(pieces):
    cli = pieces()
    copied(cli)
    assert sorted(cli.liar.pieces) == [(0, 80 * MIB), (80 * MIB, SIZE)]
    ((m, received),) = cli.liar.placed
    assert (m.offset, received, m.writer != 0, m.HasField("digest")) == (SIZE, 0, True, False)
    # The last of the calls sees that the file still is the same.
    asked = sorted((q.offset, q.length, q.if_match) for q in cli.liar.asked[1:3])
    assert asked == [(0, 80 * MIB, "e"), (80 * MIB, 80 * MIB, "e")]
    assert [(q.offset, q.length) for q in (cli.liar.asked[0], cli.liar.asked[3])] == [(0, 0), (0, 0)]


def test_what_is_there_is_promised(pieces):
    cli = pieces(durable=[(0, 10 * MIB), (80 * MIB, 90 * MIB)])
    copied(cli)
    assert bytes_of(cli.liar.pieces) == SIZE - 20 * MIB
    ((m, received),) = cli.liar.placed
    assert (m.offset, received, m.writer, m.adds_digest) == (SIZE, 0, 0, True)
    assert m.digest.value == digest(bytes(SIZE))


def test_a_supervisor_that_knows_no_pieces(pieces):
    """It refuses, and gets the file in one stream."""
    cli = pieces(knows=False)
    copied(cli)
    ((m, received),) = cli.liar.placed
    assert (m.offset, received, m.writer) == (0, SIZE, 0) and not cli.liar.pieces


def test_an_answer_that_shows_it(pieces):
    """It says what is durable, and of no ranges: it is not even tried."""
    cli = pieces(knows=False, durable=[(0, 10 * MIB)])
    copied(cli)
    ((m, received),) = cli.liar.placed
    assert (m.offset, received, m.writer) == (10 * MIB, SIZE - 10 * MIB, 0)
    assert [q.length for q in cli.liar.asked] == [0, 1, 0]


def test_another_writer(pieces):
    """Then the digest of the whole has to do."""
    cli = pieces(lie="writer")
    copied(cli)
    ((m, _),) = cli.liar.placed
    assert (m.offset, m.writer) == (SIZE, 0) and m.digest.value == digest(bytes(SIZE))


def test_the_whole_is_another(pieces):
    """What was there is forgotten, and all of it sent, once."""
    cli = pieces(lie="damaged", durable=[(0, 10 * MIB)])
    copied(cli)
    assert cli.liar.forgotten == 1
    assert bytes_of(cli.liar.pieces) == SIZE - 10 * MIB + SIZE
    assert len(cli.liar.placed) == 1


def test_a_way_that_breaks(pieces):
    cli = pieces(refusals=[grpc.StatusCode.UNAVAILABLE])
    copied(cli)
    assert bytes_of(cli.liar.pieces) == SIZE and len(cli.liar.placed) == 1


@pytest.mark.parametrize("lie", ["source", "target", "etag", "longer", "whole"])
def test_lies(pieces, lie):
    """Whatever is wrong with a piece, the target is not told to keep the file."""
    cli = pieces(lie=lie, durable=[(0, MIB)] if lie == "whole" else [])
    done = copied(cli, 1)
    wrong = {"etag": "another file now", "longer": "another file now", "source": "what came is not what was sent"}
    assert wrong.get(lie, "not what was sent") in done.err
    assert len(cli.liar.placed) == (1 if lie == "whole" else 0)


def test_a_disk_that_is_full(pieces):
    """It concerns all of them."""
    cli = pieces(refusals=[grpc.StatusCode.RESOURCE_EXHAUSTED] * 2)
    assert "b: " in copied(cli, 1).err and not cli.liar.placed
