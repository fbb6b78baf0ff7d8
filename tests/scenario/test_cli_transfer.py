"""towline sandbox upload and download: where copies go, and what is said of them."""

import json
import os
import random
import re
import signal
import socket
import stat
import time

import pytest
from conftest import wait_until
from towline_cli import PROGRAM, box  # noqa: F401

UP = ("sandbox", "upload", "box")
DOWN = ("sandbox", "download", "box")
ODD = ["a b", "ü€😀", "-rf", "*?[x]", "'\"`$(id)", "back\\slash", "new\nline", "~", "#x#", "n" * 255, ".hidden", "trail "]


def make_tree(top):
    (top / "d/e").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "f").write_bytes(b"one")
    (top / "d/e/g").write_bytes(random.Random(2).randbytes(200_000))
    (top / "d/run").write_text("#!/bin/sh\n")
    (top / "d/run").chmod(0o755)
    (top / "link").symlink_to("d/e/g")
    (top / "dangling").symlink_to("nowhere")
    os.link(top / "f", top / "hard")
    os.utime(top / "f", ns=(1_000_000_000_123_456_789, 1_000_000_000_123_456_789))
    return top


def picture(top):
    """What is there, as one value; times to the second, as archives have them."""
    found = {}
    for path in sorted(top.rglob("*")):
        info = path.lstat()
        content = None
        if stat.S_ISLNK(info.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(info.st_mode):
            content = (path.read_bytes(), info.st_mtime_ns // 10**9)
        mode = None if stat.S_ISLNK(info.st_mode) else stat.S_IMODE(info.st_mode)
        found[str(path.relative_to(top))] = (stat.S_IFMT(info.st_mode), mode, content)
    return found


@pytest.mark.parametrize("size", [0, 1, 65536, (3 << 20) + 1])
def test_a_file_there_and_back(box, size):
    data = random.Random(size).randbytes(size)
    (box.here / "f").write_bytes(data)
    (box.here / "f").chmod(0o640)
    up = box("-o", "json", *UP, "f").json
    assert (up["files"], up["bytes"], up["skipped"]) == (1, size, 0)
    assert (box.workdir / "f").read_bytes() == data
    assert stat.S_IMODE((box.workdir / "f").stat().st_mode) == 0o640
    down = box("-o", "json", *DOWN, "f", "back").json
    assert (box.here / "back").read_bytes() == data
    assert down["xxh3_128"] == up["xxh3_128"]
    assert (box.here / "back").stat().st_mtime_ns == (box.here / "f").stat().st_mtime_ns


def test_a_tree_there_and_back(box):
    tree = make_tree(box.here / "tree")
    up = box(*UP, "tree")
    assert "uploaded tree to ./tree: 6 files" in up.err and up.out == ""
    assert picture(box.workdir / "tree") == picture(tree)
    box(*DOWN, "tree", "back")
    assert picture(box.here / "back") == picture(tree)


def test_odd_names(box):
    top = box.here / "odd ü"
    top.mkdir()
    for name in ODD:
        (top / name).write_text(name)
    (top / os.fsdecode(b"latin \xfc")).write_text("bytes")
    box(*UP, "odd ü")
    assert picture(box.workdir / "odd ü") == picture(top)
    box(*DOWN, "odd ü", "back")
    assert picture(box.here / "back") == picture(top)
    for name in ODD:
        box(*UP, "--", f"odd ü/{name}", code=None) if name.startswith("-") else box(*UP, f"odd ü/{name}")
        box(*DOWN, f"odd ü/{name}", "one")
        assert (box.here / "one").read_text() == name


# What is there before, what is typed, and where it then is: the table of docs/cli.md.
CASES = [
    ("a/f", None, "f"),
    ("a/f", "d/", "d/f"),
    ("a/f", "new/", "new/f"),
    ("a/f", "d", "d/f"),
    ("a/f", ".", "f"),
    ("a/f", "old", "old"),
    ("a/f", "x", "x"),
    ("a/f", "d/x", "d/x"),
    ("a/t", None, "t/g"),
    ("a/t/", None, "t/g"),
    ("a/t", "d/", "d/t/g"),
    ("a/t", "new/", "new/t/g"),
    ("a/t", "d", "d/t/g"),
    ("a/t", "x", "x/g"),
    ("a/t", "-T d", "d/g"),
    ("a/t/.", "d", "d/g"),
    ("a/t/.", "x", "x/g"),
]


def furnish(top):
    (top / "d").mkdir()
    (top / "old").write_text("old")


def source(top):
    (top / "a/t").mkdir(parents=True)
    (top / "a/f").write_text("file")
    (top / "a/t/g").write_text("file")


@pytest.mark.parametrize("what,dest,place", CASES)
def test_where_an_upload_goes(box, what, dest, place):
    source(box.here)
    furnish(box.workdir)
    words = (dest or "").split()
    box(*UP, *words[:-1], what, *words[-1:])
    assert (box.workdir / place).read_text() == "file"


@pytest.mark.parametrize("what,dest,place", CASES)
def test_where_a_download_goes(box, what, dest, place):
    source(box.workdir)
    furnish(box.here)
    words = (dest or "").split()
    box(*DOWN, *words[:-1], what, *words[-1:])
    assert (box.here / place).read_text() == "file"


def test_a_tree_does_not_replace_a_file(box):
    source(box.here)
    furnish(box.workdir)
    assert "old is a file" in box(*UP, "a/t", "old", code=1).err
    assert (box.workdir / "old").read_text() == "old"


def test_paths_beside_us(box):
    source(box.here)
    inner = box.here / "a/t"
    box.here = inner
    box(*UP, "../f")
    assert (box.workdir / "f").read_text() == "file"
    box(*UP, "../../a/t", "up")
    assert (box.workdir / "up/g").read_text() == "file"
    box(*UP, "..", "all")
    assert (box.workdir / "all/t/g").read_text() == "file"
    box(*DOWN, "f", "../x")
    assert (inner / "../x").read_text() == "file"
    box(*DOWN, "up", "../y")
    assert (inner / "../y/g").read_text() == "file"
    box(*DOWN, "up/.", "..")
    assert (inner / "../g").read_text() == "file"
    box(*UP, inner / "g", box.workdir / "absolute")
    assert (box.workdir / "absolute").read_text() == "file"
    assert "out of" in box(*UP, "g", "../escape", code=1).err


def test_standard_input_and_output(box):
    data = random.Random(3).randbytes(3_000_000)
    box(*UP, "-", "from-stdin", input=data)
    assert (box.workdir / "from-stdin").read_bytes() == data
    done = box(*DOWN, "from-stdin", "-")
    assert done.raw == data
    assert "name" in box(*UP, "-", code=1, input=b"").err
    assert "name" in box(*UP, "-", "dir/", code=1, input=b"").err
    box(*UP, "-", "empty", input=b"")
    assert (box.workdir / "empty").read_bytes() == b""


def test_download_to_a_reader_that_leaves(box):
    (box.workdir / "big").write_bytes(bytes(20 << 20))
    process = box.popen(*DOWN, "big", "-")
    process.stdout.read(10)
    process.stdout.close()
    process.stdin.close()
    assert process.wait(30) != 0
    process.stderr.close()


def test_what_fails(box):
    (box.here / "empty/only/dirs").mkdir(parents=True)
    (box.workdir / "dir").mkdir()
    (box.here / "f").write_text("x")
    assert "nonesuch" in box(*UP, "nonesuch", code=1).err
    assert "nonesuch" in box(*DOWN, "nonesuch", code=1).err
    assert "no file in it" in box(*UP, "empty", code=1).err
    assert "no file in it" in box(*DOWN, "dir", code=1).err
    assert "other" in box("sandbox", "upload", "other", "f", code=1).err
    assert "other" in box("sandbox", "download", "other", "f", code=1).err
    error = json.loads(box("-o", "json", *UP, "nonesuch", code=1).err)["error"]
    assert error["code"] == "NOT_FOUND"


def test_what_is_skipped_is_said(box):
    tree = make_tree(box.here / "tree")
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(os.path.relpath(tree / "sock"))
        done = box(*UP, "tree", code=23)
    assert "skipped" in done.err and "pipe" in done.err and "sock" in done.err and ", 2 skipped" in done.err
    assert box("-q", *UP, "tree", code=23).err.count("skipped") >= 1
    assert box("-o", "json", *UP, "tree", code=23).json["skipped"] == 2


def test_unreadable_here(box):
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    tree = make_tree(box.here / "tree")
    (tree / "f").chmod(0)
    assert "f" in box(*UP, "tree", code=23).err


def test_an_upload_replaces_or_leaves(box):
    (box.here / "f").write_text("new")
    (box.workdir / "f").write_text("old")
    box(*UP, "f")
    assert (box.workdir / "f").read_text() == "new"
    (box.workdir / "dir").mkdir()
    assert "directory" in box(*UP, "-T", "f", "dir", code=1).err
    assert sorted(path.name for path in box.workdir.iterdir()) == ["dir", "f"]


def test_no_progress_in_a_pipe(box):
    (box.here / "big").write_bytes(bytes(64 << 20))
    done = box(*UP, "big")
    assert "\r" not in done.err and "\x1b" not in done.err
    assert done.err.count("\n") == 1 and "64.0 MiB" in done.err and "MiB/s" in done.err
    assert box("-q", *UP, "big").err == ""


def test_progress_on_a_terminal_after_a_second(box):
    os.mkfifo(box.here / "pipe")
    script = f"exec {PROGRAM} sandbox upload box - slow < pipe"
    with box.terminal(program=["/bin/sh", "-c", script]) as screen:
        began = time.monotonic()
        with open(box.here / "pipe", "wb", buffering=0) as pipe:
            pipe.write(bytes(1 << 20))
            screen.expect(rb"1\.0 MiB")
            assert time.monotonic() - began > 0.8
        screen.expect(rb"uploaded - to slow: 1 file, 1\.0 MiB")
        assert screen.end() == 0


LARGE = 256 << 20


@pytest.fixture
def large(box):
    """A file that takes a while."""
    data = os.urandom(LARGE)
    (box.here / "f").write_bytes(data)
    (box.workdir / "f").write_text("old")
    return data


def part_size(box):
    return max((path.stat().st_size for path in box.workdir.glob(".f.towline-*")), default=0)


def uploaded_bytes(box):
    """What came to the gateway of all uploads, those that were cut off too."""
    found = re.findall(r"method=/openshell.v1.OpenShell/UploadFile .* bytes_up=(\d+)", box.gateway.log())
    return sum(map(int, found))


def is_resumed(box, data):
    """By the same command again."""
    assert (box.workdir / "f").read_text() == "old"
    assert part_size(box) > 0
    done = box("-o", "json", *UP, "f").json
    assert done["bytes"] == LARGE
    assert (box.workdir / "f").read_bytes() == data
    assert [path.name for path in box.workdir.iterdir()] == ["f"]


def sent_again(box):
    wait_until(lambda: uploaded_bytes(box) >= LARGE, 10, "the log says it all")
    return uploaded_bytes(box) - LARGE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("part", [0.05, 0.6])
def test_interrupted_upload_goes_on(box, large, number, part):
    process = box.popen(*UP, "f")
    wait_until(lambda: part_size(box) >= part * LARGE, 20, "some of it is there")
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == (128 + number if number == signal.SIGINT else -number)
    is_resumed(box, large)
    assert sent_again(box) <= 8 << 20


def test_small_upload_interrupted_leaves_nothing(box):
    process = box.popen("sandbox", "upload", "box", "-", "f")
    process.stdin.write(b"x" * 100_000)
    process.stdin.flush()
    wait_until(lambda: part_size(box), 20, "a part file is there")
    process.kill()
    process.communicate(timeout=30)
    wait_until(lambda: not list(box.workdir.iterdir()), 20, "the part file is gone")


def test_gateway_dies_while_uploading(box, large):
    process = box.popen(*UP, "f")
    wait_until(lambda: part_size(box) >= LARGE // 4, 20, "some of it is there")
    box.gateway.kill()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1 and err.startswith(b"towline: "), err.decode()
    box.gateway.start()
    box.gateway.wait_phase("box", "READY")
    is_resumed(box, large)
    wait_until(lambda: uploaded_bytes(box) > 0, 10, "the log says it")
    assert uploaded_bytes(box) <= LARGE - LARGE // 4 + (8 << 20)  # of the second; the first left no line


def test_gateway_comes_back_while_uploading(box, large):
    process = box.popen(*UP, "f")
    wait_until(lambda: part_size(box) >= LARGE // 2, 20, "half of it is there")
    box.gateway.kill()
    box.gateway.start()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err.decode()
    assert (box.workdir / "f").read_bytes() == large
    assert [path.name for path in box.workdir.iterdir()] == ["f"]
    wait_until(lambda: uploaded_bytes(box) > 0, 10, "the log says it")
    assert uploaded_bytes(box) <= LARGE // 2 + (8 << 20)


def test_supervisor_dies_while_uploading(box, ready, large):
    """The command that was cut off goes on by itself when the sandbox is back in time."""
    process = box.popen(*UP, "f")
    wait_until(lambda: part_size(box) >= LARGE // 4, 20, "some of it is there")
    os.kill(ready.supervisor, signal.SIGKILL)
    wait_until(lambda: box.gateway.phase("box") == "ERROR", 10, "it is in ERROR")
    box("sandbox", "stop", "box")
    box("sandbox", "start", "box")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert (box.workdir / "f").read_bytes() == large
    assert [path.name for path in box.workdir.iterdir()] == ["f"]
    assert sent_again(box) <= 8 << 20


def test_many_small_files(box):
    tree = box.here / "tree"
    for i in range(3000):
        (tree / str(i % 50)).mkdir(parents=True, exist_ok=True)
        (tree / str(i % 50) / str(i)).write_text(str(i))
    assert box("-o", "json", *UP, "tree").json["files"] == 3000
    assert box("-o", "json", *DOWN, "tree", "back").json["files"] == 3000
    assert picture(box.here / "back") == picture(tree)
