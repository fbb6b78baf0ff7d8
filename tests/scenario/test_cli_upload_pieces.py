"""A large file that goes up in several streams at a time, broken off and gone on with."""

import json
import os
import random
import signal
import time

import pytest
from conftest import descriptors_of, wait_until
from test_cli_download_resume import MIB, make_big, same
from test_upload_resume import restart
from towline_cli import box  # noqa: F401
from wires import Wire

BIG = 384 * MIB


@pytest.fixture(scope="module")
def content():
    return random.Random(5).randbytes(MIB)


def durable(box):
    """What the later of the journal's slots says."""
    slots = []
    for path in box.workdir.glob(".f.towline-*.journal"):
        data = path.read_bytes()
        slots = [data[at : at + 512] for at in (0, 512) if data[at : at + 8] == b"TOWLJRNL"]
    if not slots:
        return []
    slot = max(slots, key=lambda s: int.from_bytes(s[16:24], "little"))
    count = int.from_bytes(slot[36:40], "little")
    numbers = [int.from_bytes(slot[i : i + 8], "little") for i in range(160, 160 + 16 * count, 8)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def bytes_of(ranges):
    return sum(end - begin for begin, end in ranges)


def names(box):
    return sorted(path.name for path in box.workdir.iterdir())


def started(box, *words, least=32 * MIB):
    process = box.popen("-o", "json", "cp", *words)
    wait_until(lambda: bytes_of(durable(box)) > least or process.poll() is not None, 60, "some of it has come")
    assert process.poll() is None
    return process


@pytest.mark.parametrize("transfers", ["1", "2", "4", "16"])
def test_there_whole(box, content, transfers):
    make_big(box.here / "f", content, 200 * MIB + 12345)
    os.truncate(box.here / "f", 200 * MIB - 12345)
    (box.here / "f").chmod(0o640)
    done = box("-o", "json", "cp", "-P", transfers, "f", "box:f").json["copies"][0]
    assert done["bytes"] == done["moved"] == 200 * MIB - 12345
    assert same(box.here / "f", box.workdir / "f")
    assert (box.workdir / "f").stat().st_mode & 0o777 == 0o640
    assert (box.workdir / "f").stat().st_mtime_ns == (box.here / "f").stat().st_mtime_ns
    assert names(box) == ["f"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("again", ["1", "4"])
def test_the_same_command_again(box, content, number, again):
    """In as many streams or in one: then what is durable is that from the beginning on."""
    make_big(box.here / "f", content)
    (box.workdir / "f").write_text("old")
    process = started(box, "-P", "4", "f", "box:f", least=96 * MIB)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert (box.workdir / "f").read_text() == "old"
    ranges = durable(box)
    done = box("-o", "json", "cp", "-P", again, "f", "box:f").json["copies"][0]
    kept = bytes_of(ranges) if again == "4" else ranges[0][1] if ranges[0][0] == 0 else 0
    assert done["bytes"] == BIG
    assert done["moved"] <= BIG - kept
    assert same(box.here / "f", box.workdir / "f")
    assert names(box) == ["f"]


@pytest.mark.parametrize("transfers", ["1", "4"])
def test_what_was_durable_is_damaged(ready, box, content, transfers):
    """It is found out before the file is put in its place, and sent anew by the same command."""
    make_big(box.here / "f", content)
    (box.workdir / "f").write_text("old")
    process = started(box, "-P", transfers, "f", "box:f", least=96 * MIB)
    process.kill()
    process.communicate()
    is_open = lambda: any(".f.towline-" in name for name in descriptors_of(ready.supervisor))  # noqa: E731
    wait_until(lambda: not is_open(), 10, "the supervisor has let go")
    part = next(path for path in box.workdir.glob(".f.towline-*") if path.suffix != ".journal")
    with open(part, "r+b") as file:
        file.seek(durable(box)[0][0] + MIB)
        file.write(b"damaged")
    with open(box.workdir / "f") as old:
        done = box("-o", "json", "cp", "-P", transfers, "f", "box:f").json["copies"][0]
        assert os.fstat(old.fileno()).st_nlink == 0 and old.read() == "old"
    assert done["moved"] > BIG
    assert same(box.here / "f", box.workdir / "f")
    assert names(box) == ["f"]
    replaced = [line for line in box.gateway.log().splitlines() if "method=/openshell.v1.OpenShell/UploadFile" in line]
    assert sum("code=DATA_LOSS" in line and "promised one" in line for line in replaced) == 1


@pytest.mark.parametrize("victim", ["gateway", "supervisor"])
def test_it_goes_on_by_itself(ready, box, content, victim):
    make_big(box.here / "f", content)
    process = started(box, "-P", "4", "f", "box:f", least=64 * MIB)
    if victim == "gateway":
        ready.gateway.kill()
        ready.gateway.start()
    else:
        os.kill(ready.supervisor, signal.SIGKILL)
        restart(ready)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    assert same(box.here / "f", box.workdir / "f")
    assert names(box) == ["f"]


def test_the_gateway_does_not_come_back(ready, box, content):
    """It is waited for once, by all of them together."""
    make_big(box.here / "f", content)
    process = started(box, "-P", "4", "f", "box:f", least=64 * MIB)
    ready.gateway.kill()
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and b"UNAVAILABLE" in err, err
    assert 10 < time.monotonic() - began < 22


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("number", [0, 2])
def test_one_connection_breaks(ready, box, content, number, times):
    """Its stream goes on with its piece on another one, and the others do not notice."""
    make_big(box.here / "f", content)
    with Wire(int(ready.gateway.target.rpartition(":")[2])) as wire:
        wire.rate(24 * MIB)
        process = started(box, "--gateway-endpoint", wire.endpoint, "-P", "4", "f", "box:f", least=48 * MIB)
        assert len(wire.each()) == 4
        for _ in range(times):
            wire.snip(number)
            time.sleep(0.5)
        wire.rate(0)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err.decode()
        assert len(wire.each()) == times
    assert json.loads(out)["copies"][0]["moved"] <= BIG + times * 8 * MIB
    assert same(box.here / "f", box.workdir / "f")
    assert names(box) == ["f"]


def test_two_commands_at_once(box, content):
    """The same file by the same id: they do not mix, and the later one is told."""
    make_big(box.here / "f", content)
    process = started(box, "-P", "4", "f", "box:f")
    process.send_signal(signal.SIGSTOP)
    try:
        second = box("cp", "-P", "4", "f", "box:f", code=1)
        assert "another upload to it is running" in second.err
    finally:
        process.send_signal(signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert same(box.here / "f", box.workdir / "f")


def test_it_changes_meanwhile(box, content):
    """What is shorter than it was cannot be sent to its end; nothing is put in place."""
    make_big(box.here / "f", content)
    process = started(box, "-P", "4", "f", "box:f")
    os.truncate(box.here / "f", 100 * MIB)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"shrank" in err or b"changed" in err
    assert "f" not in names(box)


def test_if_exists(box, content):
    make_big(box.here / "f", content, 150 * MIB)
    (box.workdir / "f").write_text("old")
    box("cp", "-P", "4", "--if-exists", "fail", "f", "box:f", code=1)
    assert (box.workdir / "f").read_text() == "old"
    first = box("-o", "json", "cp", "-P", "4", "--if-exists", "skip", "f", "box:f").json["copies"][0]
    assert first["moved"] == 150 * MIB
    again = box("-o", "json", "cp", "-P", "4", "--if-exists", "skip", "f", "box:f").json["copies"][0]
    assert again["moved"] == 0
    assert names(box) == ["f"]


def test_each_stream_has_its_connection(ready, box, content):
    """On a way where a connection gets only so much, several are faster than one; both ways."""
    make_big(box.here / "f", content, 192 * MIB)
    spent = {}
    with Wire(int(ready.gateway.target.rpartition(":")[2])) as wire:
        wire.rate(32 * MIB)
        for ends in (("f", "box:f"), ("box:f", "back")):
            for transfers in ("1", "4"):
                began = time.monotonic()
                box("--gateway-endpoint", wire.endpoint, "cp", "-P", transfers, *ends)
                spent[transfers] = time.monotonic() - began
            assert spent["4"] < spent["1"] / 2, f"{ends}: {spent}"
    assert same(box.here / "f", box.here / "back")
