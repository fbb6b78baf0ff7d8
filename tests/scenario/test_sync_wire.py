"""SyncTree by its records: what an end does that is told what it should not be."""

import concurrent.futures
import contextlib
import ctypes
import os
import queue
import time

import grpc
import pytest
import towline_api
from conftest import fails, wait_until
from towline_cli import Cli

API = towline_api.load()
REQUEST, RESPONSE = API["towline.v1.SyncTreeRequest"], API["towline.v1.SyncTreeResponse"]
ENTRIES, LISTED, SIGNATURE, BLOCKS, RECEIPT = range(1, 6)
(DIRECTORY, LINK, FILE, LITERAL, COPY, END, LEAVE, TOUCH, SIGN, DELETE, WALKED, PRUNE, DONE, HOLE, HARDLINK,
 ATTRIBUTES) = range(16, 32)
FAILED, SPREAD, AFTER = 32, 33, 34
READY = 6
PROTOCOL = 1
UPLOAD, DOWNLOAD = 1, 2


class Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


XXHASH = ctypes.CDLL("libxxhash.so.0")
XXHASH.XXH3_128bits.restype = Hash128
XXHASH.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def digest(content):
    value = XXHASH.XXH3_128bits(content, len(content))
    return (value.high << 64 | value.low).to_bytes(16, "big")


def number(n):
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def text(value):
    return number(len(value)) + value


def record(kind, *parts):
    body = b"".join(parts)
    return bytes([kind]) + len(body).to_bytes(3, "little") + body


def small(path, content):
    return record(FILE, text(path), number(len(content)), number(0o644), number(0), number(1),
                  digest(content), text(content))


def directory(path, mode=0o755, time=0):
    return record(DIRECTORY, text(path), number(mode), number(2 * time), number(0))


def large(path, size, how=0, time=0):
    return record(FILE, text(path), number(size), number(0o644), number(2 * time), number(how))


def ranged(path, size, each, which, file=7, how=4):
    return record(FILE, text(path), number(size), number(0o644), number(0), number(how), number(file), number(each),
                  number(which))


def attributes(**values):
    return record(ATTRIBUTES, *[text(f"user.{name}".encode()) + text(value) for name, value in values.items()])


def counts(items=0, literal=0, received=0):
    return number(items) + number(literal) + number(received) + bytes(9)


def entry(kind, path, size=0):
    return bytes([kind | 0x40 | (0x20 if size else 0)]) + number(0) + number(0) + text(path) + (
        number(size) if size else b"") + b"\0"


def records_of(stream):
    records, at = [], 0
    while at < len(stream):
        size = int.from_bytes(stream[at + 1 : at + 4], "little")
        records.append((stream[at], stream[at + 4 : at + 4 + size]))
        at += 4 + size
    return records


class Sandbox:
    def __init__(self, ready):
        self.ready = ready
        self.call = API.method(ready.gateway.channel(), "towline.v1.Files/SyncTree")
        self.tree = ready.workdir / "tree"

    def __call__(self, *records, direction=UPLOAD, cut=1 << 16, **fields):
        """What it answers to these records."""
        fields = {"sandbox": self.ready.name, "path": "tree", "protocol": PROTOCOL, **fields}
        stream = b"".join(records)

        def requests():
            yield REQUEST(init={"direction": direction, **fields})
            for at in range(0, len(stream), cut):
                yield REQUEST(data=stream[at : at + cut])

        answer = list(self.call(requests(), timeout=30))
        assert (answer[0].protocol, answer[0].data) == (PROTOCOL, b"")
        return records_of(b"".join(r.data for r in answer))


@pytest.fixture
def sandbox(ready):
    return Sandbox(ready)


@pytest.mark.parametrize("cut", [1, 7, 1 << 16])
def test_records_by_hand(sandbox, cut):
    answer = sandbox(directory(b"d"), small(b"d/f", b"content"),
                     record(LINK, text(b"l"), text(b"/x"), number(0)), record(WALKED),
                     record(DONE, counts(3, 7)), cut=cut)
    # It need not have listed before it is told what to make.
    assert [kind for kind, _ in answer if kind != ENTRIES] == [LISTED, RECEIPT]
    assert answer[-1][1][:2] == bytes([3, 7])
    assert (sandbox.tree / "d/f").read_bytes() == b"content"


