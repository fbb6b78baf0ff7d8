"""towline sync: one directory as the other is, and only what differs goes over."""

import os
import random
import stat

import pytest
from towline_cli import box  # noqa: F401

SMALL = 64 << 10  # files below go whole
ODD = ["a b", "ü€😀", "-rf", "*?[x]", "back\\slash", "new\nline", "n" * 255, ".hidden", "trail "]


def fill(top):
    (top / "d/e").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "f").write_bytes(b"one")
    (top / "none").write_bytes(b"")
    (top / "d.e").write_bytes(b"sorts behind what is in d")
    (top / "d/e/g").write_bytes(random.Random(2).randbytes(700_000))
    (top / "d/run").write_text("#!/bin/sh\n")
    (top / "d/run").chmod(0o755)
    (top / "link").symlink_to("d/e/g")
    os.utime(top / "f", ns=(1_000_000_000_123_456_789, 1_000_000_000_123_456_789))
    for name in ODD:
        (top / "d" / name).write_text(name)
    (top / os.fsdecode(b"no\xffutf-8")).write_text("x")
    return top


def picture(top):
    found = {}
    for path in sorted(top.rglob("*")):
        info = path.lstat()
        content = None
        if stat.S_ISLNK(info.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(info.st_mode):
            content = (path.read_bytes(), stat.S_IMODE(info.st_mode), info.st_mtime_ns)
        found[str(path.relative_to(top))] = (stat.S_IFMT(info.st_mode), content)
    return found


class Pair:
    """A directory here and one in the sandbox, and syncs from one to the other."""

    def __init__(self, box, up):  # noqa: F811
        self.box = box
        self.up = up
        here, there = box.here / "tree", box.workdir / "tree"
        self.source, self.target = (here, there) if up else (there, here)
        self.source.mkdir()

    def words(self, *flags):
        ends = ("tree", "box:tree") if self.up else ("box:tree", "tree")
        return ("sync", *flags, *ends)

    def __call__(self, *flags, code=0):
        return self.box("-o", "json", *self.words(*flags), code=code).json

    def text(self, *flags, code=0):
        return self.box(*self.words(*flags), code=code)

    def same(self):
        return picture(self.source) == picture(self.target)


@pytest.fixture(params=["up", "down"])
def pair(request, box):  # noqa: F811
    return Pair(box, request.param == "up")


def test_all_goes_over_once(pair):
    fill(pair.source)
    first = pair()
    assert pair.same()
    assert first["failed"] == first["skipped"] == 0
    assert first["files"] == 6 + len(ODD)
    again = pair()
    assert (again["files"], again["made"], again["touched"]) == (0, 0, 0)
    assert again["same"] > 10
    assert again["sent_bytes"] + again["received_bytes"] < 2000


def test_an_empty_directory(pair):
    assert pair()["files"] == 0
    assert pair.target.is_dir()
