"""When an upload that nobody goes on with is forgotten."""

import time

import grpc
import pytest
from conftest import Ready, fails, wait_until
from openshell._proto import openshell_pb2 as pb
from test_upload_resume import MIB, REQUEST, Uploads, content, goes_on, uploads_durable

SIZE = 6 * MIB
HALF = SIZE // 2
EXPIRY = 2  # seconds


@pytest.fixture
def soon(gateway):
    """In its sandbox uploads expire soon."""
    environment = {"TOWLINE_UPLOAD_EXPIRY": f"{EXPIRY}s"}
    request = pb.CreateSandboxRequest(name="box", spec=pb.SandboxSpec(environment=environment))
    gateway.stub.CreateSandbox(request, timeout=10)
    return Uploads(Ready(gateway, gateway.wait_phase("box", "READY")))


def begin(uploads, path, data, upload_id):
    """Half of an upload, durable."""
    begun = uploads.begin(path, data[:HALF], SIZE, upload_id=upload_id)
    wait_until(lambda: uploads_durable(uploads, upload_id, path) == HALF, 10, "it is durable")
    return begun


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


def sweep(uploads):
    """Another upload to the same directory looks for what has expired."""
    uploads.upload("other", b"x", upload_id="other")
