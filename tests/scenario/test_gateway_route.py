"""Calls that a sandbox answers: who may have them, and what is said when nobody can."""

import contextlib
import os
import signal
import time

import grpc
import pytest
import towline_api
from conftest import fails, processes_of, wait_until
from openshell._proto import datamodel_pb2
from openshell._proto import openshell_pb2 as pb

API = towline_api.load()


def exec_call(gateway, sandbox, **fields):
    request = pb.ExecSandboxRequest(sandbox=sandbox, command=["true"], **fields)
    return list(gateway.stub.ExecSandbox(request, timeout=20))


def interactive(gateway, sandbox):
    start = pb.ExecSandboxRequest(sandbox=sandbox, command=["true"])
    return list(
        gateway.stub.ExecSandboxInteractive(iter([pb.ExecSandboxInput(start=start)]), timeout=20)
    )


def forward(gateway, sandbox):
    init = pb.TcpForwardInit(sandbox=sandbox, tcp=pb.TcpRelayTarget(host="127.0.0.1", port=1))
    return list(gateway.stub.ForwardTcp(iter([pb.TcpForwardFrame(init=init)]), timeout=20))


def upload(gateway, sandbox):
    call = API.method(gateway.channel(), "openshell.v1.OpenShell/UploadFile")
    message = API["openshell.v1.UploadFileRequest"]
    return call(
        iter([message(metadata={"sandbox": sandbox, "remote_path": "a"})]), timeout=20
    )


def download(gateway, sandbox):
    call = API.method(gateway.channel(), "openshell.v1.OpenShell/DownloadFile")
    request = API["openshell.v1.DownloadFileRequest"](sandbox=sandbox, remote_path="none")
    return list(call(request, timeout=20))


CALLS = [exec_call, interactive, forward, upload, download]


@pytest.mark.parametrize("call", CALLS)
def test_unknown(gateway, call):
    with fails(grpc.StatusCode.NOT_FOUND, "none"):
        call(gateway, "none")
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "names no sandbox"):
        call(gateway, "")


@pytest.mark.parametrize("call", CALLS)
def test_stopped(ready, call):
    ready.gateway.stub.StopSandbox(pb.StopSandboxRequest(name="box"), timeout=10)
    ready.gateway.wait_phase("box", "STOPPED")
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "STOPPED"):
        call(ready.gateway, "box")


@pytest.fixture
def silent(make_gateway, stand_in):
    """A gateway whose supervisors start and never connect."""
    return make_gateway(f"--supervisor={stand_in('silent')}")


@pytest.mark.parametrize("call", CALLS)
def test_not_ready(silent, call):
    silent.create("box", wait=False)
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "PROVISIONING"):
        call(silent, "box")
    conditions = {c.type: c for c in silent.get("box").status.conditions}
    assert conditions["SupervisorNotConnected"].status == "True"
    assert conditions["Ready"].reason == "SupervisorNotConnected"


def test_never_ready(silent):
    silent.stop()
    silent.flags.append("--provision-timeout=300ms")
    silent.start()
    silent.create("box", wait=False)
    wait_until(lambda: silent.phase("box") == "ERROR", 5, "it is given up")
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "ERROR"):
        exec_call(silent, "box")


@pytest.mark.parametrize("call", CALLS)
def test_supervisor_killed(ready, call):
    for pid in processes_of(ready.gateway.sandbox_dir(ready.id)):
        os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    for _ in range(20):  # before and after the gateway has noticed
        with fails(grpc.StatusCode.UNAVAILABLE):
            call(ready.gateway, "box")
        time.sleep(0.02)
    assert time.monotonic() - began < 5  # nobody waits for one who will not come back
    wait_until(lambda: ready.gateway.phase("box") == "ERROR", 10, "it is in ERROR")
    with fails(grpc.StatusCode.UNAVAILABLE):
        call(ready.gateway, "box")


def test_supervisor_killed_under_a_call(ready):
    request = pb.ExecSandboxRequest(sandbox="box", command=["sleep", "100"])
    call = ready.gateway.stub.ExecSandbox(request, timeout=60)
    place = ready.gateway.sandbox_dir(ready.id)
    wait_until(lambda: any("sleep 100" in c for c in processes_of(place).values()), 10, "it runs")
    for pid in processes_of(place):
        with contextlib.suppress(ProcessLookupError):  # the first took others along
            os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    with fails(grpc.StatusCode.UNAVAILABLE):
        list(call)
    assert time.monotonic() - began < 30


