"""An upload with an upload_id: what is durable, and going on from there."""

import hashlib
import os
import queue
import random
import signal
import time

import grpc
import pytest
import towline_api
from conftest import fails, wait_until
from openshell._proto import openshell_pb2 as pb

API = towline_api.load()
REQUEST = API["openshell.v1.UploadFileRequest"]
MIB = 1 << 20
BEHIND = 8 * MIB  # what is received and not durable is never more
SIZE = 40 * MIB


class Uploads:
    def __init__(self, ready):
        self.ready = ready
        self.connect()

    def connect(self):
        channel = self.ready.gateway.channel()
        self._upload = API.method(channel, "openshell.v1.OpenShell/UploadFile")
        self._query = API.method(channel, "towline.v1.Files/QueryUpload")
        self._abort = API.method(channel, "towline.v1.Files/AbortUpload")

    def metadata(self, path, size, **fields):
        fields = {"sandbox": self.ready.name, "remote_path": path, "size_bytes": size, **fields}
        return REQUEST(metadata=fields)

    def upload(self, path, data=b"", **fields):
        offset = fields.get("offset", 0)
        chunks = (REQUEST(chunk=data[i : i + MIB]) for i in range(offset, len(data), MIB))

        def requests():
            yield self.metadata(path, fields.pop("size_bytes", len(data)), **fields)
            yield from chunks

        return self._upload(requests(), timeout=60)

    def begin(self, path, data, size=None, **fields):
        """An upload of which ${data} is sent, and whose end does not come."""
        return Begun(self, path, data, len(data) if size is None else size, fields)

    def query(self, upload_id, path="f"):
        return self._query(
            API["towline.v1.QueryUploadRequest"](
                sandbox=self.ready.name, upload_id=upload_id, remote_path=path
            ),
            timeout=20,
        )

    def abort(self, upload_id, path="f"):
        return self._abort(
            API["towline.v1.AbortUploadRequest"](
                sandbox=self.ready.name, upload_id=upload_id, remote_path=path
            ),
            timeout=20,
        )

    def durable(self, upload_id, path="f"):
        return self.query(upload_id, path).durable_bytes

    def names(self):
        return sorted(path.name for path in self.ready.workdir.iterdir())


class Begun:
    def __init__(self, uploads, path, data, size, fields):
        self.requests = queue.Queue()
        self.requests.put(uploads.metadata(path, size, **fields))
        offset = fields.get("offset", 0)
        for i in range(offset, len(data), MIB):
            self.requests.put(REQUEST(chunk=data[i : i + MIB]))
        self.call = uploads._upload.future(iter(self.requests.get, None), timeout=60)

    def end(self):
        self.requests.put(None)
        return self.call.result()

    def cut(self):
        self.call.cancel()
        self.requests.put(None)


@pytest.fixture
def uploads(ready):
    return Uploads(ready)


def content(size, seed=1):
    return random.Random(seed).randbytes(size)


def restart(ready):
    """The sandbox, whose supervisor is gone."""
    gateway = ready.gateway
    if gateway.phase(ready.name) != "ERROR":
        wait_until(lambda: gateway.phase(ready.name) == "ERROR", 20, "it is in ERROR")
    gateway.stub.StopSandbox(pb.StopSandboxRequest(name=ready.name), timeout=20)
    gateway.wait_phase(ready.name, "STOPPED")
    gateway.stub.StartSandbox(pb.StartSandboxRequest(name=ready.name), timeout=20)
    gateway.wait_phase(ready.name, "READY")


def goes_on(uploads, data, upload_id, path="f"):
    """From what is durable to the end."""
    at = uploads.durable(upload_id, path)
    answer = uploads.upload(path, data, upload_id=upload_id, offset=at)
    assert answer.bytes_written == len(data)
    assert (uploads.ready.workdir / path).read_bytes() == data
    assert uploads.names() == [path]
    return at


