"""towline sync: one directory as the other is, and only what differs goes over."""

import os
import random
import signal
import stat

import pytest
from conftest import wait_until
from towline_cli import box  # noqa: F401
from wires import Wire

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


def attributes(path):
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


def picture(top):
    found = {}
    for path in sorted(top.rglob("*")):
        info = path.lstat()
        content = None
        if stat.S_ISLNK(info.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(info.st_mode):
            content = (path.read_bytes(), stat.S_IMODE(info.st_mode), info.st_mtime_ns, attributes(path))
        elif stat.S_ISDIR(info.st_mode):
            content = (stat.S_IMODE(info.st_mode), info.st_mtime_ns, attributes(path))
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


def test_what_is_no_directory(box, pair):  # noqa: F811
    pair.source.rmdir()
    pair.source.write_text("a file")
    box(*pair.words(), code=1)


def test_without_a_source(pair):
    pair.source.rmdir()
    done = pair.text(code=1)
    assert "No such file" in done.err
    assert not pair.target.exists() or not any(pair.target.iterdir())


def wire(result):
    return result["sent_bytes"] + result["received_bytes"]


def test_changed_added_and_removed(pair):
    fill(pair.source)
    pair()
    (pair.source / "f").write_bytes(b"two")
    (pair.source / "d/new").write_bytes(b"new")
    (pair.source / "none").unlink()
    (pair.source / "empty").rmdir()
    (pair.source / "link").unlink()
    (pair.source / "link").symlink_to("f")
    result = pair()
    assert (result["files"], result["made"], result["deleted"]) == (2, 1, 0)
    assert (pair.target / "none").exists()
    result = pair("--delete")
    assert (result["files"], result["deleted"]) == (0, 2)
    assert pair.same()


def test_kinds_change(pair):
    fill(pair.source)
    pair()
    (pair.source / "f").unlink()
    (pair.source / "f").mkdir()
    (pair.source / "f/in").write_text("in")
    (pair.source / "link").unlink()
    (pair.source / "link").write_text("a file now")
    (pair.source / "d/run").unlink()
    (pair.source / "d/run").symlink_to("e")
    for path in (pair.source / "d/e").iterdir():
        path.unlink()
    (pair.source / "d/e").rmdir()
    (pair.source / "d/e").write_text("no directory any more")
    done = pair.text(code=1)
    assert "d/e: a directory that is not empty is in its place" in done.err
    pair("--delete")
    assert pair.same()


def test_only_the_time_differs(pair):
    fill(pair.source)
    pair()
    for name in ("f", "d/e/g"):
        os.utime(pair.source / name, ns=(5, 5))
    (pair.source / "d/run").chmod(0o700)
    result = pair()
    assert wire(result) < 10_000 + 12 * 700
    assert pair.same()
    os.utime(pair.source / "d/e/g", ns=(6, 6))
    result = pair("--checksum")
    assert (result["files"], result["touched"], result["content_bytes"]) == (0, 1, 0)
    assert pair.same()


def names(top):
    """Which names are one file."""
    files = {}
    for path in sorted(top.rglob("*")):
        if path.is_file() and not path.is_symlink():
            files.setdefault(path.stat().st_ino, []).append(str(path.relative_to(top)))
    return sorted(names for names in files.values() if len(names) > 1)


def test_hard_links_stay_links(pair):
    for name in ("a", "b", "big"):
        (pair.source / name).write_bytes(os.urandom(200_000 if name == "big" else 10))
    (pair.source / "d").mkdir()
    os.link(pair.source / "a", pair.source / "d/a2")
    os.link(pair.source / "a", pair.source / "z")
    os.link(pair.source / "big", pair.source / "d/big2")
    result = pair()
    assert (result["files"], result["made"]) == (3, 4)
    assert pair.same() and names(pair.target) == names(pair.source)
    result = pair()
    assert (result["files"], result["made"], result["touched"], result["same"]) == (0, 0, 0, 7)
    with (pair.source / "big").open("r+b") as file:
        file.write(b"changed in place")
    (pair.source / "z").unlink()
    (pair.source / "z").write_text("a file of its own")
    os.link(pair.source / "b", pair.source / "b2")
    pair()
    assert pair.same() and names(pair.target) == names(pair.source)
    (pair.source / "a").chmod(0o600)
    os.utime(pair.source / "big", ns=(7, 7))
    pair("--delete")
    assert pair.same() and names(pair.target) == names(pair.source)
    assert (pair()["files"], pair()["made"]) == (0, 0)


def test_one_file_there_and_two_here(pair):
    """What is touched or sent under one name does not change the other."""
    data = os.urandom(100_000)
    for name, time in (("x", 5), ("y", 6)):
        (pair.source / name).write_bytes(data)
        os.utime(pair.source / name, ns=(time, time))
    pair.target.mkdir()
    (pair.target / "x").write_bytes(data)
    os.link(pair.target / "x", pair.target / "y")
    pair()
    assert pair.same()


def test_holes_stay_holes(pair):
    with (pair.source / "sparse").open("wb") as file:
        file.write(os.urandom(5000))
        file.seek(20 << 20)
        file.write(os.urandom(5000))
        file.truncate(50 << 20)
    with (pair.source / "small").open("wb") as file:
        file.truncate(60_000)
    with (pair.source / "nothing").open("wb") as file:
        file.truncate(3 << 30)
    dense = bytes(1 << 20)
    (pair.source / "zeros").write_bytes(dense)
    result = pair()
    assert result["content_bytes"] < 60_000 + 30_000 + len(dense)
    assert result["failed"] == 0

    def room(name):
        return (pair.target / name).stat().st_blocks * 512

    assert room("sparse") < 100_000 and room("small") < 8192 and room("nothing") == 0
    assert room("zeros") == len(dense)
    (pair.source / "nothing").unlink()
    (pair.target / "nothing").unlink()
    with (pair.source / "sparse").open("r+b") as file:
        file.seek(30 << 20)
        file.write(b"in what was a hole")
    pair()
    assert pair.same()
    assert room("sparse") < 200_000


def test_attributes_go_over(pair):
    (pair.source / "d").mkdir()
    for name in ("f", "g"):
        (pair.source / name).write_text("f")
    (pair.source / "large").write_bytes(os.urandom(100_000))
    for name in ("f", "d", "large"):
        os.setxattr(pair.source / name, "user.one", b"1")
        os.setxattr(pair.source / name, "user.\xfc \n=%", bytes(range(256)))
    pair()
    assert pair.same()
    assert pair()["touched"] == 0
    os.setxattr(pair.source / "f", "user.one", b"2")
    os.removexattr(pair.source / "d", "user.one")
    os.setxattr(pair.source / "large", "user.two", b"")
    os.setxattr(pair.source / "g", "user.new", b"n")
    result = pair()
    assert (result["files"], result["touched"]) == (0, 4)
    assert pair.same()
    if os.geteuid() == 0:
        os.setxattr(pair.source / "g", "trusted.x", b"not a user's")
        assert pair()["touched"] == 0


def test_directories_have_their_modes_and_times(pair):
    fill(pair.source)
    (pair.source / "ro/in").mkdir(parents=True)
    (pair.source / "ro/in/f").write_text("f")
    (pair.source / "ro/in").chmod(0o500)
    (pair.source / "ro").chmod(0o555)
    for name in ("empty", "d", "ro"):
        os.utime(pair.source / name, ns=(3, 3))
    pair()
    assert pair.same()
    # A file is patched in place: the times of its directory stay here and there.
    with (pair.source / "ro/in/f").open("r+") as file:
        file.write("g")
    with (pair.source / "d/e/g").open("r+b") as file:
        file.write(b"changed")
    result = pair()
    assert (result["files"], result["made"], result["touched"]) == (2, 0, 0)
    assert pair.same()
    (pair.source / "d").chmod(0o711)
    result = pair()
    assert (result["made"], result["touched"]) == (0, 1)
    assert pair.same()


def test_written_again_within_a_tick_of_the_clock(pair):
    """Of the same size, and maybe at the same time by the clock: it is sent all the same."""
    for i in range(30):
        (pair.source / "f").write_text(f"{2 * i:4}")
        pair()
        (pair.source / "f").write_text(f"{2 * i + 1:4}")
        pair()
        assert (pair.target / "f").read_text() == f"{2 * i + 1:4}"


def forest(top, files=1500, large=6):
    rnd = random.Random(7)
    for i in range(files):
        path = top / f"{i % 13:02}" / f"{i % 7}" / f"f{i}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rnd.randbytes(i % 5000))
    for i in range(large):
        (top / f"large{i}").write_bytes(rnd.randbytes(3 << 20))
    return top


@pytest.mark.parametrize("transfers", ["1", "2", "16"])
def test_several_streams(pair, transfers):
    """The same tree comes out, with all that depends on the order, and all are counted once."""
    forest(pair.source)
    os.link(pair.source / "large0", pair.source / "z")
    os.setxattr(pair.source / "00/0/f0", "user.x", b"x")
    (pair.target / "05").mkdir(parents=True)
    (pair.target / "05/5").symlink_to("/")
    (pair.target / "06").write_text("a directory there")
    (pair.target / "gone").write_text("gone")
    result = pair("--transfers", transfers, "--delete")
    assert pair.same() and names(pair.target) == names(pair.source)
    assert (result["files"], result["deleted"], result["failed"]) == (1506, 1, 0)
    assert result["content_bytes"] == result["bytes"] < result["sent_bytes"] + result["received_bytes"]
    for i in range(6):
        with (pair.source / f"large{i}").open("r+b") as file:
            file.seek(1 << 20)
            file.write(b"changed")
    result = pair("--transfers", transfers)
    assert pair.same()
    assert (result["files"], result["made"]) == (6, 1)
    assert result["content_bytes"] < 100_000
    assert pair("--transfers", transfers)["same"] == 1507 + 13 * 8


MIB = 1 << 20


@pytest.fixture
def way(pair, ready):
    """A way that lets each connection have so much, and counts what goes over it."""
    with Wire(int(ready.gateway.target.rpartition(":")[2])) as wire:
        wire.rate(64 * MIB)
        yield wire


def over(wire, pair, *flags):
    """What comes of a sync over the wire, and the bytes of content that each connection has carried."""
    wire.each()
    result = pair("--gateway-endpoint", wire.endpoint, *flags)
    return result, sorted((each[0 if pair.up else 1] for each in wire.each()), reverse=True)


def test_one_file_over_several_streams(pair, way):
    """All of a new file, and of one that is there what differs."""
    data = bytearray(random.Random(8).randbytes(96 * MIB))
    (pair.source / "large").write_bytes(data)
    result, carried = over(way, pair, "--transfers", "4")
    assert pair.same()
    assert (result["files"], result["content_bytes"]) == (1, 96 * MIB)
    assert len(carried) == 4 and carried[3] >= 8 * MIB and sum(carried) < 97 * MIB, carried
    for at in range(4 * MIB, 96 * MIB, 8 * MIB):
        data[at:at + MIB] = bytes(MIB)
    (pair.source / "large").write_bytes(data)
    result, carried = over(way, pair, "--transfers", "4")
    assert pair.same()
    assert (result["files"], result["failed"]) == (1, 0)
    assert 12 * MIB <= result["content_bytes"] < 13 * MIB
    assert len(carried) == 4 and carried[1] >= MIB and sum(carried) < 14 * MIB, carried
    (pair.source / "other").write_bytes(data)
    result, carried = over(way, pair, "--transfers", "1")
    assert pair.same() and len(carried) == 1


@pytest.mark.parametrize("transfers", ["0", "17", "x"])
def test_how_many_streams_there_may_be(pair, transfers):
    pair.text("--transfers", transfers, code=2)


def test_what_fails_on_another_stream(pair):
    """It is told by name, and the others are there."""
    forest(pair.source)
    for i in (0, 3, 5):
        (pair.target / f"large{i}").mkdir(parents=True)
        (pair.target / f"large{i}/in").write_text("in the way")
    for i in range(10):
        path = pair.target / f"{i % 13:02}" / f"{i % 7}" / f"f{i}/in"
        path.mkdir(parents=True)
    done = pair.text(code=1)
    for name in ["large0", "large5", "00/0/f0", "09/2/f9"]:
        assert f"{name}: a directory that is not empty is in its place" in done.err
    assert "13 failed" in done.err
    pair("--delete")
    assert pair.same()


def test_checksum_finds_what_time_does_not(pair):
    fill(pair.source)
    pair()
    info = (pair.source / "f").stat()
    (pair.source / "f").write_bytes(b"owt")
    os.utime(pair.source / "f", ns=(info.st_atime_ns, info.st_mtime_ns))
    assert pair()["files"] == 0
    assert pair("--checksum")["files"] == 1
    assert pair.same()


def test_of_a_large_file_only_what_differs_goes_over(pair):
    data = bytearray(random.Random(3).randbytes(32 << 20))
    (pair.source / "large").write_bytes(data)
    pair()
    data[10 << 20:10 << 20] = b"some bytes more in the middle, so that all behind them moves"
    data[20 << 20:(20 << 20) + 1000] = bytes(1000)
    del data[:777]
    (pair.source / "large").write_bytes(data)
    result = pair()
    assert pair.same()
    assert result["content_bytes"] < 100_000
    assert wire(result) < 300_000
    (pair.source / "large").write_bytes(data[: 1 << 20])
    assert wire(pair()) < 150_000
    assert pair.same()


def test_a_dry_run_changes_nothing(pair):
    fill(pair.source)
    done = pair.text("--dry-run")
    assert not pair.target.exists()
    assert "send d/e/g\n" in done.out and "make d/\n" in done.out
    assert "send d/new\\x0aline\n" in done.out  # what could forge a line is escaped
    pair()
    (pair.source / "f").unlink()
    (pair.source / "d/e/g").write_bytes(b"short")
    before = picture(pair.target)
    done = pair.text("--dry-run", "--delete")
    assert sorted(done.out.splitlines()) == ["delete f", "send d/e/g"]
    assert picture(pair.target) == before
    result = pair("-n", "--delete")
    assert (result["files"], result["deleted"], result["dry_run"]) == (1, 1, True)


def test_what_is_excluded_is_left_alone(pair):
    (pair.source / "cache").mkdir()
    (pair.source / "cache/a").write_text("a")
    (pair.source / "x.o").write_text("o")
    (pair.source / "x.c").write_text("c")
    (pair.target / "cache").mkdir(parents=True)
    (pair.target / "cache/theirs").write_text("kept")
    (pair.target / "d").mkdir()
    (pair.target / "d/y.o").write_text("kept")
    (pair.target / "d/gone").write_text("gone")
    done = pair.text("--delete", "-x", "*.o", "--exclude", "cache/")
    assert {p for p in picture(pair.target)} == {"x.c", "cache", "cache/theirs", "d", "d/y.o"}
    assert pair.up or "d: kept" in done.err


def test_patterns_of_any_bytes(pair):
    """Their order counts, as ever."""
    for name in (b"one\xff.o", b"two\xff.o", b"\xe9", "é".encode(), b"f"):
        (pair.source / os.fsdecode(name)).write_text("new")
    pair.target.mkdir()
    (pair.target / os.fsdecode(b"old\xff.o")).write_text("kept")
    (pair.target / os.fsdecode(b"\xe9\xe9")).write_text("gone")
    flags = [word for pattern in (b"*\xff.o", b"!two*", b"\xe9") for word in ("-x", os.fsdecode(pattern))]
    for _ in range(2):
        assert pair("--delete", *flags)["failed"] == 0
        assert {os.fsencode(p) for p in picture(pair.target)} == {b"old\xff.o", b"two\xff.o", "é".encode(), b"f"}


def test_links_do_not_lead_out(pair):
    """Neither what is written nor what is deleted goes by way of a link."""
    outside = pair.box.folder / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    (pair.source / "d").mkdir()
    (pair.source / "d/f").write_text("f")
    (pair.target).mkdir(exist_ok=True)
    (pair.target / "d").symlink_to(outside)
    (pair.target / "gone").symlink_to(outside)
    pair("--delete")
    assert pair.same()
    assert [p.name for p in outside.iterdir()] == ["precious"]


def test_links_that_lead_out(pair):
    (pair.source / "absolute").symlink_to("/etc/passwd")
    (pair.source / "up").symlink_to("../../x")
    result = pair(code=0 if pair.up else 23)
    assert result["skipped"] == (0 if pair.up else 2)
    assert pair.same() == pair.up


def test_what_is_no_file_is_skipped(pair):
    os.mkfifo(pair.source / "fifo")
    (pair.source / "f").write_text("f")
    result = pair(code=23)
    assert (result["files"], result["skipped"]) == (1, 1)
    assert not (pair.target / "fifo").exists()


def test_setuid_does_not_go_over(pair):
    (pair.source / "s").write_text("s")
    (pair.source / "s").chmod(0o6755)
    pair()
    assert stat.S_IMODE((pair.target / "s").stat().st_mode) == 0o755
    assert pair()["touched"] == 0


def test_names_are_not_read_as_terminals_do(pair):
    (pair.source / "\x1b[2Jx").write_text("x")
    done = pair.text("--verbose")
    assert "\x1b" not in done.out + done.err
    assert "send \\x1b[2Jx\n" in done.out
    assert pair.same()


def test_a_file_that_changes_all_the_time(pair):
    """It is whole, as it was at one time, or it is not there and somebody says so."""
    import threading

    path = pair.source / "log"
    path.write_bytes(b"a" * 3_000_000)
    (pair.source / "other").write_text("x")
    done = threading.Event()

    def write():
        while not done.is_set():
            with path.open("r+b") as file:
                file.write(os.urandom(1) * 3_000_000)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            result = pair(code=None)
            assert (pair.target / "other").read_text() == "x"
            if result["failed"] == 0:
                assert (pair.target / "log").stat().st_size == 3_000_000
    finally:
        done.set()
        writer.join()
    pair()
    assert pair.same()


@pytest.mark.parametrize("who", ["client", "supervisor"])
def test_killed_in_the_middle(pair, ready, who):
    """What was there is whole; the same command again finishes it and leaves no part file."""
    rnd = random.Random(4)
    for i in range(40):
        (pair.source / f"f{i}").write_bytes(rnd.randbytes(2_000_000))
    (pair.source / "large").write_bytes(rnd.randbytes(80_000_000))
    whole = {path.name: path.read_bytes() for path in pair.source.iterdir()}
    victim = pair.box.popen(*pair.words())
    wait_until(lambda: pair.target.exists() and any(p.name.startswith("f") for p in pair.target.iterdir()), 20, "a file")
    if who == "client":
        victim.kill()
    else:
        os.kill(ready.find_supervisor(), signal.SIGKILL)
    victim.communicate(timeout=60)
    for path in pair.target.iterdir():
        if not path.name.startswith("."):
            assert path.read_bytes() == whole[path.name]
    if who == "supervisor":
        return
    pair()
    assert pair.same()


def test_interrupted(pair):
    rnd = random.Random(5)
    for i in range(60):
        (pair.source / f"f{i}").write_bytes(rnd.randbytes(2_000_000))
    victim = pair.box.popen(*pair.words())
    wait_until(lambda: pair.target.exists() and any(p.name.startswith("f") for p in pair.target.iterdir()), 20, "a file")
    victim.send_signal(signal.SIGINT)
    victim.communicate(timeout=30)
    assert victim.returncode in (130, 0)  # it may have been faster
    wait_until(lambda: not any(p.name.startswith(".towline") for p in pair.target.iterdir()), 10, "no part files")
    pair()
    assert pair.same()


def test_directories_that_change_under_it(pair):
    """Something swaps a directory with a link that leads out, again and again."""
    import threading

    outside = pair.box.folder / "outside"
    outside.mkdir()
    (outside / "f0").write_text("precious")
    for i in range(50):
        (pair.source / "d").mkdir(exist_ok=True)
        (pair.source / f"d/f{i}").write_text(str(i))
    pair()
    (pair.target / "l").symlink_to(outside)
    done = threading.Event()

    def swap():
        while not done.is_set():
            for a, b in (("d", "x"), ("l", "d"), ("d", "l"), ("x", "d")):
                try:
                    os.rename(pair.target / a, pair.target / b)
                except OSError:
                    break
            for name in ("d", "l"):
                if not os.path.lexists(pair.target / name) and name == "l":
                    (pair.target / "l").symlink_to(outside)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for round in range(15):
            for i in range(50):
                (pair.source / f"d/f{i}").write_text(f"{round} {i}")
            (pair.source / f"d/f{round % 50}").unlink()
            pair("--delete", code=None)
    finally:
        done.set()
        swapper.join()
    assert [(p.name, p.read_text()) for p in outside.iterdir()] == [("f0", "precious")]


def test_usage(box):  # noqa: F811
    for words in (["a", "b"], ["x:a", "y:b"], ["-", "x:a"], ["x:a"]):
        box("sync", *words, code=2)
    (box.here / "tree").mkdir()
    box("sandbox", "sync", "tree", "box:tree")
    assert "NOT_FOUND" in box("-o", "json", "sync", "tree", "none:tree", code=1).err
