"""Archives that mean harm, or lie: refused or defused, by the name of the entry."""

import gzip
import io
import os
import stat
import tarfile

import grpc
import pytest
from conftest import fails
from test_transfer import Files, listing, make_tar

DENIED, INVALID = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT
EXHAUSTED, FAILED = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.FAILED_PRECONDITION


@pytest.fixture
def unpack(ready):
    """Unpacks into the sandbox; in the end no part of a file is left, and nothing outside."""
    files = Files(ready)
    place = ready.gateway.sandbox_dir(ready.id)
    outside = sorted(place.iterdir())

    def unpack(data, path="tree"):
        return files.upload(path, data, is_archive=True)

    yield unpack
    assert not [name for name in listing(ready) if "towline" in name]
    assert sorted(place.iterdir()) == outside


def link(target):
    return {"type": tarfile.SYMTYPE, "linkname": target}


def hard(target):
    return {"type": tarfile.LNKTYPE, "linkname": target}


@pytest.mark.parametrize(
    "entries,words",
    [
        ([("good", {}, b""), ("/abs", {}, b"")], "/abs"),
        ([("//abs", {}, b"")], "//abs"),
        ([("a/..", {}, b"")], "a/.."),
        ([("./../up", {}, b"")], "../up"),
        ([("up", link(".."), b"")], "up"),
        ([("sub/up", link("../../x"), b"")], "sub/up"),
        ([("pw", link("/etc/passwd"), b"")], "pw"),
        ([("pw", hard("/etc/passwd"), b"")], "pw"),
        ([("pw", hard("../supervisor.pid"), b"")], "pw"),
        ([("null", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, b"")], "null"),
        ([("disk", {"type": tarfile.BLKTYPE, "devmajor": 8, "devminor": 0}, b"")], "disk"),
        ([("pipe", {"type": tarfile.FIFOTYPE}, b"")], "pipe"),
    ],
    ids=lambda value: value.replace("/", "_") if isinstance(value, str) else "",
)
def test_refused(unpack, ready, entries, words):
    """Alone: what is beside it is unpacked."""
    with fails(DENIED, words, f"1 of {len(entries) + 1} entries"):
        unpack(make_tar([*entries, ("after", {}, b"")]))
    made = ["tree", "tree/after", "tree/good", "tree/sub"]
    assert listing(ready) in (made[:2], made[:3], made[:2] + made[3:])


def test_links_are_not_followed(unpack, ready):
    """Neither those of the archive, nor those that were there before."""
    tree = ready.workdir / "tree"
    tree.mkdir()
    (tree / "out").symlink_to("/etc")
    (tree / "aside").symlink_to("real")
    (tree / "real").mkdir()
    for name in ("out/x", "aside/x"):
        with fails(FAILED, name, "link"):
            unpack(make_tar([(name, {}, b"bad")]))
    with fails(FAILED, "b/x", "link"):  # two steps, each of which looks harmless
        unpack(make_tar([("a", link("real"), b""), ("b", link("a/.."), b""), ("b/x", {}, b"bad")]))
    assert not os.path.exists("/etc/x") and not list((tree / "real").iterdir())


def test_a_link_is_replaced_and_not_written_through(unpack, ready):
    tree = ready.workdir / "tree"
    tree.mkdir()
    (ready.workdir / "precious").write_text("old")
    (tree / "f").symlink_to("../precious")
    unpack(make_tar([("f", {}, b"new")]))
    assert (tree / "f").read_text() == "new" and not (tree / "f").is_symlink()
    assert (ready.workdir / "precious").read_text() == "old"


def test_rights_are_what_they_may_be(unpack, ready):
    """Neither setuid, nor setgid, nor sticky; and the owner is who runs there."""
    entries = [
        ("d", {"type": tarfile.DIRTYPE, "mode": 0o7755, "uid": 1234}, b""),
        ("d/f", {"mode": 0o6755, "uid": 1234, "gid": 1234, "uname": "nobody"}, b"x"),
        ("g", {"mode": 0o2777}, b"x"),
    ]
    unpack(make_tar(entries))
    for name, mode in (("d", 0o755), ("d/f", 0o755), ("g", 0o777)):
        status = (ready.workdir / "tree" / name).stat()
        assert stat.S_IMODE(status.st_mode) == mode
        assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())