def test_whole_in_one_go(uploads):
    data = content(5 * MIB)
    assert uploads.upload("f", data, upload_id="one").bytes_written == len(data)
    assert (uploads.ready.workdir / "f").read_bytes() == data
    assert uploads.names() == ["f"]
    state = uploads.query("one")
    assert (state.complete, state.durable_bytes, state.size_bytes) == (True, len(data), len(data))


def test_cut_and_resumed(uploads):
    data = content(SIZE)
    for i, sent in enumerate((3 * MIB, 11 * MIB, 12 * MIB + 1)):
        begun = uploads.begin("f", data[:sent], SIZE, upload_id="a", offset=uploads.durable("a") if i else 0)
        wait_until(lambda: uploads_durable(uploads, "a") == sent, 10, "it is durable")
        begun.cut()
    assert uploads.query("a").size_bytes == SIZE
    assert not (uploads.ready.workdir / "f").exists()
    wait_until(lambda: not is_busy(uploads, data), 10, "the last has let go")
    assert goes_on(uploads, data, "a") == 12 * MIB + 1


def uploads_durable(uploads, upload_id, path="f"):
    try:
        return uploads.durable(upload_id, path)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND
        return 0


def is_busy(uploads, data):
    """Whether an upload to f with the id "a" still runs: one past the end would be ABORTED."""
    try:
        uploads.upload("f", b"", size_bytes=len(data), upload_id="a", offset=len(data))
    except grpc.RpcError as error:
        return error.code() == grpc.StatusCode.ABORTED
    return False


def test_a_second_is_all_it_waits(uploads):
    """However little came."""
    begun = uploads.begin("f", content(1000), 5000, upload_id="slow")
    wait_until(lambda: uploads_durable(uploads, "slow") == 1000, 3, "it is durable")
    begun.cut()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("victim", ["supervisor", "gateway"])
