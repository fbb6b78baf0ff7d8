"""Each order in which the two ends of a call can end, with and without data on its way.

The client is HTTP/2 by hand: gRPC's own do not send on when they have seen trailers, and
HTTP/2 allows it.
"""

import os
import socket
import struct

import grpc
import pytest
import raw_h2
from conftest import processes_of, wait_until
from openshell._proto import openshell_pb2 as pb

FORWARD = "/openshell.v1.OpenShell/ForwardTcp"
INTERACTIVE = "/openshell.v1.OpenShell/ExecSandboxInteractive"
MANY = 300_000  # bytes on their way: more than one frame, message or pipe holds


@pytest.fixture
def client(ready):
    with raw_h2.connect(ready.gateway.target) as client:
        yield client


in_flight = pytest.mark.parametrize("size", [0, MANY], ids=["idle", "in_flight"])


class Forward:
    """A forwarded connection, with both of its ends in one hand."""

    def __init__(self, ready, client, size):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(10)
            self.port = listener.getsockname()[1]
            target = pb.TcpRelayTarget(host="127.0.0.1", port=self.port)
            init = pb.TcpForwardInit(sandbox=ready.name, tcp=target)
            self.stream = client.call(FORWARD, raw_h2.frame(pb.TcpForwardFrame(init=init)))
            self.service, _ = listener.accept()
        self.service.settimeout(10)
        self.up, self.down = b"", b""  # what was sent
        self.send(os.urandom(size))
        self.answer(os.urandom(size))

    def send(self, data):
        for at in range(0, len(data), 65536):
            part = pb.TcpForwardFrame(data=data[at : at + 65536])
            self.stream.send(raw_h2.frame(part))
        self.up += data

    def answer(self, data):
        self.service.sendall(data)
        self.down += data

    def service_reads_all(self):
        got = bytearray()
        while data := self.service.recv(1 << 20):
            got += data
        assert bytes(got) == self.up

    def service_resets(self):
        self.service.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.service.close()

    def client_has(self):
        return b"".join(pb.TcpForwardFrame.FromString(m).data for m in self.stream.messages)

    def client_is_told(self, code, words=""):
        got, details = self.stream.wait_status()
        assert got == code and words in details
        if code == grpc.StatusCode.OK:
            assert self.client_has() == self.down


@pytest.fixture
def forward(ready, client):
    made = []

    def make(size):
        made.append(Forward(ready, client, size))
        return made[-1]

    yield make
    for one in made:
        one.service.close()


@in_flight
def test_client_first_then_service(forward, size):
    both = forward(size)
    both.stream.end()
    both.service_reads_all()
    both.answer(b"it was all there")
    both.service.close()
    both.client_is_told(grpc.StatusCode.OK)


@in_flight
def test_service_first_then_client(forward, size):
    both = forward(size)
    both.service.shutdown(socket.SHUT_WR)
    both.client_is_told(grpc.StatusCode.OK)
    both.send(b"and this was still to be said" + bytes(size))
    both.stream.end()
    both.service_reads_all()


@in_flight
def test_both_at_once(forward, size):
    both = forward(size)
    both.service.shutdown(socket.SHUT_WR)
    both.stream.end()
    both.service_reads_all()
    both.client_is_told(grpc.StatusCode.OK)


@in_flight
def test_service_closes_and_the_client_sends_on(forward, size):
    """All that it said arrives; what it does not want is dropped, and stops nobody."""
    both = forward(0)
    both.answer(os.urandom(size))
    both.service.close()
    both.client_is_told(grpc.StatusCode.OK)
    both.send(bytes(3 * MANY))
    both.stream.end()


@in_flight
def test_client_resets(forward, size):
    """The service is told too: an orderly end would make a whole of what is a part."""
    both = forward(size)
    both.stream.reset()
    with pytest.raises(ConnectionResetError):
        both.service_reads_all()


@in_flight
def test_service_resets(forward, size):
    both = forward(size)
    both.service_resets()
    both.client_is_told(grpc.StatusCode.UNAVAILABLE, f"127.0.0.1:{both.port}")
    assert both.down.startswith(both.client_has())


def test_service_resets_while_it_is_written_to(ready, client):
    """The kernel tells of a reset once, be it the reader or the writer that asks first."""
    for _ in range(30):
        both = Forward(ready, client, 0)
        both.answer(b"half of an answer")
        both.send(bytes(50_000))
        both.service_resets()
        both.send(bytes(50_000))
        both.client_is_told(grpc.StatusCode.UNAVAILABLE, "reset")


