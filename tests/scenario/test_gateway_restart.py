"""A gateway that is killed in the middle of something, and started again."""

import shutil
import time

import grpc
import pytest
from conftest import fails, processes_of, wait_until
from openshell._proto import openshell_pb2 as pb


def exec_true(gateway, name="box"):
    request = pb.ExecSandboxRequest(sandbox=name, command=["true"])
    return [e for e in gateway.stub.ExecSandbox(request, timeout=20)][-1].exit.exit_code


def restart(gateway):
    gateway.kill()
    return gateway.start()


def test_ready_ones_come_back(ready):
    gateway = ready.gateway
    supervisors = processes_of(gateway.sandbox_dir(ready.id))
    (ready.workdir / "kept").write_text("still here")
    restart(gateway)
    again = gateway.wait_phase("box", "READY")
    assert again.metadata.id == ready.id
    assert processes_of(gateway.sandbox_dir(ready.id)).keys() == supervisors.keys()
    assert exec_true(gateway) == 0
    assert (ready.workdir / "kept").read_text() == "still here"


def test_calls_meanwhile(ready):
    """UNAVAILABLE until the supervisor is back, then success: nothing in between."""
    gateway = ready.gateway
    restart(gateway)
    codes = set()

    def works():
        try:
            return exec_true(gateway) == 0
        except grpc.RpcError as error:
            codes.add(error.code())
            return False

    wait_until(works, 40, "calls work again")
    assert codes <= {grpc.StatusCode.UNAVAILABLE}


def test_calls_under_way(ready):
    """The client learns; the command it had started ends."""
    gateway = ready.gateway
    request = pb.ExecSandboxRequest(sandbox="box", command=["sleep", "4711"])
    call = gateway.stub.ExecSandbox(request, timeout=60)
    place = gateway.sandbox_dir(ready.id)
    wait_until(
        lambda: any("sleep 4711" in c for c in processes_of(place).values()), 10, "it runs"
    )
    gateway.process.kill()
    began = time.monotonic()
    with fails(grpc.StatusCode.UNAVAILABLE):
        list(call)
    assert time.monotonic() - began < 5
    wait_until(
        lambda: not any("sleep 4711" in c for c in processes_of(place).values()),
        30,
        "the command has ended",
    )
    gateway.kill()


def test_stopped_ones_stay_stopped(ready):
    gateway = ready.gateway
    gateway.stub.StopSandbox(pb.StopSandboxRequest(name="box"), timeout=10)
    gateway.wait_phase("box", "STOPPED")
    restart(gateway)
    assert gateway.phase("box") == "STOPPED"
    assert not processes_of(gateway.sandbox_dir(ready.id))
    gateway.stub.StartSandbox(pb.StartSandboxRequest(name="box"), timeout=10)
    gateway.wait_phase("box", "READY")


# How long after the request the gateway dies, in seconds.
MOMENTS = [0, 0.002, 0.01, 0.05, 0.2]


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_while_creating(gateway, moment):
    made = gateway.create("box", wait=False)
    time.sleep(moment)
    restart(gateway)
    assert gateway.wait_phase("box", "READY").metadata.id == made.metadata.id
    assert exec_true(gateway) == 0
    supervisors = [c for c in processes_of(gateway.data_dir).values() if "--sandbox-id" in c]
    assert supervisors, processes_of(gateway.data_dir)


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_while_stopping(ready, moment):
    gateway = ready.gateway
    gateway.stub.StopSandbox(pb.StopSandboxRequest(name="box"), timeout=10)
    time.sleep(moment)
    restart(gateway)
    gateway.wait_phase("box", "STOPPED")
    assert not processes_of(gateway.sandbox_dir(ready.id))


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_while_starting(ready, moment):
    gateway = ready.gateway
    gateway.stub.StopSandbox(pb.StopSandboxRequest(name="box"), timeout=10)
    gateway.wait_phase("box", "STOPPED")
    gateway.stub.StartSandbox(pb.StartSandboxRequest(name="box"), timeout=10)
    time.sleep(moment)
    restart(gateway)
    gateway.wait_phase("box", "READY")
    assert exec_true(gateway) == 0


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_while_deleting(ready, moment):
    gateway = ready.gateway
    call = gateway.stub.DeleteSandbox.future(pb.DeleteSandboxRequest(name="box"), timeout=20)
    time.sleep(moment)
    gateway.process.kill()
    accepted = call.exception() is None
    restart(gateway)

    def gone():
        try:
            return gateway.phase("box") == "READY" and not accepted
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND
            return True

    wait_until(gone, 30, "it is gone, or the request never came to the gateway")


def test_the_supervisor_dies_too(ready):
    gateway = ready.gateway
    gateway.kill()
    import os
    import signal

    for pid in processes_of(gateway.sandbox_dir(ready.id)):
        os.kill(pid, signal.SIGKILL)
    gateway.start()
    wait_until(lambda: gateway.phase("box") == "ERROR", 10, "it is in ERROR")
    with fails(grpc.StatusCode.UNAVAILABLE, "start"):
        exec_true(gateway)
    gateway.stub.StartSandbox(pb.StartSandboxRequest(name="box"), timeout=10)
    gateway.wait_phase("box", "READY")


def test_many_of_them(gateway):
    names = [f"box{i}" for i in range(5)]
    for name in names:
        gateway.create(name, wait=False)
    for name in names:
        gateway.wait_phase(name, "READY")
    for _ in range(3):
        restart(gateway)
    for name in names:
        gateway.wait_phase(name, "READY")
        assert exec_true(gateway, name) == 0


def test_an_orderly_end_leaves_sandboxes_alone(ready):
    gateway = ready.gateway
    before = processes_of(gateway.sandbox_dir(ready.id)).keys()
    gateway.stop()
    assert processes_of(gateway.sandbox_dir(ready.id)).keys() == before
    gateway.start()
    gateway.wait_phase("box", "READY")


def test_places_that_nobody_knows(ready):
    """The database is taken away: what it described ends, and its files are for a person to judge."""
    gateway = ready.gateway
    place = gateway.sandbox_dir(ready.id)
    (place / "work" / "precious").write_text("kept")
    gateway.kill()
    for path in gateway.data_dir.glob("gateway.db*"):
        path.unlink()
    assert processes_of(place)
    gateway.start()
    wait_until(lambda: not processes_of(place), 20, "its processes are gone")
    assert (place / "work" / "precious").read_text() == "kept"
    shutil.rmtree(place)
