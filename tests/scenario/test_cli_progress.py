"""How far a transfer is, in each style, and what a second Ctrl-C does."""

import json
import os
import re
import signal
import time

import pytest
from conftest import wait_until
from towline_cli import box  # noqa: F401

MIB = 1 << 20


@pytest.fixture
def slow(box):
    """A command that copies from a pipe which the test feeds."""
    return lambda *words: box.popen(*words, "-", "box:slow")


def feed(process, seconds):
    for _ in range(int(seconds * 10)):
        process.stdin.write(bytes(MIB // 10))
        process.stdin.flush()
        time.sleep(0.1)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    return err.decode()


def test_json(slow):
    lines = feed(slow("cp", "--progress=json"), 2).splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    assert len(events) >= 3 and all(event["event"] == "progress" and event["name"] == "-" for event in events)
    assert [event["bytes"] for event in events] == sorted(event["bytes"] for event in events)
    assert events[-1]["bytes"] > MIB and events[-1]["rate"] > 0


def test_plain(slow):
    lines = feed(slow("cp", "--progress=plain"), 1.5).splitlines()
    assert len(lines) == 3 and all(re.match(r"-  \d+\.\d \w+", line) for line in lines[:2])
    assert "\x1b" not in "".join(lines)


def test_bar_without_a_terminal(slow):
    err = feed(slow("cp", "--progress=bar"), 1.5)
    assert "\r\x1b[K" in err


def test_none(slow):
    assert feed(slow("cp", "--progress=none"), 1.5).count("\n") == 1
    assert feed(slow("-q", "cp"), 1.5) == ""


def test_auto_is_none_in_a_pipe(slow):
    assert feed(slow("cp"), 1.5).count("\n") == 1


def test_a_style_that_is_none(box):
    assert "auto, bar, plain, json and none" in box("cp", "--progress=loud", "f", "box:", code=2).err


def test_percent_and_eta(box):
    with open(box.workdir / "f", "wb") as file:
        for _ in range(700):
            file.write(os.urandom(MIB))
    process = box.popen("cp", "--progress=json", "box:f", "f")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    events = [json.loads(line) for line in err.decode().splitlines() if line.startswith("{")]
    for event in events:  # none, if it was copied within a second
        assert event["total"] == 700 * MIB and 0 <= event["percent"] <= 100 and event["name"] == "f"


def test_names_of_others_are_safe_to_print(box):
    name = "a\x1b[2J\rb"
    (box.workdir / name).write_text("x")
    done = box("cp", f"box:{name}", "box2")
    assert "\x1b" not in done.err and "\\x1b" in done.err
    done = box("cp", f"box:{name}x", "box2", code=1)
    assert "\x1b" not in done.err and "\\x1b" in done.err


def test_a_second_signal_does_not_wait(box):
    with open(box.workdir / "f", "wb") as file:
        for _ in range(300):
            file.write(os.urandom(MIB))
    process = box.popen("cp", "box:f", "f")
    wait_until(lambda: list(box.here.glob(".*towline*")), 20, "it has begun")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode in (130, -signal.SIGINT)
    for path in box.here.glob(".*towline*"):
        path.unlink()
