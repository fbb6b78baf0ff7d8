"""Wires between programs, which are held and cut at a byte: see wire.c.

    with Wire(port) as wire:
        wire.hold(1000)       # let so many bytes through, either way, and no more
        wire.wait_held(10)    # True when they have gone
        wire.go()
        wire.cut(500)         # reset all connections when so many more have gone
"""

import atexit
import functools
import pathlib
import select
import shutil
import subprocess
import tempfile

import pytest


@functools.cache
def program():
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the wire")
    folder = tempfile.mkdtemp(prefix="towline-wire-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    built = pathlib.Path(folder) / "wire"
    source = pathlib.Path(__file__).with_name("wire.c")
    subprocess.run([compiler, "-O2", "-std=c11", "-D_GNU_SOURCE", "-o", built, source], check=True)
    return built


class Wire:
    def __init__(self, port, delay_ms=0):
        self.process = subprocess.Popen(
            [program(), str(port), str(delay_ms)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self.port = int(self._line())
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.target = f"127.0.0.1:{self.port}"

    def _line(self):
        return self.process.stdout.readline().decode()

    def _order(self, text):
        self.process.stdin.write(text.encode() + b"\n")

    def hold(self, count):
        self._order(f"hold {count}")

    def is_held(self, seconds):
        """Whether it holds by then."""
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return False
        assert self._line() == "held\n"
        return True

    def go(self):
        """A hold that was reached after the last look is forgotten."""
        self._order("go")
        self.count()

    def rate(self, count):
        """Bytes a second that each connection lets through each way; 0: all there are."""
        self._order(f"rate {count}")

    def cut(self, count=0):
        self._order(f"cut {count}")

    def snip(self, number):
        """Resets one connection of those that are there."""
        self._order(f"snip {number}")

    def each(self):
        """Bytes (up, down) of each connection that has come since the last time."""
        self._order("each")
        return [tuple(map(int, pair.split(":"))) for pair in self._line().split()]

    def count(self):
        """Bytes (up, down) since the last count."""
        self._order("count")
        while (line := self._line()) == "held\n":
            pass
        up, down = line.split()
        return int(up), int(down)

    def each(self):
        """Bytes (up, down) of each connection that has come since the last time."""
        self._order("each")
        while (line := self._line()) == "held\n":
            pass
        return [tuple(map(int, one.split(":"))) for one in line.split()]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()
