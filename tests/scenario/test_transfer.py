"""UploadFile and DownloadFile: whole and verified, or not at all."""

import hashlib
import io
import os
import subprocess
import tarfile

import grpc
import pytest
import towline_api
from conftest import fails, wait_until
from openshell._proto import openshell_pb2 as pb

API = towline_api.load()
MESSAGE = "openshell.v1.{}".format


class Files:
    """The two calls, on a sandbox."""

    def __init__(self, ready):
        self.ready = ready
        self.channel = ready.gateway.channel()
        self._upload = API.method(self.channel, MESSAGE("OpenShell/UploadFile"))
        self._download = API.method(self.channel, MESSAGE("OpenShell/DownloadFile"))

    def request(self, **fields):
        return API[MESSAGE("UploadFileRequest")](**fields)

    def upload(self, path, data=b"", chunk=1 << 20, **metadata):
        metadata = {"sandbox": self.ready.name, "remote_path": path, "size_bytes": len(data), **metadata}
        chunks = (self.request(chunk=data[i : i + chunk]) for i in range(0, len(data), chunk))

        def requests():
            yield self.request(metadata=metadata)
            yield from chunks

        return self._upload(requests(), timeout=60)

    def asking_for(self, path, **fields):
        return API[MESSAGE("DownloadFileRequest")](sandbox=self.ready.name, remote_path=path, **fields)

    def download(self, path, **fields):
        """(header, content, trailer)"""
        request = self.asking_for(path, **fields)
        header, content, trailer = None, [], None
        for response in self._download(request, timeout=60):
            kind = response.WhichOneof("payload")
            assert trailer is None
            if kind == "header":
                assert header is None
                header = response.header
            elif kind == "chunk":
                content.append(response.chunk)
            else:
                trailer = response.trailer
        assert trailer is not None
        return header, b"".join(content), trailer


@pytest.fixture
def files(ready):
    return Files(ready)


def listing(ready):
    return sorted(str(path.relative_to(ready.workdir)) for path in ready.workdir.rglob("*"))


@pytest.mark.parametrize("size", [0, 1, 65536, 1 << 20, (5 << 20) + 1])
def test_round_trip(files, ready, size):
    data = os.urandom(size)
    answer = files.upload("sub/dir/file", data, mode=0o640, modified_time={"seconds": 1_000_000_000, "nanos": 5})
    assert answer.bytes_written == size
    placed = ready.workdir / "sub/dir/file"
    assert placed.read_bytes() == data
    assert placed.stat().st_mode & 0o7777 == 0o640
    assert placed.stat().st_mtime_ns == 1_000_000_000_000_000_005
    assert listing(ready) == ["sub", "sub/dir", "sub/dir/file"]
    header, content, trailer = files.download("sub/dir/file")
    assert (header.size_bytes, header.mode, content) == (size, 0o640, data)
    assert (trailer.bytes, trailer.digest) == (size, answer.digest)


def test_absolute_paths_and_any_chunk_size(files, ready):
    data = os.urandom(300_000)
    files.upload(str(ready.workdir / "absolute"), data, chunk=777)
    assert (ready.workdir / "absolute").read_bytes() == data
    files.upload("unknown-size", data, size_bytes=0, size_unknown=True)
    assert files.download("unknown-size")[1] == data


def test_ranges(files):
    data = os.urandom(200_000)
    files.upload("f", data)
    for offset, length in ((0, 10), (100_000, 0), (199_999, 5), (200_000, 0), (70_000, 70_000)):
        header, content, trailer = files.download("f", offset=offset, length=length)
        want = data[offset : offset + length] if length else data[offset:]
        assert content == want
        if offset or length:
            assert header.total_bytes == len(data)
    with fails(grpc.StatusCode.OUT_OF_RANGE, "200001"):
        files.download("f", offset=200_001)
    header, _, _ = files.download("f")
    files.download("f", if_match=header.etag)
    files.upload("f", data)
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "if_match"):
        files.download("f", if_match=header.etag)


def test_digests(files, ready):
    data = os.urandom(100_000)
    good = hashlib.sha256(data).digest()
    files.upload("f", data, digest={"algorithm": "DIGEST_ALGORITHM_SHA256", "value": good})
    xxh3 = files.download("f")[2].digest
    files.upload("f", data, digest=xxh3)
    with fails(grpc.StatusCode.DATA_LOSS, "digest"):
        files.upload("f", b"other", digest={"algorithm": "DIGEST_ALGORITHM_SHA256", "value": good})
    with fails(grpc.StatusCode.DATA_LOSS, "digest"):
        files.upload("f", b"other", digest=xxh3)
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "digest"):
        files.upload("f", data, digest={"algorithm": "DIGEST_ALGORITHM_SHA256", "value": b"short"})
    assert (ready.workdir / "f").read_bytes() == data
    assert listing(ready) == ["f"]


def test_size_must_be_as_promised(files, ready):
    files.upload("f", b"old")
    for size in (2, 4):
        with fails(grpc.StatusCode.DATA_LOSS, "promised"):
            files.upload("f", b"new", size_bytes=size)
    assert (ready.workdir / "f").read_bytes() == b"old"
    assert listing(ready) == ["f"]