BAD = {
    "a path that leads out": directory(b"../x"),
    "an absolute path": small(b"/x", b"x"),
    "a path with an empty name": small(b"a//x", b"x"),
    "a path with a NUL": small(b"a\0x", b"x"),
    "no path": small(b"", b"x"),
    "a literal of no file": record(LITERAL, b"x"),
    "an unknown type": record(99),
    "a record of the other end": record(LISTED),
    "too long a record": b"\x10\x01\x00\x02" + bytes(200000),
    "a damaged record": record(TOUCH, b"\x05ab"),
    "deletions nobody asked for": record(DELETE, text(b"kept"), number(0)),
    "pruning nobody asked for": record(PRUNE, number(0)),
    "a file within a file": large(b"x", 9) * 2,
    "done within a file": large(b"x", 9) + record(DONE, counts(1)),
    "a hole of no file": record(HOLE, number(1)),
    "too long a hole": large(b"x", 1 << 40, 2) + record(HOLE, number((64 << 20) + 1)),
    "a file of a kind that is not known": large(b"x", 9, 8),
    "a range of no file": ranged(b"x", 0, 10, 0),
    "a range behind the end": ranged(b"x", 20, 10, 2),
    "ranges of nothing": ranged(b"x", 20, 0, 0),
    "too many ranges": ranged(b"x", 65, 1, 0),
    "a range that is whole": ranged(b"x", 20, 10, 0, how=5),
    "a range within another": ranged(b"x", 20, 10, 0) + ranged(b"x", 20, 10, 1),
    "a range twice": (ranged(b"x", 20, 10, 0) + record(LEAVE)) * 2,
    "ranges of two files": ranged(b"x", 20, 10, 0) + record(LEAVE) + ranged(b"y", 20, 10, 1),
    "ranges of two sizes": ranged(b"x", 20, 10, 0) + record(LEAVE) + ranged(b"x", 21, 10, 1),
    "a hard link that leads out": record(HARDLINK, text(b"h"), text(b"../x"), number(0), number(0)),
    "an absolute hard link": record(HARDLINK, text(b"h"), text(b"/etc/passwd"), number(0), number(0)),
    "attributes of nothing": attributes(a=b"b") + record(WALKED),
    "attributes of a link": attributes(a=b"b") + record(LINK, text(b"l"), text(b"x"), number(0)),
    "attributes that speak of rights": record(ATTRIBUTES, text(b"security.capability"), text(b"x")) + small(b"x", b"x"),
    "attributes without a name": record(ATTRIBUTES, text(b"user."), text(b"x")),
    "too long a name of an attribute": record(ATTRIBUTES, text(b"user." + b"x" * 300), text(b"x")),
    "too many attributes": attributes(a=bytes(65536)),
    "damaged attributes": record(ATTRIBUTES, text(b"user.a")),
    "a link to nowhere": record(LINK, text(b"l"), text(b""), number(0)),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_sync_ends_it(sandbox, what):
    sandbox.tree.mkdir()
    (sandbox.tree / "kept").write_text("kept")
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        sandbox(BAD[what], record(DONE, counts(1)))
    assert [p.name for p in sandbox.tree.iterdir()] == ["kept"]
    assert not (sandbox.ready.workdir / "x").exists()


def test_a_receipt_that_does_not_agree(sandbox):
    with fails(grpc.StatusCode.DATA_LOSS):
        sandbox(small(b"f", b"x"), record(DONE, counts(2, 1)))
    with fails(grpc.StatusCode.DATA_LOSS):
        sandbox(small(b"f", b"x"))
    with fails(grpc.StatusCode.DATA_LOSS):
        sandbox()


def test_entries_that_fail(sandbox):
    """The others are synced, nothing is deleted, and the status says that not all went well."""
    sandbox.tree.mkdir()
    (sandbox.tree / "extra").write_text("x")
    (sandbox.tree / "basis").write_text("0123456789")
    big, forged = large(b"big", 100), large(b"basis", 5)
    with fails(grpc.StatusCode.ABORTED, "4 entries"):
        sandbox(small(b"none/f", b"x"), small(b"good", b"x"), big, record(LITERAL, b"too short"), record(END, bytes(16)),
                forged, record(COPY, number(0), number(5)), record(END, bytes(16)),
                forged, record(COPY, number(8), number(1 << 40)), record(LITERAL, b"12"), record(END, bytes(16)),
                record(DELETE, text(b"extra"), number(0)), record(WALKED), record(PRUNE, number(0)),
                record(DONE, counts(6, 13)), delete_extra=True)
    assert sorted(p.name for p in sandbox.tree.iterdir()) == ["basis", "extra", "good"]
    assert (sandbox.tree / "basis").read_text() == "0123456789"


def test_hostile_deletions(sandbox, tmp_path):
    """Only what is beneath the root, never by way of a link, and not what was excluded."""
    (tmp_path / "precious").write_text("precious")
    sandbox.tree.mkdir()
    (sandbox.tree / "out").symlink_to(tmp_path)
    (sandbox.tree / "d").mkdir()
    (sandbox.tree / "d/keep").write_text("keep")
    names = [b"out/precious", b"d", b"d/keep"]
    with fails(grpc.StatusCode.ABORTED):
        sandbox(*[record(DELETE, text(n), number(n == b"d")) for n in names], record(WALKED), record(PRUNE, number(0)),
                record(DONE, counts(3)), delete_extra=True, exclude=["keep"])
    with fails(grpc.StatusCode.ABORTED):
        sandbox(*[record(DELETE, text(n), number(n == b"d")) for n in names[:2]], record(WALKED), record(PRUNE, number(0)),
                record(DONE, counts(2)), delete_extra=True, exclude=["keep"])
    assert (tmp_path / "precious").exists() and (sandbox.tree / "d/keep").exists()


@pytest.mark.parametrize("fields", [{"direction": 0}, {"direction": 9}, {"path": ""}])
def test_init_is_checked(sandbox, fields):
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        sandbox(**fields)


@pytest.mark.parametrize("protocol", [0, 3, 1 << 31])
def test_a_protocol_that_is_not_spoken(sandbox, protocol):
    with fails(grpc.StatusCode.FAILED_PRECONDITION, f"protocol: {protocol};"):
        sandbox(record(DONE, counts()), protocol=protocol)
    assert not sandbox.tree.exists()


def test_records_of_files(sandbox):
    """Holes, hard links, attributes, and what directories have in the end."""
    sandbox.tree.mkdir()
    content = b"x" + bytes(1_000_000) + b"y"
    sandbox(directory(b"d", 0o500, 5), directory(b"d/e", 0o750, 6), attributes(a=b"1", b=b"2"), small(b"d/f", b"content"),
            large(b"s", len(content), 2, 10**9), record(LITERAL, b"x"), record(HOLE, number(1_000_000)),
            record(LITERAL, b"y"), record(END, digest(content)),
            record(HARDLINK, text(b"d/e/h"), text(b"s"), number(len(content)), number(2 * 10**9)),
            attributes(), record(TOUCH, text(b"d/f"), number(0o600), number(0)),
            record(WALKED), record(DONE, counts(6, 9)))
    f, s = sandbox.tree / "d/f", sandbox.tree / "s"
    assert s.read_bytes() == content and s.stat().st_blocks * 512 < 100_000
    assert s.samefile(sandbox.tree / "d/e/h")
    assert os.listxattr(f) == [] and f.stat().st_mode & 0o777 == 0o600
    info = [(sandbox.tree / name).stat() for name in ("d", "d/e")]
    assert [(i.st_mode & 0o777, i.st_mtime_ns) for i in info] == [(0o500, 5), (0o750, 6)]
    sandbox(attributes(c=b"3"), record(TOUCH, text(b"d/f"), number(0o600), number(0)), record(WALKED),
            record(DONE, counts(1)))
    assert {name: os.getxattr(f, name) for name in os.listxattr(f)} == {"user.c": b"3"}
    (sandbox.tree / "d").chmod(0o700)


def test_a_hard_link_to_what_it_should_not_be(sandbox):
    """Nothing is linked to what is no file, is another, or was to be left out."""
    sandbox.tree.mkdir()
    (sandbox.tree / "old").write_text("old")
    (sandbox.tree / "secret").write_text("old")
    (sandbox.tree / "l").symlink_to("old")
    for name in ("old", "secret"):
        os.utime(sandbox.tree / name, ns=(0, 0))

    def link(first, size, time=0):
        return record(HARDLINK, text(b"h"), text(first), number(size), number(2 * time))

    for bad in (link(b"old", 4), link(b"old", 3, 10**10), link(b"l", 3), link(b"none", 3), link(b"secret", 3)):
        with fails(grpc.StatusCode.ABORTED, "1 entries"):
            sandbox(bad, record(WALKED), record(DONE, counts(1)), exclude=["secret"])
    assert not (sandbox.tree / "h").exists()
    sandbox(link(b"old", 3), record(WALKED), record(DONE, counts(1)))
    assert (sandbox.tree / "h").samefile(sandbox.tree / "old")


class Stream:
    """A call that is written to and read from as it goes."""

    def __init__(self, sandbox, **init):
        self.gate = queue.Queue()
        self.gate.put(REQUEST(init={"sandbox": sandbox.ready.name, "protocol": PROTOCOL, **init}))
        self.call = sandbox.call(iter(self.gate.get, None), timeout=30)
        self.got = b""

    def send(self, *records):
        for one in records:
            self.gate.put(REQUEST(data=one))

    def end(self):
        self.gate.put(None)
        for answer in self.call:
            self.got += answer.data
        return records_of(self.got)

    def until(self, kind):
        for answer in self.call:
            self.got += answer.data
            if any(found == kind for found, _ in records_of(self.got)):
                return
        raise AssertionError(f"no record of type {kind}")


ID = bytes(range(16))


def leader(sandbox, direction=UPLOAD, **fields):
    one = Stream(sandbox, path="tree", direction=direction, id=ID, **fields)
    if direction == UPLOAD:
        one.until(LISTED)
    else:  # it has taken the call when it says which protocol it speaks
        one.got += next(one.call).data
    return one


def test_a_stream_that_joins(sandbox):
    """What it brings waits for the first; their counts are one."""
    first = leader(sandbox)
    second = Stream(sandbox, joins=ID)
    second.until(READY)
    second.send(record(AFTER, number(2)), small(b"d/e/f", b"content"), record(DONE, counts(1, 7)))
    first.send(directory(b"d"))
    wait_until((sandbox.tree / "d").exists, 10, "a directory")
    first.send(directory(b"d/e"))
    second.until(RECEIPT)
    assert second.end()[-1][1][:2] == bytes([1, 7])
    assert (sandbox.tree / "d/e/f").read_bytes() == b"content"
    first.send(record(WALKED), record(DONE, counts(3, 7)))
    assert first.end()[-1][1][:2] == bytes([3, 7])


def test_a_file_in_ranges(sandbox):
    """It is there when all of them are, on whichever stream, and as they should be."""
    sandbox.tree.mkdir()
    (sandbox.tree / "f").write_bytes(b"old and long enough")
    new = b"new.new.to be.old and long enough"

    def part(name, which, content, *records):
        return (ranged(name, len(new), 13, which) + (b"".join(records) or record(LITERAL, content))
                + record(END, digest(content)))

    first, second = leader(sandbox), Stream(sandbox, joins=ID)
    second.until(READY)
    second.send(part(b"f", 2, new[26:], record(COPY, number(12), number(7))), part(b"f", 0, new[:13]))
    wait_until(lambda: len(list(sandbox.tree.iterdir())) == 2, 10, "a part file")
    time.sleep(0.2)
    assert (sandbox.tree / "f").read_bytes() == b"old and long enough"
    first.send(part(b"f", 1, new[13:26]))
    wait_until(lambda: (sandbox.tree / "f").read_bytes() == new, 10, "the file")
    assert [p.name for p in sandbox.tree.iterdir()] == ["f"]
    second.send(record(DONE, counts(2, 13)))
    second.until(RECEIPT)
    first.send(record(WALKED), record(DONE, counts(3, 26)))
    assert first.end()[-1][1][3] == 1  # files


@pytest.mark.parametrize("bad", [record(LITERAL, b"short") + record(END, digest(b"short")),
                                 record(LITERAL, b"other text") + record(END, digest(b"what it is")),
                                 record(LITERAL, b"much longer than it is") + record(END, digest(b"")),
                                 record(COPY, number(0), number(10)) + record(END, digest(b"old of that")),
                                 record(LEAVE)])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_range_that_fails(sandbox, bad, which):
    """The file has, once; the old one stays, and others go on."""
    sandbox.tree.mkdir()
    (sandbox.tree / "f").write_text("old")
    good = record(LITERAL, bytes(10)) + record(END, digest(bytes(10)))
    records = [ranged(b"f", 30, 10, i) + (bad if i == which else good) for i in (2, 0, 1)]
    literal = sum(len(body) for kind, body in records_of(b"".join(records)) if kind == LITERAL)
    done = [small(b"g", b"x"), record(WALKED), record(DONE, counts(4, literal + 1))]
    if bad == record(LEAVE):
        sandbox(*records, *done)
    else:
        with fails(grpc.StatusCode.ABORTED, "1 entries"):
            sandbox(*records, *done)
    assert (sandbox.tree / "f").read_text() == "old"
    assert sorted(p.name for p in sandbox.tree.iterdir()) == ["f", "g"]


def test_ranges_that_never_come(sandbox):
    """Nothing is left of them when the sync is over."""
    sandbox(*[ranged(b"f%d" % i, 20, 10, 0, i) + record(LEAVE) for i in range(32)], record(WALKED), record(DONE, counts(32)))
    assert list(sandbox.tree.iterdir()) == []
    with fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "more than 32 files"):
        sandbox(*[ranged(b"f%d" % i, 20, 10, 0, 99 - i) + record(LEAVE) for i in range(49)])
    assert list(sandbox.tree.iterdir()) == []


