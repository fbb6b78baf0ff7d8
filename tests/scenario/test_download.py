"""DownloadFile: ranges, prefixes in digests, holes, and files that change while they are read."""

import ctypes
import os
import random
import socket
import time

import grpc
import pytest
from conftest import fails
from test_transfer import API, MESSAGE, Files

MIB = 1 << 20


@pytest.fixture
def files(ready):
    return Files(ready)


def request(ready, path, **fields):
    return API[MESSAGE("DownloadFileRequest")](sandbox=ready.name, remote_path=path, **fields)


def parts(files, ready, path, **fields):
    """(header, [bytes, or the size of a hole], trailer)"""
    header, content, trailer = None, [], None
    for response in files._download(request(ready, path, **fields), timeout=60):
        kind = response.WhichOneof("payload")
        if kind == "header":
            header = response.header
        elif kind == "trailer":
            trailer = response.trailer
        else:
            content.append(getattr(response, kind))
    return header, content, trailer


def joined(content):
    return b"".join(bytes(part) if isinstance(part, int) else part for part in content)


class Hash(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


XXH3 = ctypes.CDLL("libxxhash.so.0").XXH3_128bits
XXH3.restype = Hash
XXH3.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def digest(data):
    value = XXH3(data, len(data))
    return value.high.to_bytes(8, "big") + value.low.to_bytes(8, "big")


def make_sparse(path, size, pieces):
    with open(path, "wb") as file:
        file.truncate(size)
        for at, data in pieces:
            file.seek(at)
            file.write(data)


LAYOUTS = {
    "data in the middle": (8 * MIB, [(3 * MIB, b"x" * 100_000)]),
    "data at both ends": (8 * MIB, [(0, b"a" * 5000), (8 * MIB - 3, b"end")]),
    "nothing but a hole": (5 * MIB + 1, []),
    "holes too small to tell": (MIB, [(i * 16384, b"y" * 4096) for i in range(64)]),
    "more than one message's hole": (200 * MIB, [(130 * MIB, b"z" * 70_000)]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_holes_are_told(files, ready, name):
    size, pieces = LAYOUTS[name]
    make_sparse(ready.workdir / "f", size, pieces)
    data = (ready.workdir / "f").read_bytes()
    header, content, trailer = parts(files, ready, "f", sparse_ok=True)
    assert header.sparse and header.size_bytes == size
    assert joined(content) == data
    assert (trailer.bytes, trailer.digest.value) == (size, digest(data))
    sent = sum(len(part) for part in content if isinstance(part, bytes))
    if name == "holes too small to tell":
        assert sent == size
    else:
        assert sent < size / 4
        assert all(part <= 64 * MIB for part in content if isinstance(part, int))
    for offset, length in ((1, 0), (size * 3 // 8 - 1, 70_000), (size - 2, 2), (size // 2, size // 4)):
        header, content, trailer = parts(files, ready, "f", sparse_ok=True, offset=offset, length=length)
        want = data[offset : offset + length] if length else data[offset:]
        assert joined(content) == want and trailer.digest.value == digest(want)


def test_holes_are_zeros_for_who_did_not_ask(files, ready):
    make_sparse(ready.workdir / "f", 8 * MIB, [(5 * MIB, b"data")])
    data = (ready.workdir / "f").read_bytes()
    header, content, trailer = files.download("f")
    assert not header.sparse and content == data and trailer.digest.value == digest(data)


def test_without_holes_nothing_is_said_of_them(files, ready):
    data = os.urandom(3 * MIB)
    files.upload("f", data)
    header, content, _ = parts(files, ready, "f", sparse_ok=True)
    assert not header.sparse and b"".join(content) == data


@pytest.mark.parametrize("size", [1, 65536, 20 * MIB + 7])
def test_a_prefix_in_the_digest(files, ready, size):
    data = random.Random(size).randbytes(size)
    (ready.workdir / "f").write_bytes(data)
    for offset in {0, 1, size // 2, size}:
        for prefix in {0, min(1, offset), offset // 2, offset}:
            header, content, trailer = parts(files, ready, "f", offset=offset, prefix_bytes=prefix)
            assert joined(content) == data[offset:]
            assert trailer.digest.value == digest(data[offset - prefix :])
            assert trailer.bytes == size - offset
            assert trailer.digest_bytes == (size - offset + prefix if prefix else 0)
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "prefix_bytes"):
        parts(files, ready, "f", offset=1, prefix_bytes=2)
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "prefix_bytes"):
        parts(files, ready, ".", as_archive=True, prefix_bytes=1, offset=1)


def test_a_file_that_changes_is_another(files, ready):
    path = ready.workdir / "f"
    path.write_bytes(b"one")
    etag = files.download("f")[0].etag
    for change in (
        lambda: path.write_bytes(b"two"),
        lambda: os.utime(path, ns=(1, 1)),
        lambda: path.rename(ready.workdir / "g") and (ready.workdir / "g").rename(path),
        lambda: path.chmod(0o600),
    ):
        time.sleep(0.02)  # times of files are as coarse as the kernel's clock
        change()
        with fails(grpc.StatusCode.FAILED_PRECONDITION, "if_match"):
            files.download("f", if_match=etag)
        etag = files.download("f", if_match="")[0].etag
    assert files.download("f", if_match=etag, offset=1)[1] == path.read_bytes()[1:]


def begun(files, ready, size):
    """A download of which not much can have been read, and the rest of it."""
    (ready.workdir / "f").write_bytes(os.urandom(MIB) * (size // MIB))
    call = files._download(request(ready, "f"), timeout=60)
    header = next(call).header
    assert header.size_bytes == size
    return call


def test_a_file_that_shrinks(files, ready):
    call = begun(files, ready, 256 * MIB)
    os.truncate(ready.workdir / "f", MIB)
    with fails(grpc.StatusCode.ABORTED, "shrank"):
        for response in call:
            assert response.WhichOneof("payload") == "chunk"


def test_a_file_that_grows(files, ready):
    call = begun(files, ready, 64 * MIB)
    with open(ready.workdir / "f", "ab") as file:
        file.write(b"more" * MIB)
    answers = list(call)
    assert sum(len(answer.chunk) for answer in answers) == 64 * MIB
    assert answers[-1].trailer.bytes == 64 * MIB


@pytest.mark.parametrize("kind", ["fifo", "device", "socket", "directory", "link to a fifo"])
def test_what_is_no_file(files, ready, kind):
    path = ready.workdir / "x"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(os.path.relpath(path))
    elif kind == "link to a fifo":
        os.mkfifo(ready.workdir / "pipe")
        path.symlink_to("pipe")
    name = "/dev/zero" if kind == "device" else "x"
    began = time.monotonic()
    with fails(grpc.StatusCode.FAILED_PRECONDITION, name):
        files.download(name)
    assert time.monotonic() - began < 5
