"""What a gateway takes at most, and how long it waits: see docs/limits.md. Where that is long, it
runs under a shim (clock.c), and its clock jumps."""

import contextlib
import ctypes
import os
import re
import signal
import sqlite3
import threading
import time

import grpc
import pytest
import raw_h2
import towline_api
from conftest import fails, processes_of, wait_until
from openshell._proto import openshell_pb2 as pb
from test_clock_is_set import clock  # noqa: F401

OPENSHELL = "/openshell.v1.OpenShell/"
FILES = "/towline.v1.Files/"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
KIB, MIB = 1 << 10, 1 << 20
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
LATE = grpc.StatusCode.DEADLINE_EXCEEDED
API = towline_api.load()


@pytest.fixture
def silent(make_gateway, stand_in):
    """A gateway whose supervisors start and never connect: sandboxes cost little."""
    return make_gateway(f"--supervisor={stand_in('silent')}")


def health(gateway):
    return gateway.stub.Health(pb.HealthRequest(), timeout=10)


# Counts and sizes.


def test_watches(silent):
    """4096 at once, and one more when one has gone."""
    silent.create("box", wait=False)
    message = raw_h2.frame(pb.WatchSandboxRequest(sandbox="box", follow_status=True))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(raw_h2.connect(silent.target)) for _ in range(5)]
        streams = []
        for client in clients[:4]:
            streams += [client.call(OPENSHELL + "WatchSandbox", message, end=True) for _ in range(1024)]
            client.wait(lambda of=client: all(stream.received for stream in of.streams.values()))
        code, details = clients[4].call(OPENSHELL + "WatchSandbox", message, end=True).wait_status()
        assert code == EXHAUSTED and "there are 4096 watches already" in details
        streams[0].reset()

        def is_taken():
            another = clients[4].call(OPENSHELL + "WatchSandbox", message, end=True)
            clients[4].wait(lambda: another.received or another.status)
            return another.received

        wait_until(is_taken, 5, "there is room for another")
    assert health(silent).status == pb.SERVICE_STATUS_HEALTHY


def pages_of(method, request):
    """Each as long as it may be."""
    token = None
    while token != "":
        page = method(request(page_size=1000, page_token=token), timeout=10)
        assert page.ByteSize() <= 3 * MIB + KIB
        yield page
        token = page.next_page_token


def test_answers_of_long_lists(silent):
    """A page of a list ends before its answer has more than 3 MiB, though more were asked for."""
    names = [f"box-{n}" for n in range(10)]
    environment = {f"V{n}": "v" * 1000 for n in range(120)}
    for name in names:
        request = pb.CreateSandboxRequest(name=name, annotations={"note": "n" * (250 * KIB)})
        request.spec.environment.update(environment)
        silent.stub.CreateSandbox(request, timeout=10)
    pages = list(pages_of(silent.stub.ListSandboxes, pb.ListSandboxesRequest))
    assert len(pages) == 2
    assert sorted(sandbox.metadata.name for page in pages for sandbox in page.sandboxes) == names


def test_answers_of_long_lists_of_workspaces(gateway):
    names = [f"w{n:03}" for n in range(160)]
    labels = {f"{n:02}" + "k" * 251: "v" * 63 for n in range(64)}
    for name in names:
        gateway.stub.CreateWorkspace(pb.CreateWorkspaceRequest(name=name, labels=labels), timeout=10)
    pages = list(pages_of(gateway.stub.ListWorkspaces, pb.ListWorkspacesRequest))
    assert len(pages) == 2
    assert [workspace.metadata.name for page in pages for workspace in page.workspaces] == ["default", *names]


def test_length_of_a_question_about_the_api(gateway):
    """4 KiB: what has no end is not waited for."""
    call = gateway.channel().stream_stream(REFLECTION)
    fits = b"\x1a\xfd\x1f" + b"n" * (4096 - 3)  # file_by_filename = 3
    (answer,) = call(iter([fits]), timeout=10)
    assert b"not found" in answer
    with fails(EXHAUSTED):
        list(call(iter([b"\x1a\xfe\x1f" + b"n" * (4097 - 3)]), timeout=10))


def test_answers_about_the_api_that_are_not_read(gateway):
    """Questions wait until answers are read, of which there are more than a call may hold."""
    count, asked = 2000, threading.Event()

    def questions():
        for n in range(count):
            yield b"\x0a\x04%04d\x22\x16openshell.v1.OpenShell" % n  # host, file_containing_symbol
        asked.set()

    answers = gateway.channel().stream_stream(REFLECTION)(questions(), timeout=60)
    assert asked.wait(20)
    time.sleep(0.5)
    size = 0
    for n in range(count):
        answer = next(answers)
        assert answer[:6] == b"\x0a\x04%04d" % n
        size += len(answer)
    assert list(answers) == [] and answers.code() == grpc.StatusCode.OK
    assert size > 80 * MIB


