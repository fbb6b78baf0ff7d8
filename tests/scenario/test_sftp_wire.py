"""Files.Sftp and Scp by their bytes: what no decent client would send, and many at once."""

import os
import queue
import struct
import threading
import time

import grpc
import pytest
import towline_api
from conftest import fails, wait_until

API = towline_api.load()
SFTP, SCP = API["towline.v1.SftpRequest"], API["towline.v1.ScpRequest"]
TALKS_MAX = 128

INIT = struct.pack(">IBI", 5, 1, 3)
OPEN, CLOSE, READ, WRITE = 3, 4, 5, 6
STATUS, HANDLE, DATA = 101, 102, 103


def string(value):
    return struct.pack(">I", len(value)) + value


def packet(kind, number, *parts):
    body = struct.pack(">BI", kind, number) + b"".join(parts)
    return struct.pack(">I", len(body)) + body


class Call:
    """Files.Sftp or Files.Scp; what is sent is cut up as wanted."""

    def __init__(self, ready, method="Sftp", init=None, channel=None):
        self.request = SFTP if method == "Sftp" else SCP
        self.to_send = queue.Queue()
        self.to_send.put(self.request(init=init or {"sandbox": ready.name}))
        channel = channel or ready.gateway.channel()
        call = API.method(channel, "towline.v1.Files/" + method)
        self.call = call(iter(self.to_send.get, None))
        self.buffer = b""

    def send(self, data, piece=None):
        for at in range(0, len(data), piece or len(data)):
            self.to_send.put(self.request(data=data[at : at + (piece or len(data))]))

    def end(self):
        self.to_send.put(None)

    def read(self, n):
        while len(self.buffer) < n:
            self.buffer += next(self.call).data
        result, self.buffer = self.buffer[:n], self.buffer[n:]
        return result

    def answer(self):
        """(type, id, rest)"""
        body = self.read(struct.unpack(">I", self.read(4))[0])
        return body[0], struct.unpack(">I", body[1:5])[0], body[5:]

    def begin(self):
        self.send(INIT)
        assert self.answer()[:2] == (2, 3)
        return self

    def open(self, path, flags=1):
        self.send(packet(OPEN, 1, string(path.encode()), struct.pack(">II", flags, 0)))
        kind, _, rest = self.answer()
        assert kind == HANDLE, rest
        return rest  # with its length


@pytest.mark.parametrize(
    "said",
    [
        b"\0\0\0\0\1",
        b"\xff\xff\xff\xff\1",
        packet(READ, 1),
        INIT + INIT,
        INIT + b"\0\0\0\0\5",
        INIT + b"\0\0\0\3\5\0\0",
    ],
)
def test_what_is_no_sftp_ends_the_call(ready, said):
    call = Call(ready)
    call.send(said)
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "SFTP"):
        while True:
            call.answer()


def test_the_end_is_fine_between_packets_only(ready):
    call = Call(ready).begin()
    call.end()
    assert list(call.call) == []
    call = Call(ready).begin()
    call.send(b"\0\0\0\5\1\0")
    call.end()
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "within a packet"):
        list(call.call)


def test_bytes_one_at_a_time(ready):
    (ready.workdir / "f").write_bytes(b"hello")
    call = Call(ready)
    call.send(INIT + packet(OPEN, 7, string(b"f"), struct.pack(">II", 1, 0)), piece=1)
    assert call.answer()[0] == 2
    kind, number, handle = call.answer()
    assert (kind, number) == (HANDLE, 7)
    call.send(packet(READ, 8, handle, struct.pack(">QI", 1, 100)), piece=1)
    assert call.answer() == (DATA, 8, string(b"ello"))
    call.end()
    assert list(call.call) == []


def test_init_comes_first(ready):
    for method, request in (("Sftp", SFTP), ("Scp", SCP)):
        call = API.method(ready.gateway.channel(), "towline.v1.Files/" + method)
        with fails(grpc.StatusCode.INVALID_ARGUMENT, "init"):
            list(call(iter([request(data=b"x")])))
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "paths"):
        list(Call(ready, "Scp", {"sandbox": ready.name}).call)
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "paths"):
        list(Call(ready, "Scp", {"sandbox": ready.name, "paths": [b"a\0b"]}).call)