def test_ranges_of_many_files(sandbox):
    """One that comes behind the others waits for them, as long as somebody is there."""
    first, second = leader(sandbox), Stream(sandbox, joins=ID)
    first.send(*[ranged(b"f%d" % i, 20, 10, 0, i) + record(LEAVE) for i in range(33)], directory(b"d"))
    wait_until(lambda: len(list(sandbox.tree.iterdir())) == 32, 10, "part files")
    time.sleep(0.5)
    assert not (sandbox.tree / "d").exists()
    second.send(ranged(b"f7", 20, 10, 1, 7) + record(LEAVE))
    wait_until((sandbox.tree / "d").exists, 10, "the first goes on")
    (sandbox.tree / "d").rmdir()
    first.send(ranged(b"f33", 20, 10, 0, 33) + record(LEAVE), directory(b"d"))
    time.sleep(0.5)
    assert not (sandbox.tree / "d").exists()
    first.call.cancel()
    wait_until(lambda: list(sandbox.tree.iterdir()) == [], 10, "no part files")


@pytest.mark.parametrize("newest", [0, 1, 2, 9])
def test_which_protocol_is_spoken(sandbox, newest):
    """The newest that both know; ranges go only to who knows them."""
    sandbox.tree.mkdir()
    (sandbox.tree / "f").write_bytes(bytes(20 << 20))
    first = Stream(sandbox, path="tree", direction=DOWNLOAD, id=ID, newest=newest)
    assert next(first.call).protocol == (2 if newest >= 2 else 1)
    first.send(record(LISTED))
    first.until(END)
    files = [body for kind, body in records_of(first.got) if kind == FILE]
    assert [body.endswith(number(4) + number(0) + number(8 << 20) + number(0)) for body in files[:1]] == [newest >= 2]
    first.call.cancel()