def test_database_that_another_holds(silent):
    """2 s; what cannot be stored has not been done, and Health says so until it can."""
    with contextlib.closing(sqlite3.connect(silent.data_dir / "gateway.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with fails(grpc.StatusCode.INTERNAL, "locked"):
            silent.create("box", wait=False)
        assert health(silent).status == pb.SERVICE_STATUS_DEGRADED
        other.execute("ROLLBACK")
    with fails(grpc.StatusCode.NOT_FOUND):
        silent.get("box")
    silent.create("box", wait=False)
    assert health(silent).status == pb.SERVICE_STATUS_HEALTHY


# Waits.


@pytest.fixture
def under(clock, make_gateway):  # noqa: F811
    """A gateway that the clock is of."""
    return make_gateway(loops=1)


def jump(clock, gateway, seconds):  # noqa: F811
    """It is as late for the gateway; whoever says something wakes it, and hears of it after its timers."""
    clock.jump(seconds)
    health(gateway)
    health(gateway)


def test_stream_whose_first_message_does_not_come(under, clock):  # noqa: F811
    """30 s, even if a part of it does."""
    part = raw_h2.frame(bytes(100))[:50]
    with raw_h2.connect(under.target) as client:
        streams = [client.open(OPENSHELL + "ForwardTcp"), client.call(OPENSHELL + "UploadFile", part)]
        streams += [client.open(FILES + name) for name in ("SyncTree", "Sftp", "Scp")]
        client.idle(0.2)
        jump(clock, under, 29)
        client.idle(0.2)
        assert not any(stream.status for stream in streams)
        jump(clock, under, 2)
        for stream, first in zip(streams, ["init", "metadata", "init", "init", "init"]):
            assert stream.wait_status() == (LATE, f'the first message, "{first}", did not come within 30 s')


def test_call_whose_message_does_not_come(under, clock):  # noqa: F811
    """60 s for one that the gateway answers; 30 s for one that may take as long as it likes, from then on."""
    part = raw_h2.frame(bytes(100))[:50]
    with raw_h2.connect(under.target) as client:
        streams = [client.open(OPENSHELL + name) for name in ("GetSandbox", "DeleteSandbox", "Health")]
        paths = [OPENSHELL + name for name in ("WatchSandbox", "ExecSandbox", "DownloadFile")] + [FILES + "StatFile"]
        others = [client.open(path) for path in paths] + [client.call(paths[0], part)]
        client.idle(0.2)
        jump(clock, under, 29)
        client.idle(0.2)
        assert not any(stream.status for stream in others)
        jump(clock, under, 2)
        for stream, path in zip(others, [*paths, paths[0]]):
            assert stream.wait_status() == (LATE, f"the request message of {path} did not come within 30 s")
        jump(clock, under, 28)
        client.idle(0.2)
        assert not any(stream.status for stream in streams)
        jump(clock, under, 2)
        assert {stream.wait_status()[0] for stream in streams} == {LATE}


def hold(pid):
    """Traces a process of a sandbox: when it is killed, its namespace cannot end before we say so."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(0x4206, pid, None, None) != 0:  # PTRACE_SEIZE
        pytest.skip(f"no process can be traced here: {os.strerror(ctypes.get_errno())}")
    return lambda: os.waitpid(pid, 0x40000000)  # __WALL


def test_deletion_that_takes_long(under, clock):  # noqa: F811
    """After 10 s it is said that it goes on, and so it does."""
    box = under.create("box")
    place = under.sandbox_dir(box.metadata.id)
    os.kill(int((place / "supervisor.pid").read_text().split()[0]), signal.SIGSTOP)  # takes no notice of SIGTERM
    answer = under.stub.DeleteSandbox.future(pb.DeleteSandboxRequest(name="box"), timeout=60)
    wait_until(lambda: under.phase("box") == "DELETING", 5, "it is on its way")
    jump(clock, under, 11)
    assert answer.result().outcome == pb.DELETION_OUTCOME_ACCEPTED
    wait_until(lambda: not place.exists(), 10, "it is gone")
    with fails(grpc.StatusCode.NOT_FOUND):
        under.get("box")


def test_processes_that_do_not_end(under, clock):  # noqa: F811
    """10 s after SIGKILL the driver gives up; it is tried again, and the sandbox says why it is not STOPPED."""
    place = under.sandbox_dir(under.create("box").metadata.id)
    request = pb.ExecSandboxRequest(sandbox="box", command=["sleep", "1000"])
    call = under.stub.ExecSandbox(request, timeout=60)
    (pid,) = wait_until(lambda: [p for p, words in processes_of(place).items() if words == "sleep 1000 "], 10, "it runs")
    release = hold(pid)
    under.stub.StopSandbox(pb.StopSandboxRequest(name="box"), timeout=10)
    jump(clock, under, 6)  # SIGTERM, SIGKILL
    assert under.phase("box") == "STOPPING" and "event=retry" not in under.log()
    jump(clock, under, 11)

    def trouble():
        return [c for c in under.get("box").status.conditions if c.type == "OperationFailed"]

    (condition,) = wait_until(trouble, 5, "it is told")
    assert condition.reason == "DEADLINE_EXCEEDED" and "not even by SIGKILL" in condition.message
    assert under.phase("box") == "STOPPING"

    def waits():
        return [int(ms) for ms in re.findall(r"event=retry .* wait_ms=(\d+) ", under.log())]

    for n in range(2, 11):
        for seconds in (31, 6, 11):
            jump(clock, under, seconds)
        wait_until(lambda n=n: len(waits()) == n, 5, "it has failed again")
    assert waits() == [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]
    release()
    under.wait_phase("box", "STOPPED")
    assert not trouble()
    call.cancel()