def test_stopped_under_a_call(ready):
    request = pb.ExecSandboxRequest(sandbox="box", command=["sleep", "100"])
    call = ready.gateway.stub.ExecSandbox(request, timeout=60)
    place = ready.gateway.sandbox_dir(ready.id)
    wait_until(lambda: any("sleep 100" in c for c in processes_of(place).values()), 10, "it runs")
    ready.gateway.stub.StopSandbox(pb.StopSandboxRequest(name="box"), timeout=10)
    with fails(grpc.StatusCode.UNAVAILABLE):
        list(call)


@pytest.mark.parametrize("call", CALLS)
def test_by_id(ready, call):
    """Reaches the supervisor: what it says is about the call, not about the sandbox."""
    try:
        call(ready.gateway, ready.id)
    except grpc.RpcError as error:
        assert "sandbox" not in error.details().lower() or error.code() not in (
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.FAILED_PRECONDITION,
        )


def test_workspaces(ready):
    stub = ready.gateway.stub
    stub.CreateWorkspace(pb.CreateWorkspaceRequest(name="team"), timeout=5)
    team = datamodel_pb2.WorkspaceSelector(workspace="team")
    with fails(grpc.StatusCode.NOT_FOUND, "team"):
        exec_call(ready.gateway, "box", workspace_scope=team)
    init = pb.TcpForwardInit(sandbox="box", workspace="team", tcp=pb.TcpRelayTarget(host="::1"))
    with fails(grpc.StatusCode.NOT_FOUND, "team"):
        list(stub.ForwardTcp(iter([pb.TcpForwardFrame(init=init)]), timeout=5))
    everywhere = datamodel_pb2.WorkspaceSelector(all_workspaces=datamodel_pb2.AllWorkspaces())
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "all_workspaces"):
        exec_call(ready.gateway, "box", workspace_scope=everywhere)


def test_first_message_missing(gateway):
    for call, expected in (
        (gateway.stub.ExecSandboxInteractive, "start"),
        (gateway.stub.ForwardTcp, "init"),
    ):
        with fails(grpc.StatusCode.INVALID_ARGUMENT, expected):
            list(call(iter([]), timeout=5))
    upload_call = API.method(gateway.channel(), "openshell.v1.OpenShell/UploadFile")
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "metadata"):
        upload_call(iter([]), timeout=5)


def test_first_message_of_the_wrong_kind(gateway):
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "start"):
        list(gateway.stub.ExecSandboxInteractive(iter([pb.ExecSandboxInput(stdin=b"x")])))
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "init"):
        list(gateway.stub.ForwardTcp(iter([pb.TcpForwardFrame(data=b"x")])))
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "tcp"):
        init = pb.TcpForwardInit(sandbox="box")
        list(gateway.stub.ForwardTcp(iter([pb.TcpForwardFrame(init=init)])))
    with fails(grpc.StatusCode.NOT_FOUND, "box"):
        init = pb.TcpForwardInit(sandbox="box", ssh=pb.SshRelayTarget())
        list(gateway.stub.ForwardTcp(iter([pb.TcpForwardFrame(init=init)])))
    upload_call = API.method(gateway.channel(), "openshell.v1.OpenShell/UploadFile")
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "metadata"):
        upload_call(iter([API["openshell.v1.UploadFileRequest"](chunk=b"x")]), timeout=5)
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "metadata"):
        upload_call(iter([API["openshell.v1.UploadFileRequest"]()]), timeout=5)


def test_first_message_too_large(gateway):
    raw = gateway.channel().stream_stream("/openshell.v1.OpenShell/ForwardTcp")
    with fails(grpc.StatusCode.RESOURCE_EXHAUSTED):
        list(raw(iter([b"\x12" + b"\xff\xff\x7f" + b"x" * 2_097_151]), timeout=5))


def test_a_large_first_message(ready):
    """Larger than a stream's window, which opens while it is gathered."""
    stdin = os.urandom(3 << 20)
    start = pb.ExecSandboxRequest(sandbox="box", command=["wc", "-c"], stdin=stdin)
    result = list(ready.gateway.stub.ExecSandbox(start, timeout=20))
    output = b"".join(event.stdout.data for event in result)
    assert output.strip() == str(len(stdin)).encode()


def test_clients_that_leave_early(gateway):
    """Before their first message is whole, or before it is there at all."""
    for _ in range(30):
        never = gateway.stub.ForwardTcp(endless(), timeout=20)
        never.cancel()
    assert gateway.stub.Health(pb.HealthRequest(), timeout=5).version


def endless():
    time.sleep(60)
    yield pb.TcpForwardFrame()