def test_what_fails_on_a_stream_that_joined_keeps_all(sandbox):
    sandbox.tree.mkdir()
    (sandbox.tree / "extra").write_text("x")
    first = leader(sandbox, delete_extra=True)
    second = Stream(sandbox, joins=ID)
    second.send(small(b"none/f", b"x"), small(b"good", b"x"), record(DONE, counts(2, 2)))
    second.end()
    first.send(record(DELETE, text(b"extra"), number(0)), record(WALKED), record(PRUNE, number(0)),
               record(DONE, counts(3, 2)))
    with fails(grpc.StatusCode.ABORTED, "1 entries"):
        first.end()
    assert sorted(p.name for p in sandbox.tree.iterdir()) == ["extra", "good"]


@pytest.mark.parametrize("records", [
    directory(b"../x"), record(DELETE, text(b"kept"), number(0)), record(PRUNE, number(0)), record(SIGN, text(b"f")),
    record(WALKED), record(LITERAL, b"x"), record(READY), record(AFTER, b"\xff"), record(99),
    large(b"f", 9) + record(DONE, counts(1))])
def test_a_stream_that_joined_and_does_not_keep_to_it(sandbox, records):
    """The sync ends with it, for both."""
    first = leader(sandbox, delete_extra=True)
    second = Stream(sandbox, joins=ID)
    second.send(records)
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        second.end()
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        list(first.call)
    assert list(sandbox.tree.iterdir()) == []