def test_killed(ready, uploads, victim, seed):
    """At some moment; what had been received is durable but for the last 8 MiB."""
    data = content(SIZE, seed)
    sent = random.Random(f"{victim}{seed}").randrange(SIZE // 4, SIZE)
    (ready.workdir / "f").write_bytes(b"old")
    begun = uploads.begin("f", data[:sent], SIZE, upload_id="k")
    part = lambda: max((p.stat().st_size for p in ready.workdir.glob(".f.towline-*")), default=0)
    wait_until(lambda: part() >= sent // 2, 20, "half of it came")
    before = part()
    if victim == "supervisor":
        os.kill(ready.supervisor, signal.SIGKILL)
    else:
        ready.gateway.process.kill()
    with fails(grpc.StatusCode.UNAVAILABLE):
        begun.end()
    assert (ready.workdir / "f").read_bytes() == b"old"
    if victim == "supervisor":
        restart(ready)
    else:
        ready.gateway.kill()
        ready.gateway.start()
        ready.gateway.wait_phase(ready.name, "READY")
        uploads.connect()
    at = goes_on(uploads, data, "k")
    assert before - BEHIND <= at <= sent


def test_stopped_and_started(ready, uploads):
    data = content(SIZE)
    begun = uploads.begin("f", data[: 20 * MIB], SIZE, upload_id="s")
    wait_until(lambda: uploads_durable(uploads, "s") == 20 * MIB, 10, "it is durable")
    ready.gateway.stub.StopSandbox(pb.StopSandboxRequest(name=ready.name), timeout=20)
    ready.gateway.wait_phase(ready.name, "STOPPED")
    begun.cut()
    ready.gateway.stub.StartSandbox(pb.StartSandboxRequest(name=ready.name), timeout=20)
    ready.gateway.wait_phase(ready.name, "READY")
    assert goes_on(uploads, data, "s") == 20 * MIB


@pytest.fixture
def half(uploads):
    """An upload "h" of 4 MiB of which 2 are there."""
    data = content(4 * MIB)
    begun = uploads.begin("f", data[: 2 * MIB], len(data), upload_id="h")
    wait_until(lambda: uploads_durable(uploads, "h") == 2 * MIB, 10, "it is durable")
    begun.cut()
    wait_until(lambda: not is_busy(uploads, bytes(len(data))), 10, "it has let go")
    return data


def test_another_file_is_refused(uploads, half):
    for offset in (0, 1 * MIB):
        with fails(grpc.StatusCode.FAILED_PRECONDITION, "size"):
            uploads.upload("f", half + b"x", upload_id="h", offset=offset)
        digest = {"algorithm": "DIGEST_ALGORITHM_SHA256", "value": hashlib.sha256(half).digest()}
        with fails(grpc.StatusCode.FAILED_PRECONDITION, "digest"):
            uploads.upload("f", half, upload_id="h", offset=offset, digest=digest)
    assert goes_on(uploads, half, "h") == 2 * MIB


def test_a_digest_is_added(uploads, half):
    """What comes out wrong is not put in place; who begins again may promise another."""
    (uploads.ready.workdir / "f").write_bytes(b"old")
    digest = {"algorithm": "DIGEST_ALGORITHM_XXH3_128", "value": bytes(16)}
    with fails(grpc.StatusCode.DATA_LOSS, "digest"):
        uploads.upload("f", half, upload_id="h", offset=2 * MIB, digest=digest, adds_digest=True)
    assert (uploads.ready.workdir / "f").read_bytes() == b"old"
    assert uploads.names() == ["f"]
    for fields in ({"digest": digest}, {"upload_id": "h"}):
        with fails(grpc.StatusCode.INVALID_ARGUMENT, "adds_digest"):
            uploads.upload("f", half, adds_digest=True, **fields)


def test_offsets(uploads, half):
    with fails(grpc.StatusCode.OUT_OF_RANGE, str(2 * MIB)):
        uploads.upload("f", half, upload_id="h", offset=2 * MIB + 1)
    with fails(grpc.StatusCode.OUT_OF_RANGE, "past"):
        uploads.upload("f", half, upload_id="h", offset=len(half) + 1)
    with fails(grpc.StatusCode.OUT_OF_RANGE):
        uploads.upload("f", half, upload_id="unknown", offset=1)
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "offset"):
        uploads.upload("f", half, offset=1)
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "upload_id"):
        uploads.upload("f", half, upload_id="a/b")
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "upload_id"):
        uploads.upload("f", half, upload_id="x" * 65)
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "archive"):
        uploads.upload("f", half, upload_id="x", is_archive=True)
    # Before what is durable is fine.
    uploads.upload("f", half, upload_id="h", offset=MIB)
    assert (uploads.ready.workdir / "f").read_bytes() == half
    assert uploads.names() == ["f"]


def test_aborted(uploads, half):
    with fails(grpc.StatusCode.NOT_FOUND, "other"):
        uploads.abort("other")
    with fails(grpc.StatusCode.NOT_FOUND):
        uploads.abort("h", "g")
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "upload_id"):
        uploads.abort("")
    uploads.abort("h")
    assert uploads.names() == []
    with fails(grpc.StatusCode.NOT_FOUND):
        uploads.query("h")
    uploads.upload("f", half + b"more", upload_id="h")
    assert uploads.names() == ["f"]


def test_two_at_once(uploads):
    """The one who is there has the target; the other one is told."""
    data, other = content(6 * MIB), content(6 * MIB, 2)
    first = uploads.begin("f", data[: 3 * MIB], len(data), upload_id="a")
    wait_until(lambda: uploads_durable(uploads, "a") == 3 * MIB, 10, "it is durable")
    for fields in ({"upload_id": "a"}, {"upload_id": "b"}, {}):
        for path in ("f", "./f", str(uploads.ready.workdir / "f")):
            with fails(grpc.StatusCode.ABORTED, "running"):
                uploads.upload(path, other, **fields)
    with fails(grpc.StatusCode.ABORTED, "in use"):
        uploads.abort("a")
    for i in range(3, 6):
        first.requests.put(REQUEST(chunk=data[i * MIB : (i + 1) * MIB]))
    first.end()
    assert (uploads.ready.workdir / "f").read_bytes() == data
    uploads.upload("f", other)
    assert (uploads.ready.workdir / "f").read_bytes() == other
    assert uploads.names() == ["f"]


