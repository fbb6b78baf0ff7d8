"""Downloads that are broken off: by a signal, kill -9, a gateway that goes; and gone on with."""

import contextlib
import json
import os
import random
import signal
import time

import pytest
from conftest import wait_until
from towline_cli import box  # noqa: F401
from wires import Wire

MIB = 1 << 20
BIG = 384 * MIB


@pytest.fixture(scope="module")
def content():
    return random.Random(4).randbytes(MIB)


def make_big(path, content, size=BIG):
    with open(path, "wb") as file:
        for i in range(size // MIB):
            file.write(i.to_bytes(8, "big") + content[8:])


def same(a, b):
    with open(a, "rb") as x, open(b, "rb") as y:
        while True:
            p, q = x.read(MIB), y.read(MIB)
            if p != q:
                return False
            if not p:
                return True


def parts(box):
    return list(box.here.glob(".*towline*"))


def stored(box):
    """Bytes of the part file that are on the disk, more or less."""
    with contextlib.suppress(OSError):  # it is not there, or has nothing in it yet
        for path in parts(box):
            with open(path, "rb") as file:
                file.seek(-24 * 16, os.SEEK_END)
                ranges = file.read()
            return sum(int.from_bytes(ranges[i + 16 : i + 24], "little") for i in range(0, 24 * 16, 24))
    return 0


def break_off(box, number, *words, at=32 * MIB):
    process = box.popen("cp", *words)
    wait_until(lambda: stored(box) > at or process.poll() is not None, 30, "some of it has come")
    assert process.poll() is None
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    return process.returncode, err.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("transfers", ["1", "4"])
def test_the_same_command_again(box, content, number, transfers):
    make_big(box.workdir / "f", content)
    (box.here / "f").write_text("old")
    code, err = break_off(box, number, "-P", transfers, "box:f", "f")
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert code == 128 + number
        assert "are kept: the same command again goes on from there" in err
    assert (box.here / "f").read_text() == "old"
    kept = stored(box)
    assert kept > 32 * MIB
    done = box("-o", "json", "-vv", "cp", "-P", transfers, "box:f", "f")
    assert done.json["copies"][0]["bytes"] == BIG
    assert done.json["copies"][0]["moved"] <= BIG - kept + 8 * MIB
    assert same(box.workdir / "f", box.here / "f")
    assert not parts(box)
    assert (box.here / "f").stat().st_mtime_ns == (box.workdir / "f").stat().st_mtime_ns


def test_another_file_begins_anew(box, content):
    make_big(box.workdir / "f", content)
    break_off(box, signal.SIGINT, "box:f", "f")
    make_big(box.workdir / "f", content[::-1], 8 * MIB)
    done = box("-o", "json", "cp", "box:f", "f").json["copies"][0]
    assert done["bytes"] == done["moved"] == 8 * MIB
    assert same(box.workdir / "f", box.here / "f") and not parts(box)


def test_another_source_begins_anew(box, content):
    make_big(box.workdir / "f", content)
    make_big(box.workdir / "g", content[::-1], 8 * MIB)
    break_off(box, signal.SIGINT, "box:f", "x")
    box("cp", "box:g", "x")
    assert same(box.workdir / "g", box.here / "x") and not parts(box)


def test_what_was_damaged_here_is_found_out(box, content):
    make_big(box.workdir / "f", content)
    break_off(box, signal.SIGINT, "box:f", "f")
    with open(parts(box)[0], "r+b") as file:
        file.seek(5 * MIB)
        file.write(b"something else")
    done = box("-o", "json", "cp", "box:f", "f").json["copies"][0]
    assert done["moved"] > BIG
    assert same(box.workdir / "f", box.here / "f") and not parts(box)


def test_a_part_file_of_nonsense(box, content):
    make_big(box.workdir / "f", content, 4 * MIB)
    for nonsense in (b"", b"x", b"towline-stash-1\0" * 100, os.urandom(2000)):
        (box.here / ".f.towline-get").write_bytes(nonsense)
        box("cp", "box:f", "f")
        assert same(box.workdir / "f", box.here / "f") and not parts(box)
    (box.here / ".f.towline-get").symlink_to("/etc/passwd")
    assert "part file" in box("cp", "box:f", "f", code=1).err
    (box.here / ".f.towline-get").unlink()


def test_no_resume(box, content):
    make_big(box.workdir / "f", content)
    break_off(box, signal.SIGINT, "box:f", "f")
    done = box("-o", "json", "cp", "--no-resume", "box:f", "f").json["copies"][0]
    assert done["moved"] == BIG
    assert break_off(box, signal.SIGINT, "--no-resume", "box:f", "f")[0] == 130
    assert not parts(box)


def test_two_at_once(box, content):
    make_big(box.workdir / "f", content)
    process = box.popen("cp", "box:f", "f")
    wait_until(lambda: stored(box) > MIB, 30, "it has begun")
    assert "under way" in box("cp", "box:f", "f", code=1).err
    assert process.wait(60) == 0
    process.communicate()
    assert same(box.workdir / "f", box.here / "f") and not parts(box)


@pytest.mark.parametrize("transfers", ["1", "4"])
def test_the_gateway_goes_and_comes_back(box, content, transfers):
    make_big(box.workdir / "f", content)
    process = box.popen("-o", "json", "cp", "-P", transfers, "box:f", "f")
    wait_until(lambda: stored(box) > 32 * MIB, 30, "some of it has come")
    port = box.gateway.endpoint.rsplit(":", 1)[1]
    box.gateway.kill()
    box.gateway.listen = (f"127.0.0.1:{port}",)
    box.gateway.start()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["copies"][0]["moved"] <= BIG + 8 * MIB
    assert same(box.workdir / "f", box.here / "f") and not parts(box)


@pytest.mark.parametrize("number", [0, 2])
def test_one_connection_breaks(box, content, number):
    """Its range goes on by another one, and the others do not notice."""
    make_big(box.workdir / "f", content)
    with Wire(int(box.gateway.target.rpartition(":")[2])) as wire:
        wire.rate(24 * MIB)
        process = box.popen("--gateway-endpoint", wire.endpoint, "-o", "json", "cp", "-P", "4", "box:f", "f")
        wait_until(lambda: stored(box) > 48 * MIB, 30, "some of it has come")
        assert len(wire.each()) == 4
        wire.snip(number)
        time.sleep(0.5)
        wire.rate(0)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err.decode()
        assert len(wire.each()) == 1
    assert json.loads(out)["copies"][0]["moved"] <= BIG + 8 * MIB
    assert same(box.workdir / "f", box.here / "f") and not parts(box)


def test_the_gateway_does_not_come_back(box, content):
    make_big(box.workdir / "f", content)
    process = box.popen("cp", "box:f", "f")
    wait_until(lambda: stored(box) > 32 * MIB, 30, "some of it has come")
    box.gateway.kill()
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and b"are kept" in err
    assert len(parts(box)) == 1
    parts(box)[0].unlink()


def test_holes_stay_holes(box):
    for name, size, pieces in (
        ("hole", 64 * MIB, []),
        ("middle", 200 * MIB, [(90 * MIB, b"x" * 70_000)]),
        ("ends", 300 * MIB, [(0, b"a" * 5000), (300 * MIB - 5, b"end")]),
    ):
        with open(box.workdir / name, "wb") as file:
            file.truncate(size)
            for at, data in pieces:
                file.seek(at)
                file.write(data)
        done = box("-o", "json", "cp", f"box:{name}", name).json["copies"][0]
        assert same(box.workdir / name, box.here / name)
        assert done["moved"] < MIB
        assert (box.here / name).stat().st_blocks <= (box.workdir / name).stat().st_blocks + 64


def test_mode_and_time(box):
    for mode in (0o640, 0o755, 0o400, 0o4755, 0o2755):
        (box.workdir / "f").write_text("x")
        (box.workdir / "f").chmod(mode)
        os.utime(box.workdir / "f", ns=(5, 1_000_000_000_123_456_789))
        box("cp", "box:f", "f")
        assert (box.here / "f").stat().st_mode & 0o7777 == mode & 0o777
        assert (box.here / "f").stat().st_mtime_ns == 1_000_000_000_123_456_789
        (box.workdir / "f").unlink()