def test_a_stream_that_breaks(sandbox):
    """With a part in the sync it is missed, and without it is not."""
    first = leader(sandbox)
    idle, waiting = Stream(sandbox, joins=ID), Stream(sandbox, joins=ID)
    idle.until(READY)
    waiting.until(READY)
    idle.call.cancel()
    waiting.send(record(AFTER, number(1 << 60)))
    first.send(small(b"f", b"x"), record(WALKED), record(DONE, counts(1, 1)))
    assert first.end()[-1][0] == RECEIPT
    with fails(grpc.StatusCode.CANCELLED):
        waiting.end()
    first, second = leader(sandbox), Stream(sandbox, joins=ID)
    second.until(READY)
    second.send(large(b"g", 100), record(LITERAL, b"half"))
    wait_until(lambda: len(list(sandbox.tree.iterdir())) == 2, 10, "a part file")
    second.call.cancel()
    with fails(grpc.StatusCode.CANCELLED):
        list(first.call)
    wait_until(lambda: [p.name for p in sandbox.tree.iterdir()] == ["f"], 10, "the part file gone")


def test_a_receipt_of_a_stream_that_joined(sandbox):
    first, second = leader(sandbox), Stream(sandbox, joins=ID)
    second.send(small(b"f", b"x"), record(DONE, counts(2, 1)))
    with fails(grpc.StatusCode.DATA_LOSS):
        second.end()
    with fails(grpc.StatusCode.DATA_LOSS):
        list(first.call)


