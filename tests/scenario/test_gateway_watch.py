"""WatchSandbox: what is, then what changes."""

import grpc
import pytest
from conftest import fails
from openshell._proto import openshell_pb2 as pb

PHASES = pb.SandboxPhase


def watch(gateway, timeout=30, **fields):
    return gateway.stub.WatchSandbox(pb.WatchSandboxRequest(**fields), timeout=timeout)


def phases(events):
    return [e.sandbox.status.phase for e in events if e.WhichOneof("payload") == "sandbox"]


def test_snapshot_first_then_each_change(ready):
    stream = watch(ready.gateway, sandbox="box", follow_status=True)
    first = next(stream)
    assert first.sandbox.metadata.id == ready.id
    assert first.sandbox.status.phase == pb.SANDBOX_PHASE_READY
    assert first.cursor
    ready.gateway.stub.StopSandbox(pb.StopSandboxRequest(name="box"), timeout=10)
    seen, versions = [], [first.sandbox.metadata.resource_version]
    for event in stream:
        seen.append(event.sandbox.status.phase)
        versions.append(event.sandbox.metadata.resource_version)
        if seen[-1] == pb.SANDBOX_PHASE_STOPPED:
            break
    assert seen[0] == pb.SANDBOX_PHASE_STOPPING
    assert versions == sorted(versions)
    stream.cancel()


def test_ends_when_ready(gateway):
    gateway.create("box", wait=False)
    events = list(watch(gateway, sandbox="box", follow_status=True, stop_on_terminal=True))
    seen = phases(events)
    assert seen[-1] == pb.SANDBOX_PHASE_READY
    assert seen.count(pb.SANDBOX_PHASE_READY) == 1
    again = list(watch(gateway, sandbox="box", stop_on_terminal=True))
    assert phases(again) == [pb.SANDBOX_PHASE_READY]


def test_ends_when_deleted(ready):
    stream = watch(ready.gateway, sandbox="box", follow_status=True)
    next(stream)
    ready.gateway.stub.DeleteSandbox(pb.DeleteSandboxRequest(name="box"), timeout=20)
    assert phases(list(stream))[-1] == pb.SANDBOX_PHASE_DELETING


def test_events(ready):
    stream = watch(ready.gateway, sandbox="box", follow_events=True, event_tail=100)
    assert next(stream).WhichOneof("payload") == "sandbox"
    tail = {}
    for event in stream:
        assert event.WhichOneof("payload") == "event"
        tail[event.event.reason] = event
        if event.event.reason == "SupervisorConnected":
            break
    assert {"Created", "SupervisorConnected"} <= set(tail)
    created = tail["Created"].event
    assert created.source == "gateway"
    assert created.type == "Normal"
    assert created.event_time.seconds > 0
    ready.gateway.stub.StopSandbox(pb.StopSandboxRequest(name="box"), timeout=10)
    reasons = []
    for event in stream:
        reasons.append(event.event.reason)
        if "Stopped" in reasons:
            break
    assert "StopRequested" in reasons
    stream.cancel()

    # From where another left off: nothing twice, nothing missed.
    cursor = tail["SupervisorConnected"].cursor
    resumed = watch(
        ready.gateway, sandbox="box", follow_events=True, resume_after_cursor=cursor
    )
    next(resumed)
    assert next(resumed).event.reason in reasons
    resumed.cancel()


def test_events_that_are_not_kept(ready):
    stream = watch(
        ready.gateway,
        sandbox="box",
        follow_events=True,
        resume_after_cursor="0000000000000001",
    )
    next(stream)
    assert "missed" in next(stream).warning.message
    stream.cancel()
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "cursor"):
        next(watch(ready.gateway, sandbox="box", resume_after_cursor="x"))
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "cursor"):
        next(watch(ready.gateway, sandbox="box", resume_after_cursor="f" * 16))


def test_logs_are_not_kept(ready):
    stream = watch(ready.gateway, sandbox="box", follow_logs=True)
    next(stream)
    assert "logs" in next(stream).warning.message
    stream.cancel()


def test_bad_requests(gateway):
    with fails(grpc.StatusCode.NOT_FOUND, "none"):
        next(watch(gateway, sandbox="none"))
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        next(watch(gateway, sandbox=""))


def test_watchers_that_leave_and_watchers_that_do_not_read(ready):
    """Neither costs anybody anything: the sandbox goes its way, others are told."""
    gateway = ready.gateway
    stalled = [watch(gateway, sandbox="box", follow_status=True) for _ in range(20)]
    for _ in range(50):
        gone = watch(gateway, sandbox="box", follow_status=True)
        next(gone)
        gone.cancel()
    reader = watch(gateway, sandbox="box", follow_status=True)
    next(reader)
    for _ in range(3):
        gateway.stub.StopSandbox(pb.StopSandboxRequest(name="box"), timeout=10)
        gateway.wait_phase("box", "STOPPED")
        gateway.stub.StartSandbox(pb.StartSandboxRequest(name="box"), timeout=10)
        gateway.wait_phase("box", "READY")
    seen = []
    for event in reader:
        seen.append(event.sandbox.status.phase)
        if seen.count(pb.SANDBOX_PHASE_READY) == 3:
            break
    assert seen.count(pb.SANDBOX_PHASE_STOPPED) == 3
    for stream in [*stalled, reader]:
        stream.cancel()


@pytest.mark.parametrize("loops", [1, 4])
def test_deadline(make_gateway, loops):
    gateway = make_gateway(loops=loops)
    gateway.create("box", wait=False)
    with fails(grpc.StatusCode.DEADLINE_EXCEEDED):
        for _ in watch(gateway, timeout=0.5, sandbox="box", follow_status=True):
            pass