def test_names(unpack, ready):
    with fails(INVALID, "n" * 90):
        unpack(make_tar([("n" * 5000, {}, b"")]))
    with fails(INVALID, "d/d/d"):
        unpack(make_tar([("d/" * 200 + "f", {}, b"")]))
    with fails(DENIED) as caught:
        unpack(make_tar([("../\x1b[2J\n", {}, b"")]))
    assert "\x1b" not in caught.value.details() and "\n" not in caught.value.details()
    unpack(make_tar([("new\nline", {}, b"x"), ("./a//b/./c", {}, b"y")]))
    assert listing(ready) == ["tree", "tree/a", "tree/a/b", "tree/a/b/c", "tree/new\nline"]


def test_too_many_entries(unpack, ready):
    """A million and one, packed so small that they are soon sent."""
    header = tarfile.TarInfo("./").tobuf()
    thousand = gzip.compress(header * 1000, 1)
    with fails(EXHAUSTED, "1000000 entries"):
        unpack(thousand * 1000 + gzip.compress(header + bytes(1024)))


def test_bomb(unpack, ready):
    with fails(EXHAUSTED, "zeros"):
        unpack(gzip.compress(make_tar([("small", {}, b"x"), ("zeros", {}, bytes(64 << 20))]), 9))
    assert listing(ready) == ["tree", "tree/small"]
    many = [(f"f{n}", {}, bytes(1 << 20)) for n in range(64)]
    with fails(EXHAUSTED, "f"):
        unpack(gzip.compress(make_tar(many), 9), "more")


def lying(name, size, content=b"", pax=None):
    """A file of a size that its header says, and fewer bytes."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.pax_headers = pax or {}
    return info.tobuf(tarfile.PAX_FORMAT) + content


def test_lying_headers(unpack, ready):
    with fails(INVALID, "short"):
        unpack(lying("short", 100_000, b"x" * 1000))
    with fails(EXHAUSTED, "huge"):
        unpack(lying("huge", 1 << 62, b"x" * 512))
    with fails(INVALID):  # the extended header's size counts
        unpack(lying("pax", 10, b"x" * 512, {"size": "-5"}))
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "holes"}
    sparse["GNU.sparse.realsize"] = str(1 << 60)
    with fails(EXHAUSTED, "holes"):
        unpack(lying("s", 512, b"1\n0\n0\n".ljust(512, b"\0"), sparse) + bytes(1024))
    damaged = bytearray(make_tar([("f", {}, b"x")]))
    damaged[10] ^= 1
    with fails(INVALID, "archive"):
        unpack(bytes(damaged))
    assert listing(ready) == ["tree"]


@pytest.mark.parametrize(
    "data",
    [
        b"Rar!\x1a\x07\x01\x00" + bytes(1000),
        b"PK\x03\x04" + bytes(1000),
        b"7z\xbc\xaf\x27\x1c" + bytes(1000),
        b"070707" + b"0" * 1000,
        b"!<arch>\n" + b"x" * 1000,
        b"\x1f\x8b\x08" + os.urandom(1000),
        b"\x28\xb5\x2f\xfd" + os.urandom(1000),
        b"BZh9" + os.urandom(1000),
        b"#mtree\n./etc type=file\n",
    ],
    ids=["rar", "zip", "7z", "cpio", "ar", "gzip", "zstd", "bzip2", "mtree"],
)
def test_other_formats(unpack, ready, data):
    """Tar is read, plain, with gzip or zstd, and nothing else that a library could."""
    with fails(INVALID, "archive"):
        unpack(data)
    assert listing(ready) == ["tree"]


def test_what_came_before_stays(unpack, ready):
    """Entry by entry: an archive is not undone, and says how far it came by its error."""
    (ready.workdir / "tree").mkdir()
    (ready.workdir / "tree" / "old").write_text("old")
    out = io.BytesIO(make_tar([("first", {}, b"1"), ("old", {}, b"x" * 5000)])[:3000])
    with fails(INVALID, "old"):
        unpack(out.getvalue())
    assert (ready.workdir / "tree" / "first").read_bytes() == b"1"
    assert (ready.workdir / "tree" / "old").read_text() == "old"