def test_who_may_join(sandbox):
    with fails(grpc.StatusCode.NOT_FOUND):
        Stream(sandbox, joins=ID).end()
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        Stream(sandbox, path="tree", direction=UPLOAD, id=b"short").end()
    first = leader(sandbox)
    with fails(grpc.StatusCode.NOT_FOUND):
        Stream(sandbox, joins=bytes(16)).end()
    with fails(grpc.StatusCode.ALREADY_EXISTS):
        Stream(sandbox, path="tree", direction=UPLOAD, id=ID).end()
    with fails(grpc.StatusCode.FAILED_PRECONDITION):
        Stream(sandbox, joins=ID, protocol=3).end()
    streams = [Stream(sandbox, joins=ID) for _ in range(15)]
    for one in streams:
        one.until(READY)
    with fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "16 streams"):
        Stream(sandbox, joins=ID).end()
    first.send(record(WALKED), record(DONE, counts()))
    first.end()
    for one in streams:
        with fails(grpc.StatusCode.CANCELLED):
            one.end()
    with fails(grpc.StatusCode.NOT_FOUND):
        Stream(sandbox, joins=ID).end()


def test_a_target_joins(sandbox):
    """Files go to whoever is ready, and each of them once."""
    sandbox.tree.mkdir()
    for i in range(40):
        (sandbox.tree / f"f{i}").write_bytes(bytes([i]) * 300_000)
    first = leader(sandbox, DOWNLOAD)
    second = Stream(sandbox, joins=ID)
    second.send(record(READY))
    time.sleep(0.5)  # it has nothing to say to that
    first.send(record(LISTED))
    first.until(SPREAD)
    second.until(DONE)
    files = [body for kind, body in records_of(second.got) if kind == FILE]
    literal = sum(len(body) for kind, body in records_of(second.got) if kind == LITERAL)
    assert 0 < len(files) < 40 and literal == 300_000 * len(files)
    with fails(grpc.StatusCode.DATA_LOSS):
        second.send(record(RECEIPT, counts(1)))
        second.end()
    with fails(grpc.StatusCode.DATA_LOSS):
        list(first.call)