def test_bad_targets(files, ready):
    (ready.workdir / "dir").mkdir()
    (ready.workdir / "out").symlink_to("/etc")
    for path, code, word in (
        ("dir", grpc.StatusCode.FAILED_PRECONDITION, "directory"),
        ("../x", grpc.StatusCode.PERMISSION_DENIED, "out of"),
        ("out/x", grpc.StatusCode.PERMISSION_DENIED, "out of"),
        ("", grpc.StatusCode.INVALID_ARGUMENT, "remote_path"),
        ("n" * 5000, grpc.StatusCode.INVALID_ARGUMENT, "5000"),
        ("n" * 300, grpc.StatusCode.INVALID_ARGUMENT, "too long"),
        ("nul\0x", grpc.StatusCode.INVALID_ARGUMENT, ""),
    ):
        with fails(code, word):
            files.upload(path, b"x")
    with fails(grpc.StatusCode.NOT_FOUND, "missing"):
        files.upload("missing/x", b"x", no_parents=True)
    with fails(grpc.StatusCode.NOT_FOUND, "missing"):
        files.download("missing")
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "archive"):
        files.download("dir")
    os.mkfifo(ready.workdir / "pipe")
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "pipe"):
        files.download("pipe")
    assert listing(ready) == ["dir", "out", "pipe"]


def test_first_message(files):
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "metadata"):
        files._upload(iter([files.request(chunk=b"x")]), timeout=30)
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "metadata"):
        files._upload(iter([]), timeout=30)
    first = files.request(metadata={"sandbox": files.ready.name, "remote_path": "f", "size_unknown": True})
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "second metadata"):
        files._upload(iter([first, first]), timeout=30)


def test_client_goes_in_the_middle(files, ready):
    files.upload("f", b"old")
    first = files.request(metadata={"sandbox": ready.name, "remote_path": "f", "size_bytes": 1 << 30})

    def endless():
        yield first
        while True:
            yield files.request(chunk=bytes(100_000))

    call = files._upload.future(endless(), timeout=60)
    wait_until(lambda: len(listing(ready)) == 2, 10, "a part file is there")
    call.cancel()
    wait_until(lambda: listing(ready) == ["f"], 10, "the part file is gone")
    assert (ready.workdir / "f").read_bytes() == b"old"


@pytest.fixture
def small_disk(ready):
    """A file system of 1 MiB in the working directory, mounted before the sandbox started."""
    if os.geteuid() != 0:
        pytest.skip("a small file system needs root")
    gateway, small = ready.gateway, ready.workdir / "small"

    def stop():
        gateway.stub.StopSandbox(pb.StopSandboxRequest(name=ready.name), timeout=10)
        gateway.wait_phase(ready.name, "STOPPED")

    stop()
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        gateway.stub.StartSandbox(pb.StartSandboxRequest(name=ready.name), timeout=10)
        gateway.wait_phase(ready.name, "READY")
        yield small
        stop()
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)


def test_full_disk(small_disk, ready):
    files = Files(ready)
    files.upload("small/f", b"old")
    too_much = os.urandom(2 << 20)
    full = grpc.StatusCode.RESOURCE_EXHAUSTED
    with fails(full, "small/f", "No space"):
        files.upload("small/f", too_much)
    with fails(full, "small/f", "No space"):  # found out when it is written
        files.upload("small/f", too_much, size_bytes=0, size_unknown=True)
    with fails(full, "big", "No space"):
        files.upload("small", make_tar([("one", {}, b"1"), ("big", {}, too_much)]), is_archive=True)
    assert sorted(path.name for path in small_disk.iterdir()) == ["f", "one"]
    assert (small_disk / "f").read_bytes() == b"old"
    files.upload("small/f", b"new")
    assert (small_disk / "f").read_bytes() == b"new"


def make_tar(entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, fields, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def test_archive_round_trip(files, ready):
    names = {f"d{i % 7}/f{i}": os.urandom(i * 10) for i in range(300)}
    data = make_tar([(name, {"mode": 0o600}, content) for name, content in names.items()])
    answer = files.upload("tree", data, is_archive=True)
    assert answer.entries == 300
    assert answer.bytes_written == sum(map(len, names.values()))
    for name, content in names.items():
        assert (ready.workdir / "tree" / name).read_bytes() == content
    for compression, mode in (("NONE", "r:"), ("GZIP", "r:gz")):
        header, content, trailer = files.download(
            "tree", as_archive=True, compression=f"COMPRESSION_{compression}"
        )
        assert header.is_archive
        with tarfile.open(fileobj=io.BytesIO(content), mode=mode) as tar:
            got = {m.name.removeprefix("./"): tar.extractfile(m).read() for m in tar if m.isfile()}
        assert got == names
        assert trailer.entries == 300 + 7 + 1
    header, content, _ = files.download("tree/d1/f1", as_archive=True)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert tar.getnames() == ["f1"]


@pytest.mark.parametrize(
    "name,fields",
    [
        ("/abs", {}),
        ("../up", {}),
        ("a/../../up", {}),
        ("link", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        ("link", {"type": tarfile.LNKTYPE, "linkname": "../../../etc/passwd"}),
        ("dev", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}),
    ],
)
def test_hostile_archives(files, ready, name, fields):
    with fails(grpc.StatusCode.PERMISSION_DENIED, name):
        files.upload("tree", make_tar([(name, fields, b"")]), is_archive=True)
    assert not list((ready.workdir / "tree").iterdir())
    assert not (ready.workdir / "up").exists()


def test_damaged_archives(files):
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "archive"):
        files.upload("tree", b"no archive at all" * 1000, is_archive=True)
    whole = make_tar([("f", {}, b"x" * 10_000)])
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        files.upload("tree", whole[:5000], is_archive=True)