def test_answers_that_nobody_reads_stop_the_work(ready):
    """Requests for 400 MiB, of which the windows on the way take a part; others are served."""
    (ready.workdir / "f").write_bytes(bytes(256 << 10))
    call = Call(ready).begin()
    handle = call.open("f")
    pid = ready.supervisor
    before = resident(pid)
    for number in range(1600):
        call.send(packet(READ, number, handle, struct.pack(">QI", 0, 256 << 10)))
    time.sleep(1)
    assert resident(pid) - before < 120 << 20
    other = Call(ready).begin()
    began = time.monotonic()
    other.open("f")
    assert time.monotonic() - began < 2
    for number in range(1600):
        assert call.answer()[:2] == (DATA, number)
    for one in (call, other):
        one.end()
        assert list(one.call) == []


def resident(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_there_is_an_end_to_how_many(ready):
    channel = ready.gateway.channel()
    calls = [Call(ready, channel=channel).begin() for _ in range(TALKS_MAX)]
    with fails(grpc.StatusCode.RESOURCE_EXHAUSTED, str(TALKS_MAX)):
        Call(ready, channel=channel).begin()
    calls[0].end()
    assert list(calls[0].call) == []
    Call(ready, channel=channel).begin().end()
    for call in calls[1:]:
        call.call.cancel()


def test_a_client_that_goes_leaves_nothing(ready):
    """In the middle of everything: its files are closed, its thread ends."""
    before = threads_of(ready.supervisor)
    call = Call(ready).begin()
    handle = call.open("out", 2 | 8)
    call.send(packet(WRITE, 2, handle, struct.pack(">Q", 0), string(bytes(100000)))[:50000])
    scp = Call(ready, "Scp", {"sandbox": ready.name, "sink": True, "paths": [b"in"]})
    scp.send(b"C0644 100000 x\n" + bytes(50000))
    assert scp.read(2) == b"\0\0"
    wait_until(lambda: any(ready.workdir.glob(".in.towline-*")), 5, "a part file is there")
    call.call.cancel()
    scp.call.cancel()
    wait_until(lambda: not any(ready.workdir.glob(".in.towline-*")), 5, "it is gone")
    wait_until(lambda: threads_of(ready.supervisor) == before, 5, "its threads have ended")
    assert not (ready.workdir / "in").exists()


def test_a_client_that_goes_without_having_read(ready):
    """The thread waits for room, and hears that there will be none."""
    (ready.workdir / "f").write_bytes(bytes(256 << 10))
    before = threads_of(ready.supervisor)
    call = Call(ready).begin()
    handle = call.open("f")
    for number in range(800):
        call.send(packet(READ, number, handle, struct.pack(">QI", 0, 256 << 10)))
    time.sleep(0.5)
    call.call.cancel()
    wait_until(lambda: threads_of(ready.supervisor) == before, 5, "its thread has ended")


def test_what_was_asked_before_the_end_is_answered(ready):
    (ready.workdir / "f").write_bytes(bytes(256 << 10))
    call = Call(ready).begin()
    handle = call.open("f")
    for number in range(100):
        call.send(packet(READ, number, handle, struct.pack(">QI", 0, 256 << 10)))
    call.end()
    for number in range(100):
        kind, got, rest = call.answer()
        assert (kind, got, len(rest)) == (DATA, number, 4 + (256 << 10))
    assert list(call.call) == []


def threads_of(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def test_scp_goes_both_ways(ready):
    init = {"sandbox": ready.name, "sink": True, "paths": [b"f"]}
    call = Call(ready, "Scp", init)
    call.send(b"C0600 5 x\nhello\0")
    call.end()
    answers = list(call.call)
    assert b"".join(a.data for a in answers) == b"\0\0\0"
    assert answers[-1].HasField("exit") and answers[-1].exit.exit_code == 0
    assert (ready.workdir / "f").read_bytes() == b"hello"
    call = Call(ready, "Scp", {"sandbox": ready.name, "paths": [b"f", b"missing"]})
    call.send(bytes(3))
    answers = list(call.call)
    said = b"".join(a.data for a in answers)
    assert said.startswith(b"C0600 5 f\nhello\0\1scp: missing: ")
    assert answers[-1].exit.exit_code == 1
    call.end()


def test_threads_do_not_wait_for_one_another(ready):
    """Many small sessions at once, each with answers of its own."""
    failed = []

    def one(number):
        call = Call(ready).begin()
        handle = call.open(f"f{number}", 1 | 2 | 8)
        for turn in range(20):
            data = f"{number} {turn}".encode()
            call.send(packet(WRITE, 5, handle, struct.pack(">Q", 0), string(data)))
            call.send(packet(READ, 6, handle, struct.pack(">QI", 0, len(data))))
            if call.answer()[0] != STATUS or call.answer() != (DATA, 6, string(data)):
                failed.append(number)
        call.end()
        list(call.call)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed and not any(thread.is_alive() for thread in threads)