def test_sources_are_checked(sandbox):
    with fails(grpc.StatusCode.NOT_FOUND):
        sandbox(direction=DOWNLOAD)
    sandbox.tree.write_text("a file")
    with fails(grpc.StatusCode.FAILED_PRECONDITION):
        sandbox(direction=DOWNLOAD)


@pytest.mark.parametrize(
    "records",
    [
        record(ENTRIES, entry(1, b"b", 1), entry(1, b"a", 1)),
        record(ENTRIES, entry(1, b"../a", 1)),
        record(ENTRIES, b"\xff\xff"),
        record(ENTRIES, bytes([0xC1]) + number(0) + number(0) + text(b"x") + b"\0\0"),
        record(ENTRIES, bytes([0xC1]) + number(0) + number(0) + text(b"x") + b"\0\x04"),
        record(ENTRIES, bytes([0xC1]) + number(0) + number(0) + text(b"x") + b"\0\x02short"),
        record(LISTED) * 2,
        record(SIGNATURE, number(10), number(2048), number(0)),
        record(BLOCKS, bytes(12)),
        record(DONE, counts()),
        record(LISTED) + record(FAILED, text(b"x"), text(b"no")) + record(LISTED),
    ],
)
def test_targets_that_do_not_keep_to_it(sandbox, records):
    sandbox.tree.mkdir()
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        sandbox(records, direction=DOWNLOAD)


def test_a_signature_that_lies(sandbox):
    """It asks for 2^60 bytes of sums, or gives more than it said."""
    sandbox.tree.mkdir()
    (sandbox.tree / "f").write_bytes(bytes(100_000))
    listing = record(ENTRIES, entry(1, b"f", 90_000)) + record(LISTED)
    for lie in (record(SIGNATURE, number(1 << 60), number(2048), number(0)),
                record(SIGNATURE, number(90_000), number(1), number(0)),
                record(SIGNATURE, number(4096), number(2048), number(0)) + record(BLOCKS, bytes(36))):
        with fails(grpc.StatusCode.INVALID_ARGUMENT):
            sandbox(listing, lie, direction=DOWNLOAD)


def test_a_client_that_goes(sandbox):
    """No part file is left, and what was there stays."""
    sandbox.tree.mkdir()
    (sandbox.tree / "f").write_text("old")
    gate = queue.Queue()

    def requests():
        yield REQUEST(init={"direction": UPLOAD, "sandbox": sandbox.ready.name, "path": "tree", "protocol": PROTOCOL})
        yield REQUEST(data=large(b"f", 100))
        yield REQUEST(data=record(LITERAL, b"half"))
        gate.get()

    call = sandbox.call(requests(), timeout=30)
    wait_until(lambda: len(list(sandbox.tree.iterdir())) == 2, 10, "a part file")
    call.cancel()
    gate.put(None)
    wait_until(lambda: [p.name for p in sandbox.tree.iterdir()] == ["f"], 10, "the part file gone")
    assert (sandbox.tree / "f").read_text() == "old"


