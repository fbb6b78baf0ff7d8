"""The clock is set two days back and forward while uploads and downloads are under way.

Gateway, supervisor and client run under a shim (clock.c), so that the time they are told, and the
time that files they write get, is what the test says. Their waits go by another clock, and so does
what an upload's age is measured by: nothing is forgotten early, and nothing kept for ever.
"""

import contextlib
import os
import random
import signal
import struct

import grpc
import pytest
from conftest import Ready, fails, wait_until
from openshell._proto import openshell_pb2 as pb
from shims import Shim, ready_under
from test_exec import run
from test_upload_expiry import begin, end, left, sweep
from test_upload_resume import MIB, Uploads, content, goes_on, is_busy, restart
from towline_cli import Cli
from wires import Wire

SIZE = 6 * MIB
HALF = SIZE // 2
HOUR = 3600
DAY = 24 * HOUR
STEPS = {"forward": [2], "back": [-2], "forward and back": [2, 0], "back and forward": [-2, 0], "wildly": [2, -2, 2, -2]}


class Clock(Shim):
    def __init__(self, folder):
        super().__init__("clock", folder)
        self.wall = self.boot = self.monotonic = 0

    def set(self, days):
        """The wall clock, so many days from the truth."""
        self.wall = days * DAY
        self._tell()

    def pass_(self, hours):
        """Both clocks go on."""
        self.wall += hours * HOUR
        self.boot += hours * HOUR
        self._tell()

    def jump(self, seconds):
        """What a program waits by, too."""
        self.monotonic += seconds
        self.wall += seconds
        self.boot += seconds
        self._tell()

    def _tell(self):
        self.map[:24] = struct.pack("qqq", self.wall, self.boot, self.monotonic)


@pytest.fixture
def clock(tmp_path, monkeypatch):
    clock = Clock(tmp_path)
    for name, value in clock.env.items():  # whatever is started from here
        monkeypatch.setenv(name, value)
    yield clock
    clock.close()


@pytest.fixture
def uploads(clock, make_gateway, stand_in):
    return Uploads(ready_under(clock, make_gateway, stand_in))


def rest(uploads, data):
    """Half of an upload to f as "a", that nobody goes on with."""
    begin(uploads, "f", data, "a").cut()
    wait_until(lambda: not is_busy(uploads, data), 10, "it has let go")


def is_forgotten(uploads):
    """Once somebody has looked for what is old."""
    sweep(uploads)
    (uploads.ready.workdir / "other").unlink()
    return left(uploads.ready.workdir) == []


def test_programs_are_told(uploads, clock):
    """The shim does what it says: in the gateway, and in the supervisor."""
    gateway = uploads.ready.gateway
    clock.set(-2)
    then = gateway.create("then").metadata.created_time.seconds
    clock.set(2)
    now = gateway.create("now").metadata.created_time.seconds
    assert 4 * DAY <= now - then < 4 * DAY + HOUR
    begun = begin(uploads, "f", content(SIZE), "a")
    (journal,) = uploads.ready.workdir.glob("*.journal")
    stamp = journal.stat().st_mtime
    clock.set(0)
    begun.cut()
    plain = uploads.ready.workdir / "plain"
    plain.touch()
    assert DAY < stamp - plain.stat().st_mtime < 3 * DAY


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_while_it_runs(uploads, clock, steps):
    data = content(SIZE)
    begun = begin(uploads, "f", data, "a")
    for days in steps:
        clock.set(days)
        sweep(uploads)
        assert uploads.durable("a") == HALF
    end(begun, data)
    assert (uploads.ready.workdir / "f").read_bytes() == data
    assert uploads.query("a").complete
    assert uploads.names() == ["f", "other"]


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_while_it_rests(uploads, clock, steps):
    """Who looks for what is old finds nothing, whenever it is."""
    data = content(SIZE)
    rest(uploads, data)
    for days in steps:
        clock.set(days)
        assert not is_forgotten(uploads)
        assert uploads.durable("a") == HALF
    assert goes_on(uploads, data, "a") == HALF


@pytest.mark.parametrize("days", [2, -2])
def test_between_two_halves(uploads, clock, days):
    """What was stored by one clock is gone on with by another, after kill -9 of the supervisor too."""
    data = content(SIZE)
    clock.set(days)
    rest(uploads, data)
    clock.set(-days)
    os.kill(uploads.ready.supervisor, signal.SIGKILL)
    restart(uploads.ready)
    assert not is_forgotten(uploads)
    begun = uploads.begin("f", data[: HALF + MIB], SIZE, upload_id="a", offset=HALF)
    wait_until(lambda: uploads.durable("a") == HALF + MIB, 10, "it is durable")
    clock.set(days)
    begun.cut()
    wait_until(lambda: not is_busy(uploads, data), 10, "it has let go")
    assert not is_forgotten(uploads)
    assert goes_on(uploads, data, "a") == HALF + MIB


@pytest.mark.parametrize("days", [0, 2, -2])
def test_it_expires_when_its_time_has_come(uploads, clock, days):
    """After a day, not before, whatever the wall clock says meanwhile."""
    rest(uploads, content(SIZE))
    clock.set(days)
    clock.pass_(hours=23)
    assert not is_forgotten(uploads)
    clock.pass_(hours=2)
    assert is_forgotten(uploads)
    with fails(grpc.StatusCode.NOT_FOUND):
        uploads.query("a")


@pytest.mark.parametrize("days", [2, -2])
def test_the_gateway_goes_on(uploads, clock, days):
    """Its sandbox stays ready, and a restarted one knows it; another can be made and removed."""
    gateway, data = uploads.ready.gateway, content(SIZE)
    begin(uploads, "f", data, "a").cut()
    clock.set(days)
    assert gateway.phase("box") == "READY"
    assert run(uploads.ready, "true")[0] == 0
    gateway.create("another")
    gateway.kill()
    clock.set(-days)
    gateway.start()
    gateway.wait_phase("box", "READY")
    wait_until(lambda: gateway.phase("another") == "READY", 30, "so is the other")
    gateway.stub.DeleteSandbox(pb.DeleteSandboxRequest(name="another"), timeout=30)
    uploads.connect()
    wait_until(lambda: not is_busy(uploads, data), 30, "it has let go")
    assert goes_on(uploads, data, "a") == HALF


@pytest.mark.parametrize("days", [2, -2])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_client_goes_on(uploads, clock, tmp_path, direction, days):
    """towline cp, killed in the middle by one clock and run again by another."""
    ready, size = uploads.ready, 40 * MIB
    data = random.Random(days).randbytes(size)
    cli = Cli(tmp_path)
    source, target = cli.here / "s", ready.workdir / "t"
    words = [source, "box:t"]
    if direction == "down":
        source, target = ready.workdir / "s", cli.here / "t"
        words = ["box:s", target]
    source.write_bytes(data)
    with Wire(int(ready.gateway.target.rpartition(":")[2])) as wire:
        words = ["--gateway-endpoint", wire.endpoint, "-q", "cp", *words]
        wire.hold(size * 2 // 3)
        first = cli.popen(*words)
        assert wire.is_held(60)
        clock.set(days)
        first.kill()
        first.communicate()
        wire.go()
        clock.set(-days)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: cli(*words, code=None).code == 0, 20, "it goes through")
        assert target.read_bytes() == data
        assert max(wire.count()) < size * 4 // 3, "most of what had come is not sent again"
    assert [p.name for p in target.parent.iterdir() if ".towline" in p.name] == []