def test_the_answer_was_lost(uploads):
    """Who asks again for what is finished is told so, as long as it is there."""
    data = content(3 * MIB)
    answer = uploads.upload("f", data, upload_id="a")
    again = uploads.upload("f", b"", size_bytes=len(data), upload_id="a", offset=len(data))
    assert (again.bytes_written, again.digest) == (answer.bytes_written, answer.digest)
    (uploads.ready.workdir / "f").write_bytes(b"changed")
    with fails(grpc.StatusCode.NOT_FOUND):
        uploads.query("a")
    with fails(grpc.StatusCode.OUT_OF_RANGE):
        uploads.upload("f", b"", size_bytes=len(data), upload_id="a", offset=len(data))


def test_wrong_digest(uploads):
    """It is not kept: going on would not make it right."""
    data = content(3 * MIB)
    digest = {"algorithm": "DIGEST_ALGORITHM_SHA256", "value": bytes(32)}
    with fails(grpc.StatusCode.DATA_LOSS, "digest"):
        uploads.upload("f", data, upload_id="a", digest=digest)
    assert uploads.names() == []
    digest["value"] = hashlib.sha256(data).digest()
    begun = uploads.begin("f", data[:MIB], len(data), upload_id="a", digest=digest)
    wait_until(lambda: uploads_durable(uploads, "a") == MIB, 10, "it is durable")
    begun.cut()
    wait_until(lambda: retry(lambda: uploads.upload("f", data, upload_id="a", digest=digest, offset=MIB)), 10, "")
    assert (uploads.ready.workdir / "f").read_bytes() == data


def retry(call):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.ABORTED
        return False
    return True


def test_torn_journal(uploads, half):
    """An upload whose journal nobody can read begins at 0."""
    workdir = uploads.ready.workdir
    journal = next(workdir.glob("*.journal"))
    for spoilt in (b"", b"x" * 2000, journal.read_bytes()[:100], bytes(1024)):
        journal.write_bytes(spoilt)
        with fails(grpc.StatusCode.NOT_FOUND):
            uploads.query("h")
    with fails(grpc.StatusCode.OUT_OF_RANGE):
        uploads.upload("f", half, upload_id="h", offset=MIB)
    uploads.upload("f", half, upload_id="h")
    assert (workdir / "f").read_bytes() == half
    assert uploads.names() == ["f"]


def test_if_exists(uploads):
    workdir = uploads.ready.workdir
    data = content(MIB)
    uploads.upload("f", data, if_exists="IF_EXISTS_FAIL")
    with fails(grpc.StatusCode.ALREADY_EXISTS, "f"):
        uploads.upload("f", b"other", if_exists="IF_EXISTS_FAIL")
    # It comes while the upload runs.
    begun = uploads.begin("g", b"new", 6, if_exists="IF_EXISTS_FAIL")
    wait_until(lambda: len(uploads.names()) == 2, 10, "a part file is there")
    (workdir / "g").write_bytes(b"theirs")
    begun.requests.put(REQUEST(chunk=b"new"))
    with fails(grpc.StatusCode.ALREADY_EXISTS, "g"):
        begun.end()
    assert (workdir / "g").read_bytes() == b"theirs"
    assert uploads.names() == ["f", "g"]

    digest = {"algorithm": "DIGEST_ALGORITHM_SHA256", "value": hashlib.sha256(data).digest()}
    inode = (workdir / "f").stat().st_ino
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "digest"):
        uploads.upload("f", data, if_exists="IF_EXISTS_SKIP_IF_SAME")
    same = uploads.begin("f", b"", len(data), if_exists="IF_EXISTS_SKIP_IF_SAME", digest=digest)
    answer = same.call.result()  # without a byte
    same.requests.put(None)
    assert answer.skipped and answer.bytes_written == len(data)
    assert (workdir / "f").stat().st_ino == inode
    for there in (b"short", bytes(MIB)):
        (workdir / "f").write_bytes(there)
        answer = uploads.upload("f", data, if_exists="IF_EXISTS_SKIP_IF_SAME", digest=digest)
        assert not answer.skipped and (workdir / "f").read_bytes() == data
    (workdir / "f").unlink()
    (workdir / "f").symlink_to("g")
    assert not uploads.upload("f", data, if_exists="IF_EXISTS_SKIP_IF_SAME", digest=digest).skipped
    assert not (workdir / "f").is_symlink() and (workdir / "g").read_bytes() == b"theirs"


