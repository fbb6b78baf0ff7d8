"""towline cp --if-exists: what becomes of a file that is there already."""

import os
import random
import time

import pytest
from conftest import wait_until
from towline_cli import box  # noqa: F401

MIB = 1 << 20


class Way:
    """Copies of f, one way: from there, to there."""

    def __init__(self, box, up):
        self.box, self.up = box, up
        self.source = (box.here if up else box.workdir) / "f"
        self.target = (box.workdir if up else box.here) / "g"
        self.words = ("f", "box:g") if up else ("box:f", "g")

    def __call__(self, what, **options):
        return self.box("-o", "json", "cp", f"--if-exists={what}", *self.words, **options)

    def check(self):
        assert self.target.read_bytes() == self.source.read_bytes()
        assert not self.target.is_symlink()
        assert [path.name for path in self.target.parent.iterdir() if path.name != "f"] == ["g"]


@pytest.fixture(params=["up", "down"])
def way(request, box):
    return Way(box, request.param == "up")


def content(size, seed=1):
    return random.Random(seed).randbytes(size)


def test_replace(way):
    way.source.write_bytes(b"new")
    for old in (None, b"old"):
        if old is not None:
            way.target.write_bytes(old)
        assert "same" not in way("replace").json["copies"][0]
        way.check()


@pytest.mark.parametrize("size", [0, 3, 9 * MIB])
def test_fail(way, size):
    way.source.write_bytes(content(size))
    way("fail")
    way.check()
    way.target.write_bytes(b"old")
    done = way("fail", code=1)
    assert done.json["copies"][0]["error"]["code"] == "ALREADY_EXISTS"
    assert "is there already, and must not be replaced" in done.err
    assert way.target.read_bytes() == b"old"
    way.target.unlink()
    way.target.symlink_to("nowhere")
    assert way("fail", code=1).json["failed"] == 1
    assert os.readlink(way.target) == "nowhere"


def test_fail_with_what_comes_meanwhile(way):
    """It is asked again when the copy is complete, in the rename."""
    way.source.write_bytes(content(8 * MIB) * 64)
    process = way.box.popen("cp", "--if-exists=fail", *way.words)
    part = ".g.towline-"
    wait_until(lambda: any(p.name.startswith(part) for p in way.target.parent.iterdir()), 20, "it has begun")
    way.target.write_bytes(b"theirs")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and b"exists" in err.lower(), err
    assert way.target.read_bytes() == b"theirs"
    wait_until(lambda: not any(p.name.startswith(part) for p in way.target.parent.iterdir()), 10, "nothing is left")


@pytest.mark.parametrize("size", [0, 3, 70 * MIB])
def test_skip(way, size):
    data = content(size)
    way.source.write_bytes(data)
    first = way("skip").json["copies"][0]
    assert first["moved"] == size and "same" not in first
    way.check()
    old = way.target.stat()
    again = way("skip").json["copies"][0]
    assert (again["same"], again["moved"], again["bytes"]) == (True, 0, size)
    assert again["xxh3_128"] == first["xxh3_128"]
    assert way.target.stat() == old
    assert "1 the same already" in way.box("cp", "--if-exists=skip", *way.words).err

    others = [data + b"x", data[:-1], content(size, 2)]
    for other in others[: 3 if size else 1]:
        way.target.write_bytes(other)
        assert way("skip").json["copies"][0]["moved"] == size
        way.check()


def test_skip_where_no_file_is(way):
    data = content(MIB)
    way.source.write_bytes(data)
    (way.target.parent / "other").write_bytes(data)
    way.target.symlink_to("other")
    assert way("skip").json["copies"][0]["moved"] == MIB
    (way.target.parent / "other").unlink()
    way.check()
    way.target.unlink()
    os.mkfifo(way.target)
    began = time.monotonic()
    assert way("skip").json["copies"][0]["moved"] == MIB
    assert time.monotonic() - began < 20
    way.check()


def test_skip_of_what_is_missing(way):
    way.target.write_bytes(b"old")
    assert way("skip", code=1).json["copies"][0]["error"]["code"] == "NOT_FOUND"
    assert way.target.read_bytes() == b"old"


def test_several(way):
    box, here, there = way.box, way.source.parent, way.target.parent
    (there / "d").mkdir()
    for name in ("a", "b", "c"):
        (here / name).write_bytes(content(1000, name))
    (there / "d/a").write_bytes(content(1000, "a"))
    (there / "d/b").write_bytes(b"old")
    words = ["a", "b", "c", "box:d"] if way.up else ["box:a", "box:b", "box:c", "d"]
    copies = box("-o", "json", "cp", "--if-exists", "skip", *words).json["copies"]
    assert [copy.get("same", False) for copy in copies] == [True, False, False]
    (there / "d/c").unlink()
    copies = box("-o", "json", "cp", "--if-exists", "fail", *words, code=1).json["copies"]
    assert [copy.get("error", {}).get("code") for copy in copies] == ["ALREADY_EXISTS", "ALREADY_EXISTS", None]
    assert [(there / "d" / name).read_bytes() for name in "abc"] == [(here / name).read_bytes() for name in "abc"]


def test_what_it_is_not_for(box):
    (box.here / "tree").mkdir()
    (box.here / "tree/f").write_text("f")
    for what in ("fail", "skip"):
        assert "for files" in box("cp", f"--if-exists={what}", "tree", "box:", code=1).err
    assert not list(box.workdir.iterdir())
    assert "cannot be compared" in box("cp", "--if-exists=skip", "-", "box:f", input=b"x", code=1).err
    box("cp", "--if-exists=fail", "-", "box:f", input=b"x")
    assert "must not be replaced" in box("cp", "--if-exists=fail", "-", "box:f", input=b"x", code=1).err
    with open(box.here / "tree/f", "rb") as file:
        box("cp", "--if-exists=skip", "-", "box:f", stdin=file)
    assert (box.workdir / "f").read_text() == "f"
    assert "none of replace, fail and skip" in box("cp", "--if-exists=maybe", "tree/f", "box:", code=2).err