def test_cancelled_after_the_half_close(forward):
    """What had not arrived yet never will, though the client had ended behind it."""
    both = forward(0)
    part = pb.TcpForwardFrame(data=bytes(60_000))
    both.stream.send_until_stalled(raw_h2.frame(part))
    both.stream.end()
    both.stream.reset()
    with pytest.raises(ConnectionResetError):
        both.service_reads_all()


class Exec:
    """A command, with its client's end in hand."""

    def __init__(self, ready, client, *command, size, **fields):
        start = pb.ExecSandboxRequest(sandbox=ready.name, command=command, **fields)
        first = pb.ExecSandboxInput(start=start)
        self.stream = client.call(INTERACTIVE, raw_h2.frame(first))
        self.ready = ready
        self.given = b""
        if size:
            self.give(os.urandom(size))

    def give(self, data):
        for at in range(0, len(data), 65536):
            part = pb.ExecSandboxInput(stdin=data[at : at + 65536])
            self.stream.send(raw_h2.frame(part))
        self.given += data

    @property
    def events(self):
        return [pb.ExecSandboxEvent.FromString(message) for message in self.stream.messages]

    @property
    def stdout(self):
        return b"".join(event.stdout.data for event in self.events)

    def wait_stdout(self, text):
        self.stream.client.wait(lambda: text in self.stdout)

    def exit_code(self):
        """Of an exit that came once, and last, before the status OK."""
        code, details = self.stream.wait_status()
        assert code == grpc.StatusCode.OK, details
        kinds = [event.WhichOneof("payload") for event in self.events]
        assert kinds.count("exit") == 1 and kinds[-1] == "exit"
        return self.events[-1].exit.exit_code

    def is_gone(self, words):
        processes = processes_of(self.ready.gateway.data_dir).values()
        return not any(words in command for command in processes)


@in_flight
def test_exec_client_first(ready, client, size):
    command = Exec(ready, client, "cat", size=size)
    command.stream.end()
    assert command.exit_code() == 0
    assert command.stdout == command.given


@in_flight
def test_exec_client_last(ready, client, size):
    """The command has said all, and ends when its input does."""
    command = Exec(ready, client, "sh", "-c", "echo said; wc -c", size=size)
    command.wait_stdout(b"said\n")
    command.give(b"more")
    command.stream.end()
    assert command.exit_code() == 0
    assert command.stdout.split() == [b"said", str(size + 4).encode()]


@in_flight
def test_exec_outputs_first(ready, client, size):
    """It closes both outputs, and goes on reading until its input ends."""
    script = "exec >&- 2>&-; wc -c > count; exit 3"
    command = Exec(ready, client, "sh", "-c", script, size=size)
    wait_until(lambda: (ready.workdir / "count").exists(), 10, "the outputs are closed")
    command.give(b"more")
    command.stream.end()
    assert command.exit_code() == 3
    assert (ready.workdir / "count").read_text().split() == [str(size + 4)]


@in_flight
def test_exec_ends_and_the_client_does_not(ready, client, size):
    """Nobody reads the input; all of the output arrives all the same."""
    script = f"sleep 0.1; head -c {size} /dev/zero; exit 4"
    command = Exec(ready, client, "sh", "-c", script, size=size)
    assert command.exit_code() == 4
    assert command.stdout == bytes(size)
    command.give(bytes(size))  # is dropped
    command.stream.end()


@in_flight
@pytest.mark.parametrize("tty", [False, True], ids=["pipes", "terminal"])
def test_exec_client_resets(ready, client, size, tty):
    """Input that was cut is no input that has ended: what would follow it does not."""
    script = "echo up; cat > taken; touch whole; sleep 4712"
    command = Exec(ready, client, "sh", "-c", script, size=0, tty=tty)
    command.wait_stdout(b"up")
    if size:
        command.give(bytes(size))
    command.stream.reset()
    wait_until(lambda: command.is_gone("touch whole"), 10, "the group has ended")
    assert not (ready.workdir / "whole").exists()


@in_flight
def test_exec_killed(ready, client, size):
    script = f"head -c {size} /dev/zero; kill -KILL $$"
    command = Exec(ready, client, "sh", "-c", script, size=size)
    assert command.exit_code() == 128 + 9
    assert command.stdout == bytes(size)
