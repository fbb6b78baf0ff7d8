"""When an upload that nobody goes on with is forgotten, and what a clock that is set does to it.

The clock itself is not set: what is compared with it are the times of part files and journals, so
that moving these two days back is what a clock that is set forward two days looks like.
"""

import os
import time

import grpc
import pytest
from conftest import Ready, fails, wait_until
from openshell._proto import openshell_pb2 as pb
from test_upload_resume import MIB, REQUEST, Uploads, content, goes_on, is_busy, uploads_durable

SIZE = 6 * MIB
HALF = SIZE // 2
EXPIRY = 2  # seconds
DAYS = {"forward": 2, "back": -2}


@pytest.fixture
def soon(gateway):
    """In its sandbox uploads expire soon."""
    environment = {"TOWLINE_UPLOAD_EXPIRY": f"{EXPIRY}s"}
    request = pb.CreateSandboxRequest(name="box", spec=pb.SandboxSpec(environment=environment))
    gateway.stub.CreateSandbox(request, timeout=10)
    return Uploads(Ready(gateway, gateway.wait_phase("box", "READY")))


@pytest.fixture
def uploads(ready):
    return Uploads(ready)


def begin(uploads, path, data, upload_id):
    """Half of an upload, durable."""
    begun = uploads.begin(path, data[:HALF], SIZE, upload_id=upload_id)
    wait_until(lambda: uploads_durable(uploads, upload_id, path) == HALF, 10, "it is durable")
    return begun


def rest(uploads, data):
    """Half of an upload to f as "a", that nobody goes on with."""
    begin(uploads, "f", data, "a").cut()
    wait_until(lambda: not is_busy(uploads, data), 10, "it has let go")


def end(begun, data):
    for i in range(HALF, SIZE, MIB):
        begun.requests.put(REQUEST(chunk=data[i : i + MIB]))
    return begun.end()


def left(workdir):
    return sorted(str(p.relative_to(workdir)) for p in workdir.rglob(".*.towline-*"))


def test_it_expires(soon):
    """Below the working directory of itself; one that runs, however slowly, never."""
    workdir = soon.ready.workdir
    data, other = content(SIZE), content(SIZE, 2)
    running = begin(soon, "slow", data, "s")
    kept = left(workdir)
    for path in ("f", "deep/er/f"):
        begin(soon, path, other, "i").cut()
    assert len(left(workdir)) == 6
    wait_until(lambda: left(workdir) == kept, EXPIRY + 10, "those that nobody writes have expired")
    for path in ("f", "deep/er/f"):
        with fails(grpc.StatusCode.NOT_FOUND):
            soon.query("i", path)
    time.sleep(EXPIRY + 2)
    assert soon.durable("s", "slow") == HALF
    end(running, data)
    assert (workdir / "slow").read_bytes() == data
    soon.upload("f", other, upload_id="i")
    assert (workdir / "f").read_bytes() == other and left(workdir) == []


def test_who_goes_on_in_time(soon):
    """Each time bytes are stored it begins anew."""
    data = content(SIZE)
    for sent in range(1, 6):
        begun = soon.begin("f", data[: sent * MIB], SIZE, upload_id="a", offset=uploads_durable(soon, "a"))
        wait_until(lambda: uploads_durable(soon, "a") == sent * MIB, 10, "it is durable")
        begun.cut()
        time.sleep(EXPIRY / 2)
    assert goes_on(soon, data, "a") == 5 * MIB


def test_commands_do_not_see_it(soon):
    from test_exec import run

    code, out, _ = run(soon.ready, "env")
    assert code == 0 and b"TOWLINE" not in out


def set_clock(workdir, days):
    """As seen by the files that are there."""
    for path in workdir.rglob(".*.towline-*"):
        then = path.stat().st_mtime - days * 86400
        os.utime(path, (then, then))


def sweep(uploads):
    """Another upload to the same directory looks for what has expired."""
    uploads.upload("other", b"x", upload_id="other")


@pytest.mark.parametrize("days", DAYS.values(), ids=DAYS)
def test_clock_is_set_while_it_runs(uploads, days):
    """It never matters."""
    data = content(SIZE)
    begun = begin(uploads, "f", data, "a")
    set_clock(uploads.ready.workdir, days)
    sweep(uploads)
    assert uploads.durable("a") == HALF
    end(begun, data)
    assert (uploads.ready.workdir / "f").read_bytes() == data
    assert uploads.query("a").complete
    assert uploads.names() == ["f", "other"]


@pytest.mark.parametrize("days", DAYS.values(), ids=DAYS)
def test_clock_is_set_while_it_rests(uploads, days):
    """Forward, it expires early, and is sent again; never is it mixed with what was there."""
    data = content(SIZE)
    rest(uploads, data)
    set_clock(uploads.ready.workdir, days)
    if days > 0:
        wait_until(lambda: sweep(uploads) or left(uploads.ready.workdir) == [], 10, "it has expired")
        with fails(grpc.StatusCode.NOT_FOUND):
            uploads.query("a")
        with fails(grpc.StatusCode.OUT_OF_RANGE):
            uploads.upload("f", data, upload_id="a", offset=HALF)
        uploads.upload("f", data, upload_id="a")
    else:
        sweep(uploads)
        assert uploads.durable("a") == HALF
        uploads.upload("f", data, upload_id="a", offset=HALF)
    assert (uploads.ready.workdir / "f").read_bytes() == data
    assert uploads.names() == ["f", "other"]


def test_clock_is_set_forward_and_back(uploads):
    """Before anybody has looked it is as if nothing had been."""
    data = content(SIZE)
    rest(uploads, data)
    for days in (2, -2, -2, 2):
        set_clock(uploads.ready.workdir, days)
    sweep(uploads)
    (uploads.ready.workdir / "other").unlink()
    assert goes_on(uploads, data, "a") == HALF
