"""How long the command line waits for a gateway, and what it takes at most: see docs/limits.md.
Where that is long, the program runs under a shim (clock.c), and its clock jumps."""

import concurrent.futures
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import grpc
import h2.config
import h2.connection
import h2.events
import pytest
import towline_api
from conftest import processes_of, wait_until
from openshell._proto import openshell_pb2 as pb
from test_clock_is_set import clock  # noqa: F401
from towline_cli import PROGRAM, Cli

OPENSHELL = "/openshell.v1.OpenShell/"
API = towline_api.load()


class Mute:
    """A gateway that takes calls and answers none; it can still be told to say something."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.calls = 0
        self.lock = threading.Lock()
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            self.socket, _ = self.listener.accept()
            self.h2.initiate_connection()
            self.flush()
            while data := self.socket.recv(1 << 16):
                with self.lock:
                    events = self.h2.receive_data(data)
                    self.flush()
                self.calls += sum(isinstance(event, h2.events.StreamEnded) for event in events)

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def wake(self):
        """Something comes, so that whoever sleeps sees what time it is."""
        with self.lock:
            self.h2.ping(b"what now")
            self.flush()

    def close(self):
        self.listener.close()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


@pytest.mark.parametrize(("words", "code"), [("sandbox list", 1), ("sandbox stop box", 1), ("sandbox ssh box", 255)])
def test_call_that_is_not_answered(clock, tmp_path, words, code):  # noqa: F811
    """30 s for a control call."""
    with contextlib.closing(Mute()) as mute:
        cli = Cli(tmp_path, OPENSHELL_GATEWAY_ENDPOINT=mute.endpoint)
        process = cli.popen("-o", "json", *words.split())
        wait_until(lambda: mute.calls, 10, "it has asked")
        clock.jump(29)
        mute.wake()
        time.sleep(0.2)
        assert process.poll() is None
        clock.jump(2)
        mute.wake()
        _, said = process.communicate(timeout=10)
        assert process.returncode == code
        error = json.loads(said)["error"]
        assert error["code"] == "DEADLINE_EXCEEDED" and "the gateway has not answered" in error["message"]


class Slow:
    """A gateway whose sandbox never goes."""

    def __init__(self):
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
        self.server.add_generic_rpc_handlers((self,))
        self.endpoint = f"http://127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.seen = 0
        self.server.start()

    def service(self, details):
        pack = {"response_serializer": lambda message: message.SerializeToString()}
        if details.method == OPENSHELL + "DeleteSandbox":
            return grpc.unary_unary_rpc_method_handler(self.delete, **pack)
        return grpc.unary_stream_rpc_method_handler(self.watch, **pack)

    def delete(self, request, context):
        return pb.DeleteSandboxResponse(outcome=pb.DELETION_OUTCOME_ACCEPTED)

    def watch(self, request, context):
        sandbox = pb.Sandbox(metadata={"name": "box"}, status={"phase": pb.SANDBOX_PHASE_DELETING})
        while context.is_active():
            yield pb.SandboxStreamEvent(sandbox=sandbox)
            self.seen += 1
            time.sleep(0.05)


def test_sandbox_that_does_not_go(clock, tmp_path):  # noqa: F811
    """120 s."""
    slow = Slow()
    process = Cli(tmp_path, OPENSHELL_GATEWAY_ENDPOINT=slow.endpoint).popen("sandbox", "delete", "box")
    wait_until(lambda: slow.seen, 10, "it watches")
    clock.jump(119)
    time.sleep(0.2)
    assert process.poll() is None
    clock.jump(2)
    _, said = process.communicate(timeout=10)
    slow.server.stop(0).wait()
    assert process.returncode == 1 and b"sandbox box is still DELETING after 120 seconds" in said, said


class Endless:
    """A gateway whose lists have no end."""

    def __init__(self, page):
        self.page = page.SerializeToString()
        self.pages = 0
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
        self.server.add_generic_rpc_handlers((self,))
        self.endpoint = f"http://127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(self.answer)

    def answer(self, request, context):
        self.pages += 1
        return self.page


SANDBOXES = [{"metadata": {"name": f"box-{n}"}} for n in range(5000)]
SESSIONS = [{"session_id": str(n)} for n in range(5000)]


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("sandbox list", pb.ListSandboxesResponse(sandboxes=SANDBOXES, next_page_token="more")),
        ("ssh-session list", API["towline.v1.ListSshSessionsResponse"](sessions=SESSIONS, next_page_token="more")),
    ],
    ids=["sandboxes", "sessions"],
)
def test_list_without_an_end(tmp_path, words, page):
    """100000 entries."""
    gateway = Endless(page)
    said = Cli(tmp_path, OPENSHELL_GATEWAY_ENDPOINT=gateway.endpoint)(*words.split(), code=1)
    gateway.server.stop(0).wait()
    assert said.out == "" and "the gateway's list has more than 100000 entries" in said.err
    assert gateway.pages == 20


@pytest.fixture
def stuck(tmp_path):
    """The program beside a gateway's that never serves, and takes no notice of SIGTERM."""
    folder = tmp_path / "bin"
    folder.mkdir()
    shutil.copy2(PROGRAM, folder / "towline")
    gateway = folder / "towline-gateway"
    gateway.write_text("#!/bin/sh\ntrap '' TERM\necho it is stuck\nexec sleep 1000\n")
    gateway.chmod(0o755)
    yield folder / "towline"
    for pid in processes_of(tmp_path):
        os.kill(pid, signal.SIGKILL)


def test_gateway_that_does_not_serve(clock, stuck, tmp_path):  # noqa: F811
    """30 s; then it is asked to end, and 15 s later made to."""
    cli = Cli(tmp_path)
    process = subprocess.Popen([stuck, "gateway", "start"], env=cli.env, stderr=subprocess.PIPE)
    folder = cli.state / "gateways/local"
    log = folder / "gateway.log"
    wait_until(lambda: log.exists() and log.read_text() == "it is stuck\n", 10, "it runs")

    def jump(seconds):
        clock.jump(seconds)
        (folder / "new").touch()
        (folder / "new").rename(folder / "other")  # something happens in the folder that is watched

    def is_running():
        return [words for words in processes_of(tmp_path).values() if words.startswith("sleep")]

    jump(31)
    time.sleep(0.2)
    assert process.poll() is None and is_running()
    jump(16)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 1 and not is_running()
    assert f"it does not serve after 30 seconds; its log is {log}".encode() in said, said