def test_owner_and_mode_are_kept(uploads):
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    file = uploads.ready.workdir / "f"
    file.write_bytes(b"old")
    os.chown(file, 12345, 23456)
    file.chmod(0o6750)
    for fields in ({}, {"upload_id": "a"}):
        uploads.upload("f", b"new", **fields)
        info = file.stat()
        assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (12345, 23456, 0o750)
    uploads.upload("f", b"new", mode=0o6711)
    assert file.stat().st_mode & 0o7777 == 0o711


def test_digest_of_an_archive(uploads):
    from test_transfer import make_tar

    data = make_tar([("one", {}, b"1")])
    digest = {"algorithm": "DIGEST_ALGORITHM_SHA256", "value": hashlib.sha256(data).digest()}
    assert uploads.upload("t", data, is_archive=True, digest=digest).entries == 1
    digest["value"] = bytes(32)
    with fails(grpc.StatusCode.DATA_LOSS, "digest"):
        uploads.upload("t", data, is_archive=True, digest=digest)
    digest = {"algorithm": "DIGEST_ALGORITHM_XXH3_128", "value": bytes(16)}
    with fails(grpc.StatusCode.DATA_LOSS, "digest"):
        uploads.upload("t", data, is_archive=True, digest=digest)


def test_leftovers_go(ready, uploads, half):
    """When the supervisor starts: what nobody goes on with, but not what may be gone on with."""
    workdir = ready.workdir
    (workdir / "deep/er").mkdir(parents=True)
    journal = next(workdir.glob("*.journal"))
    part = journal.with_suffix("")
    old = time.time() - 25 * 3600
    for name in (".x.towline-0123abcd", "deep/er/.y.towline-0123456789abcdef"):
        (workdir / name).write_bytes(b"x")
        os.utime(workdir / name, (old, old))
    (workdir / ".z.towline-note").write_bytes(b"the user's")
    os.utime(workdir / ".z.towline-note", (old, old))

    def start_again():
        ready.gateway.stub.StopSandbox(pb.StopSandboxRequest(name=ready.name), timeout=20)
        ready.gateway.wait_phase(ready.name, "STOPPED")
        ready.gateway.stub.StartSandbox(pb.StartSandboxRequest(name=ready.name), timeout=20)
        ready.gateway.wait_phase(ready.name, "READY")

    start_again()
    kept = sorted([part.name, journal.name, ".z.towline-note", "deep"])
    wait_until(lambda: uploads.names() == kept and not list((workdir / "deep/er").iterdir()), 10, "swept")
    assert uploads.durable("h") == 2 * MIB
    journal.write_bytes(b"")  # so that its time is the file's
    for file in (part, journal):
        os.utime(file, (old, old))
    start_again()
    wait_until(lambda: uploads.names() == [".z.towline-note", "deep"], 10, "it has expired")
    with fails(grpc.StatusCode.NOT_FOUND):
        uploads.query("h")