class Liar(grpc.GenericRpcHandler):
    """A gateway that answers SyncTree with these bytes, whatever it is asked."""

    def __init__(self, stream, protocol):
        self.stream = stream
        self.protocol = protocol

    def service(self, details):
        if details.method != "/towline.v1.Files/SyncTree":
            return None
        return grpc.stream_stream_rpc_method_handler(
            self.answer, request_deserializer=REQUEST.FromString, response_serializer=RESPONSE.SerializeToString)

    def answer(self, requests, context):
        yield RESPONSE(protocol=self.protocol)
        yield RESPONSE(data=self.stream)
        with contextlib.suppress(grpc.RpcError, Exception):
            for _ in requests:
                pass


@contextlib.contextmanager
def lying(stream, folder, protocol=PROTOCOL):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), handlers=[Liar(stream, protocol)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield Cli(folder, OPENSHELL_GATEWAY_ENDPOINT=f"http://127.0.0.1:{port}")
    finally:
        server.stop(0)


@pytest.mark.parametrize("what", BAD)
def test_a_source_that_lies_to_the_client(what, tmp_path):
    with lying(BAD[what] + record(DONE, counts(1)), tmp_path) as cli:
        (cli.here / "tree").mkdir()
        (cli.here / "tree/kept").write_text("kept")
        cli("sync", "box:tree", "tree", code=1)
        assert [p.name for p in (cli.here / "tree").iterdir()] == ["kept"]
        assert [p.name for p in cli.here.iterdir()] == ["tree"]


@pytest.mark.parametrize("protocol", [0, 3])
def test_a_sandbox_of_another_protocol(protocol, tmp_path):
    with lying(small(b"f", b"x") + record(DONE, counts(1, 1)), tmp_path, protocol) as cli:
        (cli.here / "tree").mkdir()
        for words in (("box:tree", "tree"), ("tree", "box:tree")):
            assert f"the sandbox syncs by protocol {protocol}, and this program by 1 to 2" in cli("sync", *words, code=1).err
        assert list((cli.here / "tree").iterdir()) == []


def test_a_sandbox_that_cannot_leave_out_what_is_no_text(tmp_path):
    """It is not asked to: it would delete what the pattern keeps."""
    with lying(small(b"f", b"x") + record(DONE, counts(1, 1)), tmp_path, 1) as cli:
        (cli.here / "tree").mkdir()
        for words in (("box:tree", "tree"), ("tree", "box:tree")):
            done = cli("sync", "--delete", "--exclude", os.fsdecode(b"\xff"), *words, code=1)
            assert "the sandbox syncs by protocol 1, and this program by 2 to 2" in done.err
        assert list((cli.here / "tree").iterdir()) == []


def test_a_source_that_writes_where_it_should_not(tmp_path):
    """By way of links it has made, or that are there; a link out is not made at all."""
    out = tmp_path / "out"
    out.mkdir()
    stream = (record(LINK, text(b"up"), text(b"../.."), number(0)) + small(b"up/pwned", b"x")
              + record(LINK, text(b"abs"), text(str(out).encode()), number(0)) + small(b"abs/pwned", b"x")
              + record(LINK, text(b"in"), text(b"."), number(0)) + small(b"in/pwned", b"x")
              + small(b"mine/pwned", b"x") + directory(b"setuid", 0o7777)
              + small(b"\x1b]0;title\x07", b"x") + small(b"no\xff", b"x"))
    with lying(stream + record(DONE, counts(10, 6)), tmp_path / "cli") as cli:
        tree = cli.here / "tree"
        tree.mkdir()
        (tree / "mine").symlink_to(out)
        done = cli("--verbose", "sync", "box:tree", "tree", code=None)
        assert done.code != 0
        assert list(out.iterdir()) == []
        assert not list(tmp_path.rglob("pwned"))
        assert not (tree / "up").is_symlink() and not (tree / "abs").is_symlink()
        assert (tree / "setuid").stat().st_mode & 0o7000 == 0
        assert "\x1b" not in done.out + done.err and "\x07" not in done.out + done.err
